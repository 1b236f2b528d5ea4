//! The gate, from evidence on an account to pooled logits, one row at a time and without
//! allocation.

use serde::{Deserialize, Serialize};

use crate::relevance::fusion::base_rate::shift_to_shares;
use crate::relevance::maths::probability::softmax;

/// Least Q(k given x).
const LEAST_Q: f64 = 1e-4;
/// Evidence on a teacher: ln Q, m, ln n.
pub const EVIDENCE: usize = 3;
/// Numbers in [`Theta`].
pub const PARAMETERS: usize = 6;

/// The trained numbers of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Theta {
    /// Weight of ln Q(k given x).
    #[serde(rename = "bQ")]
    pub b_q: f64,
    /// Weight of the cross-loss on the histories that look like x.
    #[serde(rename = "bM")]
    pub b_m: f64,
    /// Weight of ln n_k.
    #[serde(rename = "bn")]
    pub b_n: f64,
    /// Logarithm of the sharpening of the pool.
    pub alpha: f64,
    /// Share of the log pool.
    pub gamma: f64,
    /// Weight of the historical class shares against the teachers' mean.
    pub c: f64,
}

impl Theta {
    /// theta0: trained on eight public data sets, rounded. Used as it is where nothing can be trained.
    pub const DEFAULT: Theta = Theta { b_q: 0.30, b_m: 3.2, b_n: 0.45, alpha: 0.14, gamma: 0.35, c: -0.27 };

    pub fn to_array(self) -> [f64; PARAMETERS] {
        [self.b_q, self.b_m, self.b_n, self.alpha, self.gamma, self.c]
    }

    pub fn from_array([b_q, b_m, b_n, alpha, gamma, c]: [f64; PARAMETERS]) -> Self {
        Theta { b_q, b_m, b_n, alpha, gamma, c }
    }
}

/// Evidence on each teacher `[K, 3]` from its support `s` `[K]`, V `[K, K]` and ln n `[K]`.
pub fn evidence(s: &[f64], relative: &[f64], log_rows: &[f64], q: &mut [f64], phi: &mut [f64]) {
    let teachers = s.len();
    q.copy_from_slice(s);
    let norm = softmax(q);
    q.iter_mut().for_each(|q| *q = q.max(LEAST_Q));
    let least = LEAST_Q.ln();
    for (k, phi) in phi.chunks_exact_mut(EVIDENCE).enumerate() {
        let row = &relative[k * teachers..(k + 1) * teachers];
        phi[0] = (s[k] - norm).max(least);
        phi[1] = -q.iter().zip(row).map(|(q, v)| q * v).sum::<f64>();
        phi[2] = log_rows[k];
    }
}

/// What the gate makes of a row.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Weights `[K]`.
    pub weights: Vec<f64>,
    /// sum_k w_k p_k `[C]`.
    pub linear: Vec<f64>,
    /// Its logarithm `[C]`.
    pub ln_linear: Vec<f64>,
    /// sum_k w_k ln p_k `[C]`.
    pub log: Vec<f64>,
    /// (1 - gamma) ln linear + gamma log `[C]`.
    pub pooled: Vec<f64>,
    /// e^alpha pooled + c d `[C]`: logits up to a constant.
    pub z: Vec<f64>,
}

impl Parts {
    pub fn new(teachers: usize, classes: usize) -> Self {
        let row = || vec![0.0; classes];
        Parts {
            weights: vec![0.0; teachers],
            linear: row(),
            ln_linear: row(),
            log: row(),
            pooled: row(),
            z: row(),
        }
    }

    /// Pools calibrated scores `p` `[K, C]` with their logarithms, given evidence `phi` `[K, 3]` and `d`
    /// `[C]`, the share term.
    pub fn fill(&mut self, theta: &Theta, p: &[f64], ln_p: &[f64], phi: &[f64], d: &[f64]) {
        for (w, phi) in self.weights.iter_mut().zip(phi.chunks_exact(EVIDENCE)) {
            *w = theta.b_q * phi[0] + theta.b_m * phi[1] + theta.b_n * phi[2];
        }
        softmax(&mut self.weights);
        mix(&self.weights, p, &mut self.linear);
        mix(&self.weights, ln_p, &mut self.log);
        let sharp = theta.alpha.exp();
        for (c, d) in d.iter().enumerate() {
            self.ln_linear[c] = self.linear[c].ln();
            self.pooled[c] = (1.0 - theta.gamma) * self.ln_linear[c] + theta.gamma * self.log[c];
            self.z[c] = sharp * self.pooled[c] + theta.c * d;
        }
    }
}

/// sum_k w_k v_k for `v` `[K, C]`.
pub fn mix(weights: &[f64], v: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (w, row) in weights.iter().zip(v.chunks_exact(out.len())) {
        out.iter_mut().zip(row).for_each(|(o, v)| *o += w * v);
    }
}

/// Rows on which the gate is judged: a pseudo-target as the other teachers see it.
#[derive(Debug, Clone)]
pub struct Task {
    pub teachers: usize,
    pub classes: usize,
    pub labels: Vec<u16>,
    /// Calibrated scores `[n, K, C]` and their logarithms.
    pub p: Vec<f64>,
    pub ln_p: Vec<f64>,
    /// Evidence `[n, K, 3]`.
    pub phi: Vec<f64>,
    /// The share term `[C]`.
    pub d: Vec<f64>,
    /// Log-loss of the mean of the own-calibrated teachers: what the task's loss is measured in.
    pub uniform: f64,
    /// Class shares `[C]` that the gate is supposed to know: its logits are then moved to them before they
    /// are judged.
    pub shares: Option<Vec<f64>>,
}

impl Task {
    /// Mean cross-entropy under `theta`, and its gradient: d(sum w p)/db = sum_k w_k (p_k - mean) phi_k, the
    /// same with logarithms.
    ///
    /// Known shares add the constants that lead to them. Those minimise mean ln sum exp(z + b) - shares b, so
    /// the gradient passes them by.
    pub fn loss(&self, theta: &Theta) -> (f64, [f64; PARAMETERS]) {
        let mut parts = Parts::new(self.teachers, self.classes);
        let constants = self.constants(theta, &mut parts);
        let mut residual = vec![0.0; self.classes];
        let (mut loss, mut gradient) = (0.0, [0.0; PARAMETERS]);
        for (i, &y) in self.labels.iter().enumerate() {
            let (p, ln_p, phi) = self.row(i);
            parts.fill(theta, p, ln_p, phi, &self.d);
            residual.iter_mut().zip(&parts.z).zip(&constants).for_each(|((r, z), b)| *r = z + b);
            loss += softmax(&mut residual) - parts.z[usize::from(y)];
            residual[usize::from(y)] -= 1.0;
            self.add_gradient(theta, &parts, &residual, i, &mut gradient);
        }
        let n = self.labels.len() as f64;
        let known: f64 = self.shares.iter().flatten().zip(&constants).map(|(s, b)| s * b).sum();
        (loss / n - known, gradient.map(|g| g / n))
    }

    /// Calibrated scores, their logarithms and the evidence of row `i`.
    fn row(&self, i: usize) -> (&[f64], &[f64], &[f64]) {
        let (stack, seen) = (self.teachers * self.classes, self.teachers * EVIDENCE);
        (
            &self.p[i * stack..(i + 1) * stack],
            &self.ln_p[i * stack..(i + 1) * stack],
            &self.phi[i * seen..(i + 1) * seen],
        )
    }

    fn constants(&self, theta: &Theta, parts: &mut Parts) -> Vec<f64> {
        let Some(shares) = &self.shares else { return vec![0.0; self.classes] };
        let mut z = Vec::with_capacity(self.labels.len() * self.classes);
        for i in 0..self.labels.len() {
            let (p, ln_p, phi) = self.row(i);
            parts.fill(theta, p, ln_p, phi, &self.d);
            z.extend(&parts.z);
        }
        shift_to_shares(&z, shares)
    }

    fn add_gradient(
        &self,
        theta: &Theta,
        parts: &Parts,
        residual: &[f64],
        i: usize,
        gradient: &mut [f64; PARAMETERS],
    ) {
        let (p, ln_p, phi) = self.row(i);
        let sharp = theta.alpha.exp();
        let c = self.classes;
        for k in 0..self.teachers {
            let mut slope = 0.0;
            for (e, residual) in residual.iter().enumerate() {
                let linear = (p[k * c + e] - parts.linear[e]) / parts.linear[e];
                let log = ln_p[k * c + e] - parts.log[e];
                slope += residual * ((1.0 - theta.gamma) * linear + theta.gamma * log);
            }
            let by_weight = sharp * parts.weights[k] * slope;
            (0..EVIDENCE).for_each(|f| gradient[f] += by_weight * phi[k * EVIDENCE + f]);
        }
        for (e, residual) in residual.iter().enumerate() {
            gradient[3] += residual * sharp * parts.pooled[e];
            gradient[4] += residual * sharp * (parts.log[e] - parts.ln_linear[e]);
            gradient[5] += residual * self.d[e];
        }
    }
}
