//! Beyond the reference: teachers are moved to one level of class shares before they are pooled.
//!
//! Each teacher carries the base rate of its own scenario. Pooled as they come, their levels blur the pool and pull the weights; so each gets one constant a class
//! that brings its mean over the target to a common level: the known class shares, or else the mean of the reference label. What remains is what they say
//! about one account against another, and there the gate and a plain logarithmic pool can be trusted further. `EXPERIMENTS.md` has the measurements.
//!
//! The constants come from a [`Sample`] of the target that depends on the accounts alone, not on their order.

use super::base_rate::shift_to_shares;
use super::fuse::{Fused, Fuser};
use super::gate::Theta;
use super::simplex::{CALIBRATED_FLOOR, floor, softmax};
use super::sum::ExactMeans;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows of the target that fix the constants; all of them where there are fewer.
pub const MOST_ROWS: usize = 65_536;

/// The gate's share where teachers are aligned, and the gate was trained or not.
pub fn aligned_gate_share(trained: bool) -> f64 {
    if trained { 0.6 } else { 0.4 }
}

/// Rows of the target with the smallest keys, whatever the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Key, raw scores `[K, C]` and support `[K]` of a row.
    rows: Vec<(u64, Vec<f64>, Vec<f64>)>,
    /// Rows with a larger key are not wanted any more.
    largest: Option<u64>,
}

impl Sample {
    /// Offers a row; `key` is [`super::simplex::hash`] of the account's id.
    pub fn add(&mut self, key: u64, raw: &[f64], s: &[f64]) {
        if self.largest.is_none_or(|largest| key <= largest) {
            self.rows.push((key, raw.to_vec(), s.to_vec()));
            if self.rows.len() >= 2 * MOST_ROWS {
                self.prune();
            }
        }
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: Sample) {
        self.rows.extend(other.rows);
        self.prune();
    }

    /// Rows by key, ties by what they hold, and no more than are wanted.
    fn prune(&mut self) {
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        self.rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| bits(&a.1).cmp(&bits(&b.1))).then_with(|| bits(&a.2).cmp(&bits(&b.2))));
        self.rows.truncate(MOST_ROWS);
        if self.rows.len() == MOST_ROWS {
            self.largest = self.rows.last().map(|r| r.0);
        }
    }

    /// Raw scores and support of the rows, in the order of their keys.
    pub fn finish(mut self) -> Vec<(Vec<f64>, Vec<f64>)> {
        self.prune();
        self.rows.into_iter().map(|(_, raw, s)| (raw, s)).collect()
    }
}

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

/// How aligned teachers are pooled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    pub theta: Theta,
    pub gate_share: f64,
    pub tilt: f64,
}

/// Adds constants to the logarithms of calibrated probabilities of a row `[C]` and floors them again; both forms in place.
pub fn align(constants: &[f64], p: &mut [f64], ln_p: &mut [f64]) {
    ln_p.iter_mut().zip(constants).for_each(|(z, b)| *z += b);
    p.copy_from_slice(ln_p);
    let norm = softmax(p);
    let sum = floor(p, CALIBRATED_FLOOR);
    let (least, floored) = (CALIBRATED_FLOOR.ln(), if sum > 1.0 + 1e-12 { sum.ln() } else { 0.0 });
    ln_p.iter_mut().for_each(|z| *z = (*z - norm).max(least) - floored);
}

/// Aligns the teachers of a reference fuser and pools them by `pool`.
///
/// `shares` turns the mean of the reference label `[C]` over the sample into the level to reach: the mean itself where nothing is known,
/// [`super::base_rate::wanted_shares`] where class shares are.
pub fn aligned(reference: &Fuser, sample: Sample, pool: Pool, shares: impl Fn(&[f64]) -> Vec<f64>) -> Fuser {
    let rows = sample.finish();
    let classes = reference.blend().classes;
    let mut room = reference.room();
    let mut means = ExactMeans::new(classes);
    let mut columns = vec![Vec::with_capacity(rows.len() * classes); 2 * reference.blend().teachers()];
    let mut label = vec![0.0; classes];
    for (raw, s) in &rows {
        reference.row(raw, s, &mut room);
        label.iter_mut().zip(&room.label).zip(&room.js).for_each(|((l, p), js)| *l = (1.0 - pool.tilt) * p.ln() + pool.tilt * js.ln());
        softmax(&mut label);
        means.add(&label);
        let both = room.raw.chunks_exact(classes).chain(room.p.chunks_exact(classes));
        columns.iter_mut().zip(both).for_each(|(column, p)| column.extend(p.iter().map(|p| p.ln())));
    }
    let shares = shares(&means.means());
    let constants: Vec<Vec<f64>> = columns.par_iter().map(|z| shift_to_shares(z, &shares)).collect();
    let (raw, calibrated) = constants.split_at(constants.len() / 2);
    let Pool { theta, gate_share, tilt } = pool;
    let alignment = Alignment { raw: raw.concat(), calibrated: calibrated.concat(), level: vec![0.0; classes], theta, gate_share, tilt };
    let fuser = reference.clone().with_alignment(alignment);
    let z: Vec<f64> = rows.iter().flat_map(|(raw, s)| row_z(&fuser, raw, s, &mut room)).collect();
    let level = shift_to_shares(&z, &shares);
    fuser.with_level(&level)
}

fn row_z(fuser: &Fuser, raw: &[f64], s: &[f64], room: &mut Fused) -> Vec<f64> {
    fuser.row(raw, s, room);
    room.z.clone()
}

/// Pools a row's raw scores `[K, C]`, aligned by `constants`: half sum_k ln p_k / K + half ln sum_k u_k p_k into `plain` `[C]`, sum_k u_k p_k into `js` `[C]`.
///
/// `raw` is used up and `spare` `[C]` is room.
pub fn plain_pool(constants: &[f64], js_weights: &[f64], raw: &mut [f64], plain: &mut [f64], js: &mut [f64], spare: &mut [f64]) {
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
