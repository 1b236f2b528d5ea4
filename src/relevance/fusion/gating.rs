//! The gate, from evidence on an account to pooled logits, a row or several at a time and without allocation.

use serde::{Deserialize, Serialize};

use crate::models::trees::simd::vectorised;
use crate::relevance::fusion::base_rate::shift_to_shares;
use crate::relevance::maths::probability::softmax;
use crate::relevance::maths::real::{LANES, Lanes, Real, exp, ln, scatter};

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
#[inline(always)]
pub fn evidence<R: Real>(s: &[R], relative: &[f64], log_rows: &[f64], q: &mut [R], phi: &mut [R]) {
    let teachers = s.len();
    q.copy_from_slice(s);
    let norm = softmax(q);
    q.iter_mut().for_each(|q| *q = q.at_least(R::splat(LEAST_Q)));
    let least = R::splat(ln(LEAST_Q));
    for (k, phi) in phi.chunks_exact_mut(EVIDENCE).enumerate() {
        let row = &relative[k * teachers..(k + 1) * teachers];
        phi[0] = (s[k] - norm).at_least(least);
        phi[1] = -q.iter().zip(row).fold(R::default(), |sum, (q, v)| sum + *q * *v);
        phi[2] = R::splat(log_rows[k]);
    }
}

/// What the gate makes of a row, or of several.
#[derive(Debug, Clone)]
pub struct Parts<R = f64> {
    /// Weights `[K]`.
    pub weights: Vec<R>,
    /// sum_k w_k p_k `[C]`.
    pub linear: Vec<R>,
    /// Its logarithm `[C]`.
    pub ln_linear: Vec<R>,
    /// sum_k w_k ln p_k `[C]`.
    pub log: Vec<R>,
    /// (1 - gamma) ln linear + gamma log `[C]`.
    pub pooled: Vec<R>,
    /// e^alpha pooled + c d `[C]`: logits up to a constant.
    pub z: Vec<R>,
}

impl<R: Real> Parts<R> {
    pub fn new(teachers: usize, classes: usize) -> Self {
        let row = || vec![R::default(); classes];
        Parts {
            weights: vec![R::default(); teachers],
            linear: row(),
            ln_linear: row(),
            log: row(),
            pooled: row(),
            z: row(),
        }
    }

    /// Pools calibrated scores `p` `[K, C]` with their logarithms, given evidence `phi` `[K, 3]` and `d`
    /// `[C]`, the share term.
    #[inline(always)]
    pub fn fill(&mut self, theta: &Theta, p: &[R], ln_p: &[R], phi: &[R], d: &[f64]) {
        for (w, phi) in self.weights.iter_mut().zip(phi.chunks_exact(EVIDENCE)) {
            *w = phi[0] * theta.b_q + phi[1] * theta.b_m + phi[2] * theta.b_n;
        }
        softmax(&mut self.weights);
        mix(&self.weights, p, &mut self.linear);
        mix(&self.weights, ln_p, &mut self.log);
        let sharp = exp(theta.alpha);
        for (c, d) in d.iter().enumerate() {
            self.ln_linear[c] = self.linear[c].ln();
            self.pooled[c] = self.ln_linear[c] * (1.0 - theta.gamma) + self.log[c] * theta.gamma;
            self.z[c] = self.pooled[c] * sharp + theta.c * d;
        }
    }
}

/// sum_k w_k v_k for `v` `[K, C]`.
#[inline(always)]
pub fn mix<R: Real>(weights: &[R], v: &[R], out: &mut [R]) {
    out.fill(R::default());
    for (w, row) in weights.iter().zip(v.chunks_exact(out.len())) {
        out.iter_mut().zip(row).for_each(|(o, v)| *o = *o + *w * *v);
    }
}

/// Rows on which the gate is judged: a pseudo-target as the other teachers see it. The rows stand side by side,
/// eight at a time; beyond the last one they are filled up.
#[derive(Debug, Clone)]
pub struct Task {
    pub teachers: usize,
    pub classes: usize,
    pub labels: Vec<u16>,
    /// Calibrated scores `[n / 8, K, C]` and their logarithms.
    pub p: Vec<Lanes>,
    pub ln_p: Vec<Lanes>,
    /// Evidence `[n / 8, K, 3]`.
    pub phi: Vec<Lanes>,
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
        let mut residual = vec![Lanes::default(); self.classes];
        let (mut loss, mut gradient) = (0.0, [Lanes::default(); PARAMETERS]);
        for (block, labels) in self.labels.chunks(LANES).enumerate() {
            self.fill(theta, block, &mut parts);
            residual.iter_mut().zip(&parts.z).zip(&constants).for_each(|((r, z), b)| *r = *z + *b);
            let norm = softmax(&mut residual);
            for (i, &y) in labels.iter().enumerate() {
                loss += norm.0[i] - parts.z[usize::from(y)].0[i];
                residual[usize::from(y)].0[i] -= 1.0;
            }
            residual.iter_mut().for_each(|r| r.0[labels.len()..].fill(0.0));
            vectorised(
                #[inline(always)]
                || self.add_gradient(theta, &parts, &residual, block, &mut gradient),
            );
        }
        let n = self.labels.len() as f64;
        let known: f64 = self.shares.iter().flatten().zip(&constants).map(|(s, b)| s * b).sum();
        (loss / n - known, gradient.map(|g| g.rows().iter().sum::<f64>() / n))
    }

    /// Pools the rows of a block.
    fn fill(&self, theta: &Theta, block: usize, parts: &mut Parts<Lanes>) {
        let (p, ln_p, phi) = self.block(block);
        vectorised(
            #[inline(always)]
            || parts.fill(theta, p, ln_p, phi, &self.d),
        );
    }

    /// Calibrated scores, their logarithms and the evidence of eight rows.
    #[inline(always)]
    fn block(&self, block: usize) -> (&[Lanes], &[Lanes], &[Lanes]) {
        let (stack, seen) = (self.teachers * self.classes, self.teachers * EVIDENCE);
        (
            &self.p[block * stack..(block + 1) * stack],
            &self.ln_p[block * stack..(block + 1) * stack],
            &self.phi[block * seen..(block + 1) * seen],
        )
    }

    fn constants(&self, theta: &Theta, parts: &mut Parts<Lanes>) -> Vec<f64> {
        let Some(shares) = &self.shares else { return vec![0.0; self.classes] };
        let mut z = vec![0.0; self.labels.len() * self.classes];
        for (block, rows) in z.chunks_mut(LANES * self.classes).enumerate() {
            self.fill(theta, block, parts);
            scatter(&parts.z, rows);
        }
        shift_to_shares(&z, shares)
    }

    #[inline(always)]
    fn add_gradient(
        &self,
        theta: &Theta,
        parts: &Parts<Lanes>,
        residual: &[Lanes],
        block: usize,
        gradient: &mut [Lanes; PARAMETERS],
    ) {
        let (p, ln_p, phi) = self.block(block);
        let sharp = exp(theta.alpha);
        let c = self.classes;
        for k in 0..self.teachers {
            let mut slope = Lanes::default();
            for (e, residual) in residual.iter().enumerate() {
                let linear = (p[k * c + e] - parts.linear[e]) / parts.linear[e];
                let log = ln_p[k * c + e] - parts.log[e];
                slope = slope + *residual * (linear * (1.0 - theta.gamma) + log * theta.gamma);
            }
            let by_weight = parts.weights[k] * sharp * slope;
            (0..EVIDENCE).for_each(|f| gradient[f] = gradient[f] + by_weight * phi[k * EVIDENCE + f]);
        }
        for (e, residual) in residual.iter().enumerate() {
            gradient[3] = gradient[3] + *residual * sharp * parts.pooled[e];
            gradient[4] = gradient[4] + *residual * sharp * (parts.log[e] - parts.ln_linear[e]);
            gradient[5] = gradient[5] + *residual * self.d[e];
        }
    }
}
