//! Teachers at one level of class shares, pooled: what a soft label is made of where they are aligned.

use serde::{Deserialize, Serialize};

use crate::relevance::fusion::gating::Theta;
use crate::relevance::maths::probability::{CALIBRATED_FLOOR, floor, softmax};

/// The constants that align the teachers, and what else changes where they are aligned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alignment {
    /// For raw and for calibrated scores `[K, C]`.
    pub raw: Vec<f64>,
    pub calibrated: Vec<f64>,
    /// Brings the pool itself to the level `[C]`.
    pub level: Vec<f64>,
    pub theta: Theta,
    pub gate_share: f64,
    /// Share of 1/JS alone, taken from everything else: 0 unless the rehearsal has shown that it is worth it.
    pub tilt: f64,
}

/// Adds constants to the logarithms of calibrated probabilities of a row `[C]` and floors them again; both
/// forms in place.
pub fn align(constants: &[f64], p: &mut [f64], ln_p: &mut [f64]) {
    ln_p.iter_mut().zip(constants).for_each(|(z, b)| *z += b);
    p.copy_from_slice(ln_p);
    let norm = softmax(p);
    let sum = floor(p, CALIBRATED_FLOOR);
    let (least, floored) = (CALIBRATED_FLOOR.ln(), if sum > 1.0 + 1e-12 { sum.ln() } else { 0.0 });
    ln_p.iter_mut().for_each(|z| *z = (*z - norm).max(least) - floored);
}

/// Pools a row's raw scores `[K, C]`, aligned by `constants`: half sum_k ln p_k / K + half ln sum_k u_k p_k
/// into `plain` `[C]`, sum_k u_k p_k into `js` `[C]`.
///
/// `raw` is used up and `spare` `[C]` is room.
pub fn plain_pool(
    constants: &[f64],
    js_weights: &[f64],
    raw: &mut [f64],
    plain: &mut [f64],
    js: &mut [f64],
    spare: &mut [f64],
) {
    let classes = plain.len();
    let even = 0.5 / js_weights.len() as f64;
    plain.fill(0.0);
    js.fill(0.0);
    for ((z, b), u) in raw.chunks_exact_mut(classes).zip(constants.chunks_exact(classes)).zip(js_weights) {
        let first = z[0];
        for (z, b) in z.iter_mut().zip(b) {
            // Only differences of logits count, so one logarithm is spared.
            *z = if *z == first { *b } else { (*z / first).ln() + b };
        }
        spare.copy_from_slice(z);
        let norm = softmax(spare);
        for c in 0..classes {
            plain[c] += even * (z[c] - norm);
            js[c] += u * spare[c];
        }
    }
    plain.iter_mut().zip(js.iter()).for_each(|(plain, js)| *plain += 0.5 * js.ln());
}
