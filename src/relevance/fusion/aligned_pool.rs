//! Teachers at one level of class shares, pooled: what a soft label is made of where they are aligned.

use serde::{Deserialize, Serialize};

use crate::relevance::fusion::gating::Theta;
use crate::relevance::maths::probability::{CALIBRATED_FLOOR, floor, logits, softmax};
use crate::relevance::maths::real::{Real, ln};

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
#[inline(always)]
pub fn align<R: Real>(constants: &[f64], p: &mut [R], ln_p: &mut [R]) {
    ln_p.iter_mut().zip(constants).for_each(|(z, b)| *z = *z + *b);
    floored_softmax(p, ln_p);
}

/// Logits `ln_p` `[C]` to probabilities of at least the floor `p` `[C]`, and their logarithms in place.
#[inline(always)]
pub fn floored_softmax<R: Real>(p: &mut [R], ln_p: &mut [R]) {
    p.copy_from_slice(ln_p);
    let norm = softmax(p);
    let sum = floor(p, CALIBRATED_FLOOR);
    let (least, floored) = (R::splat(ln(CALIBRATED_FLOOR)), sum.ln());
    ln_p.iter_mut().for_each(|z| *z = (*z - norm).at_least(least) - floored);
}

/// Pools a row's raw scores `[K, C]`, aligned by `constants`: half sum_k ln p_k / K + half ln sum_k u_k p_k
/// into `plain` `[C]`, sum_k u_k p_k into `js` `[C]`.
///
/// `raw` is used up and `spare` `[C]` is room.
#[inline(always)]
pub fn plain_pool<R: Real>(
    constants: &[f64],
    js_weights: &[f64],
    raw: &mut [R],
    plain: &mut [R],
    js: &mut [R],
    spare: &mut [R],
) {
    let classes = plain.len();
    let even = 0.5 / js_weights.len() as f64;
    plain.fill(R::default());
    js.fill(R::default());
    for ((z, b), u) in raw.chunks_exact_mut(classes).zip(constants.chunks_exact(classes)).zip(js_weights) {
        logits(z, 1.0, b);
        spare.copy_from_slice(z);
        let norm = softmax(spare);
        for c in 0..classes {
            plain[c] = plain[c] + (z[c] - norm) * even;
            js[c] = js[c] + spare[c] * *u;
        }
    }
    plain.iter_mut().zip(js.iter()).for_each(|(plain, js)| *plain = *plain + js.ln() * 0.5);
}
