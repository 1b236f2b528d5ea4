//! Calibration of a teacher on its own held-out rows (Platt 1999), and the transfer temperature: how far its
//! scores can be believed on other scenarios.

use serde::{Deserialize, Serialize};

use crate::models::trees::simd::vectorised;
use crate::relevance::maths::newton::{Local, minimize};
use crate::relevance::maths::probability::{floor, logits, softmax, steep_floor};
use crate::relevance::maths::real::{LANES, Lanes, Real, gather, scatter};

const TOLERANCE: f64 = 1e-12;

/// softmax(slope ln p + bias): for two classes Platt's a z + b.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    pub slope: f64,
    /// `[C]`
    pub bias: Vec<f64>,
}

impl Calibration {
    /// Leaves scores as they are.
    pub fn identity(classes: usize) -> Self {
        Calibration { slope: 1.0, bias: vec![0.0; classes] }
    }

    /// Turns raw scores `[n, C]` into the logarithms of own-calibrated ones, in place.
    pub fn apply_ln(&self, raw: &mut [f64]) {
        let (least, classes) = (steep_floor(), self.bias.len());
        let (mut z, mut p) = (vec![Lanes::splat(1.0); classes], vec![Lanes::default(); classes]);
        for rows in raw.chunks_mut(LANES * classes) {
            gather(rows, &mut z);
            vectorised(
                #[inline(always)]
                || {
                    floor(&mut z, least);
                    logits(&mut z, self.slope, &self.bias);
                    p.copy_from_slice(&z);
                    let total = softmax(&mut p);
                    z.iter_mut().for_each(|z| *z = *z - total);
                },
            );
            scatter(&z, rows);
        }
    }
}

/// Own calibration from raw scores `[n, C]` and labels of rows that did not train the model.
///
/// Minimises the sum of cross-entropies + 5/2 (ln a)^2 + sum_c b_c^2 with ln a in [-2.5, 1]: for two classes
/// a ridge of 5 pseudo-rows on ln a and 1 on the bias.
pub fn own_calibration(raw: &[f64], labels: &[u16], classes: usize) -> Calibration {
    let least = steep_floor();
    let mut z = raw.to_vec();
    for row in z.chunks_exact_mut(classes) {
        floor(row, least);
        row.iter_mut().for_each(|p| *p = p.ln());
    }
    let mut bounds = vec![(f64::NEG_INFINITY, f64::INFINITY); classes + 1];
    bounds[0] = (-2.5, 1.0);
    let found =
        minimize(|v| own_objective(v, &z, labels, classes), &vec![0.0; classes + 1], &bounds, TOLERANCE).at;
    Calibration { slope: found[0].exp(), bias: found[1..].to_vec() }
}

fn own_objective(v: &[f64], z: &[f64], labels: &[u16], classes: usize) -> Local {
    let (d, a) = (classes + 1, v[0].exp());
    let mut out = Local::zero(d);
    let mut p = vec![0.0; classes];
    for (row, &y) in z.chunks_exact(classes).zip(labels) {
        let y = usize::from(y);
        p.iter_mut().zip(row).zip(&v[1..]).for_each(|((p, z), b)| *p = a * z + b);
        let logit = p[y];
        out.value += softmax(&mut p) - logit;
        let mean: f64 = p.iter().zip(row).map(|(p, z)| p * a * z).sum();
        out.gradient[0] += mean - a * row[y];
        out.hessian[0] +=
            mean - a * row[y] + p.iter().zip(row).map(|(p, z)| p * (a * z - mean) * (a * z)).sum::<f64>();
        for c in 0..classes {
            out.gradient[c + 1] += p[c] - f64::from(u8::from(c == y));
            let mixed = p[c] * (a * row[c] - mean);
            out.hessian[c + 1] += mixed;
            out.hessian[(c + 1) * d] += mixed;
            for e in 0..classes {
                out.hessian[(c + 1) * d + e + 1] += p[c] * (f64::from(u8::from(c == e)) - p[e]);
            }
        }
    }
    out.ridge(0, 5.0, v[0]);
    (1..d).for_each(|i| out.ridge(i, 2.0, v[i]));
    out.scale_down(labels.len() as f64);
    out
}

/// Rows of one history that help to find a foreign slope.
#[derive(Debug, Clone)]
pub struct Part {
    /// ln of own-calibrated scores `[n, C]`.
    pub ln_own: Vec<f64>,
    pub labels: Vec<u16>,
    /// Weight of each row.
    pub weight: f64,
}

/// Foreign slope f of softmax(f ln p_own), in [.1, 2]: the sum of weighted cross-entropies + 10 (f - 1)^2; 1
/// without rows.
pub fn foreign_slope(parts: &[Part], classes: usize) -> f64 {
    let total: f64 = parts.iter().map(|p| p.weight * p.labels.len() as f64).sum();
    if total == 0.0 {
        return 1.0;
    }
    let mut p = vec![0.0; classes];
    let objective = |v: &[f64]| {
        let mut out = Local::zero(1);
        for part in parts {
            for (row, &y) in part.ln_own.chunks_exact(classes).zip(&part.labels) {
                let z_y = row[usize::from(y)];
                p.iter_mut().zip(row).for_each(|(p, z)| *p = v[0] * z);
                out.value += part.weight * (softmax(&mut p) - v[0] * z_y);
                let mean: f64 = p.iter().zip(row).map(|(p, z)| p * z).sum();
                out.gradient[0] += part.weight * (mean - z_y);
                out.hessian[0] +=
                    part.weight * p.iter().zip(row).map(|(p, z)| p * (z - mean) * (z - mean)).sum::<f64>();
            }
        }
        out.ridge(0, 20.0, v[0] - 1.0);
        out.scale_down(total);
        out
    };
    minimize(objective, &[1.0], &[(0.1, 2.0)], TOLERANCE).at[0]
}
