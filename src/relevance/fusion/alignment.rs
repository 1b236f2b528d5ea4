//! Beyond the reference: teachers are moved to one level of class shares before they are pooled.
//!
//! Each teacher carries the base rate of its own scenario. Pooled as they come, their levels blur the pool
//! and pull the weights; so each gets one constant a class that brings its mean over the target to a common
//! level: the known class shares, or else the mean of the reference label. What remains is what they say
//! about one account against another, and there the gate and a plain logarithmic pool can be trusted further.
//! `EXPERIMENTS.md` has the measurements.
//!
//! The constants come from a [`Sample`] of the target that depends on the accounts alone, not on their order.

use rayon::prelude::*;

use crate::relevance::fusion::aligned_pool::Alignment;
use crate::relevance::fusion::base_rate::shift_to_shares;
use crate::relevance::fusion::fuse::Fuser;
use crate::relevance::fusion::gating::Theta;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::probability::softmax;

/// Rows of the target that fix the constants; all of them where there are fewer.
pub const MOST_ROWS: usize = 65_536;

/// Rows that one thread takes at a time.
const CHUNK: usize = 2048;

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
    /// Offers a row; `key` is [`crate::relevance::maths::probability::hash`] of the account's id.
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
        self.rows.sort_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| bits(&a.1).cmp(&bits(&b.1))).then_with(|| bits(&a.2).cmp(&bits(&b.2)))
        });
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

/// How aligned teachers are pooled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    pub theta: Theta,
    pub gate_share: f64,
    pub tilt: f64,
}

/// Aligns the teachers of a reference fuser and pools them by `pool`.
///
/// `shares` turns the mean of the reference label `[C]` over the sample into the level to reach: the mean
/// itself where nothing is known,
/// [`crate::relevance::fusion::base_rate::wanted_shares`] where class shares are.
pub fn aligned(reference: &Fuser, sample: Sample, pool: Pool, shares: impl Fn(&[f64]) -> Vec<f64>) -> Fuser {
    let rows = sample.finish();
    let classes = reference.blend().classes;
    let width = 2 * reference.blend().teachers();
    let seen = |rows: &[(Vec<f64>, Vec<f64>)]| {
        let (mut room, mut label) = (reference.scratch(), vec![0.0; classes]);
        let mut means = ExactMeans::new(classes);
        let mut columns = vec![Vec::with_capacity(rows.len() * classes); width];
        for (raw, s) in rows {
            reference.row(raw, s, &mut room);
            label
                .iter_mut()
                .zip(&room.label)
                .zip(&room.js)
                .for_each(|((l, p), js)| *l = (1.0 - pool.tilt) * p.ln() + pool.tilt * js.ln());
            softmax(&mut label);
            means.add(&label);
            let both = room.raw.chunks_exact(classes).chain(room.p.chunks_exact(classes));
            columns.iter_mut().zip(both).for_each(|(column, p)| column.extend(p.iter().map(|p| p.ln())));
        }
        (means, columns)
    };
    let (mut means, mut columns) = (ExactMeans::new(classes), vec![Vec::new(); width]);
    for (own, parts) in rows.par_chunks(CHUNK).map(seen).collect::<Vec<_>>() {
        means.merge(&own);
        columns.iter_mut().zip(parts).for_each(|(column, part)| column.extend(part));
    }
    let shares = shares(&means.means());
    let constants: Vec<Vec<f64>> = columns.par_iter().map(|z| shift_to_shares(z, &shares)).collect();
    let (raw, calibrated) = constants.split_at(constants.len() / 2);
    let Pool { theta, gate_share, tilt } = pool;
    let alignment = Alignment {
        raw: raw.concat(),
        calibrated: calibrated.concat(),
        level: vec![0.0; classes],
        theta,
        gate_share,
        tilt,
    };
    let fuser = reference.clone().with_alignment(alignment);
    let logits = |rows: &[(Vec<f64>, Vec<f64>)]| {
        let mut room = fuser.scratch();
        let mut z = Vec::with_capacity(rows.len() * classes);
        for (raw, s) in rows {
            fuser.row(raw, s, &mut room);
            z.extend(&room.z);
        }
        z
    };
    let z: Vec<f64> = rows.par_chunks(CHUNK).flat_map_iter(logits).collect();
    let level = shift_to_shares(&z, &shares);
    fuser.with_level(&level)
}
