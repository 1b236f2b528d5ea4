//! Beyond the reference: teachers are moved to one level of class shares before they are pooled.
//!
//! Each teacher carries the base rate of its own scenario. Pooled as they come, their levels blur the pool
//! and pull the weights; so each gets one constant a class that brings its mean over the target to a common
//! level: the known class shares, or else the mean of the reference label. What remains is what they say
//! about one account against another, and there the gate and a plain logarithmic pool can be trusted further.
//! `EXPERIMENTS.md` has the measurements.
//!
//! The constants come from a [`Sample`] of the target that depends on the accounts alone, not on their order.

use std::ops::Range;

use rayon::prelude::*;

use crate::relevance::fusion::aligned_pool::Alignment;
use crate::relevance::fusion::base_rate::shift_to_shares;
use crate::relevance::fusion::columns::{Columns, OwnColumns};
use crate::relevance::fusion::fuse::{Fused, Fuser};
use crate::relevance::fusion::gating::Theta;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::probability::softmax;
use crate::relevance::maths::real::{Lanes, Real, ln, of_row};

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
    keys: Vec<u64>,
    /// Raw scores and support of each row, one row behind the other.
    values: Vec<f64>,
    /// How many of each a row has.
    widths: (usize, usize),
    /// Rows with a larger key are not wanted any more.
    largest: Option<u64>,
}

impl Sample {
    /// Offers a row of some columns; `key` is [`crate::relevance::maths::probability::hash`] of the account's id.
    pub fn add(&mut self, key: u64, columns: &Columns, row: usize) {
        if self.largest.is_none_or(|largest| key <= largest) {
            self.widths = (columns.raw.len(), columns.support.len());
            self.keys.push(key);
            self.values.extend(columns.raw.iter().chain(&columns.support).map(|c| c[row]));
            if self.keys.len() >= 2 * MOST_ROWS {
                self.prune();
            }
        }
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: Sample) {
        self.widths = if other.keys.is_empty() { self.widths } else { other.widths };
        self.keys.extend(other.keys);
        self.values.extend(other.values);
        self.prune();
    }

    /// Rows by key, ties by what they hold, and no more than are wanted.
    fn prune(&mut self) {
        let width = self.widths.0 + self.widths.1;
        let row = |i: usize| &self.values[i * width..(i + 1) * width];
        let bits = |i: usize| row(i).iter().map(|v| v.to_bits());
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.sort_by(|a, b| self.keys[*a].cmp(&self.keys[*b]).then_with(|| bits(*a).cmp(bits(*b))));
        order.truncate(MOST_ROWS);
        self.values = order.iter().flat_map(|i| row(*i)).copied().collect();
        self.keys = order.iter().map(|i| self.keys[*i]).collect();
        if self.keys.len() == MOST_ROWS {
            self.largest = self.keys.last().copied();
        }
    }

    /// The rows in the order of their keys, by columns.
    pub fn finish(mut self) -> OwnColumns {
        self.prune();
        let width = self.widths.0 + self.widths.1;
        let column = |j: usize| self.values[j..].iter().step_by(width).copied().collect();
        let mut raw: Vec<Vec<f64>> =
            if self.keys.is_empty() { Vec::new() } else { (0..width).map(column).collect() };
        let support = raw.split_off(self.widths.0.min(raw.len()));
        OwnColumns { raw, support }
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
pub fn aligned(
    reference: &Fuser,
    sample: &Columns,
    pool: Pool,
    shares: impl Fn(&[f64]) -> Vec<f64>,
) -> Fuser {
    let classes = reference.blend().classes;
    let width = 2 * reference.blend().teachers();
    let chunks: Vec<Range<usize>> =
        (0..sample.rows()).step_by(CHUNK).map(|first| first..sample.rows().min(first + CHUNK)).collect();
    let seen = |rows: &Range<usize>| {
        let mut label = vec![Lanes::default(); classes];
        let mut means = ExactMeans::new(classes);
        let mut columns = vec![Vec::with_capacity(rows.len() * classes); width];
        reference.each(sample, rows.clone(), |_, count, fused| {
            tilted(pool.tilt, fused, &mut label);
            means.add_rows(&label, count);
            for (p, stacks) in [(&fused.raw, 0), (&fused.p, width / 2)] {
                for (p, column) in p.chunks_exact(classes).zip(&mut columns[stacks..]) {
                    (0..count).for_each(|i| column.extend(of_row(p, i).map(ln)));
                }
            }
        });
        (means, columns)
    };
    let (mut means, mut columns) = (ExactMeans::new(classes), vec![Vec::new(); width]);
    for (own, parts) in chunks.par_iter().map(seen).collect::<Vec<_>>() {
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
    let logits = |rows: &Range<usize>| {
        let mut z = Vec::with_capacity(rows.len() * classes);
        fuser.each(sample, rows.clone(), |_, count, fused| {
            (0..count).for_each(|i| z.extend(of_row(&fused.z, i)));
        });
        z
    };
    let z: Vec<f64> = chunks.par_iter().flat_map_iter(logits).collect();
    let level = shift_to_shares(&z, &shares);
    fuser.with_level(&level)
}

/// The reference label `[C]`, moved towards 1/JS by `tilt` of the logits.
#[inline(always)]
fn tilted(tilt: f64, fused: &Fused<Lanes>, label: &mut [Lanes]) {
    if tilt == 0.0 {
        label.copy_from_slice(&fused.label);
        return;
    }
    let both = fused.label.iter().zip(&fused.js);
    label.iter_mut().zip(both).for_each(|(l, (p, js))| *l = p.ln() * (1.0 - tilt) + js.ln() * tilt);
    softmax(label);
}
