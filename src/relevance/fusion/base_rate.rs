//! Class shares and labels: what the user knows of the target's base rate moves every soft label by one constant a class.
//!
//! The target need not be in memory. [`ShareShift`] asks for sums over all rows ([`ShiftSums`], exact, so cut
//! them as you like) a handful of times:
//! ```text
//! let mut shift = ShareShift::new(wanted);
//! while !shift.done() {
//!     let mut sums = shift.sums();
//!     for each eight rows { sums.add(ln_p, 8); }    // in any order, in any number of parts that are merged
//!     shift.update(&sums);
//! }
//! shift.constants()
//! ```

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::trees::simd::vectorised;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::newton::{Local, minimize, newton_direction};
use crate::relevance::maths::probability::softmax;
use crate::relevance::maths::real::{LANES, Lanes, gather};

/// Fewer labels than this are not used.
pub const LEAST_LABELS: usize = 20;
/// Least share of a class that is asked for.
pub const LEAST_SHARE: f64 = 1e-4;
/// Ridge of the constants from labels, for each class: the reference's, and the one for aligned teachers
/// (`EXPERIMENTS.md`).
pub const LABEL_RIDGE: f64 = 12.0;
pub const ALIGNED_LABEL_RIDGE: f64 = 18.0;
/// A ridge that only keeps the constants of a class without labels finite.
const FREE_RIDGE: f64 = 1e-3;
const SHARE_RIDGE: f64 = 2e-9;
const TOLERANCE: f64 = 1e-12;
const PASSES: usize = 50;
/// Rows that one thread takes at a time.
const CHUNK: usize = 4096;

/// The share of a class that the user names: from `low` to `high`, both in [0, 1]; equal ends for a known
/// share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShareRange {
    pub class: usize,
    pub low: f64,
    pub high: f64,
}

/// Shares to reach: the mean of p clipped into the ranges given; the other classes keep their proportions; at
/// least 1e-4 each.
pub fn wanted_shares(mean: &[f64], given: &[ShareRange]) -> Vec<f64> {
    let mut share = mean.to_vec();
    for range in given {
        share[range.class] = mean[range.class].clamp(range.low, range.high);
    }
    let named = |c: usize| given.iter().any(|g| g.class == c);
    let taken: f64 = (0..mean.len()).filter(|c| named(*c)).map(|c| share[c]).sum();
    let left: f64 = (0..mean.len()).filter(|c| !named(*c)).map(|c| mean[c]).sum();
    (0..mean.len()).filter(|c| !named(*c)).for_each(|c| share[c] *= (1.0 - taken) / left.max(1e-12));
    share.iter_mut().for_each(|s| *s = s.clamp(LEAST_SHARE, 1.0));
    let sum: f64 = share.iter().sum();
    share.iter().map(|s| s / sum).collect()
}

/// Sums over rows at one point of the search.
#[derive(Debug, Clone)]
pub struct ShiftSums {
    at: Vec<f64>,
    p: Vec<Lanes>,
    /// ln sum exp(z + b), p_c, p_c p_e for e <= c.
    terms: Vec<Lanes>,
    means: ExactMeans,
}

impl ShiftSums {
    fn new(at: &[f64]) -> Self {
        let c = at.len();
        let width = 1 + c + c * (c + 1) / 2;
        let zeros = |n: usize| vec![Lanes::default(); n];
        ShiftSums { at: at.to_vec(), p: zeros(c), terms: zeros(width), means: ExactMeans::new(width) }
    }

    /// Adds logarithms of probabilities `[C]` of the first `rows` of the rows.
    pub fn add(&mut self, z: &[Lanes], rows: usize) {
        vectorised(
            #[inline(always)]
            || self.add_rows(z, rows),
        );
    }

    #[inline(always)]
    fn add_rows(&mut self, z: &[Lanes], rows: usize) {
        self.p.iter_mut().zip(z).zip(&self.at).for_each(|((p, z), b)| *p = *z + *b);
        self.terms[0] = softmax(&mut self.p);
        let classes = self.p.len();
        self.terms[1..=classes].copy_from_slice(&self.p);
        let mut place = classes + 1;
        for c in 0..classes {
            for e in 0..=c {
                self.terms[place] = self.p[c] * self.p[e];
                place += 1;
            }
        }
        self.means.add_rows(&self.terms, rows);
    }

    /// Adds the rows of another part that was asked for at the same point.
    pub fn merge(&mut self, other: &ShiftSums) {
        self.means.merge(&other.means);
    }

    /// mean ln sum exp(z + b) - shares b, and its derivatives.
    fn local(&self, shares: &[f64]) -> Local {
        let (classes, means) = (self.at.len(), self.means.means());
        let mut out = Local::zero(classes);
        out.value = means[0] - shares.iter().zip(&self.at).map(|(s, b)| s * b).sum::<f64>();
        let mut place = classes + 1;
        for c in 0..classes {
            out.gradient[c] = means[1 + c] - shares[c];
            for e in 0..=c {
                let value = if c == e { means[1 + c] } else { 0.0 } - means[place];
                out.hessian[c * classes + e] = value;
                out.hessian[e * classes + c] = value;
                place += 1;
            }
        }
        (0..classes).for_each(|c| out.ridge(c, SHARE_RIDGE, self.at[c]));
        // Adding the same number to every constant changes nothing; this holds the search where they add up
        // to zero.
        out.hessian.iter_mut().for_each(|h| *h += 1.0 / classes as f64);
        out
    }
}

/// The search for the constants that bring the mean of p to given shares. Convex; each update is one damped
/// Newton step.
#[derive(Debug, Clone)]
pub struct ShareShift {
    shares: Vec<f64>,
    best: Option<(Vec<f64>, Local)>,
    at: Vec<f64>,
    passes: usize,
    done: bool,
}

impl ShareShift {
    /// Towards `shares` `[C]`, which add up to 1.
    pub fn new(shares: Vec<f64>) -> Self {
        ShareShift { at: vec![0.0; shares.len()], best: None, passes: 0, done: false, shares }
    }

    /// Whether another pass is needed.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Empty sums for the next pass.
    pub fn sums(&self) -> ShiftSums {
        ShiftSums::new(&self.at)
    }

    /// Takes the sums over all rows of a pass.
    pub fn update(&mut self, sums: &ShiftSums) {
        self.passes += 1;
        let there = sums.local(&self.shares);
        let size = |l: &Local| l.gradient.iter().map(|g| g.abs()).fold(0.0, f64::max);
        let better = self.best.as_ref().is_none_or(|(_, here)| {
            there.value < here.value || size(&there) < size(here) && there.value <= here.value + 1e-14
        });
        if better {
            self.best = Some((self.at.clone(), there));
        }
        let Some((from, here)) = &self.best else { return };
        self.done = size(here) <= TOLERANCE || self.passes >= PASSES;
        self.at = if better {
            let all: Vec<usize> = (0..from.len()).collect();
            from.iter().zip(newton_direction(here, &all)).map(|(f, step)| f + step).collect()
        } else {
            self.at.iter().zip(from).map(|(a, f)| f + (a - f) / 2.0).collect()
        };
        if self.at.iter().zip(from).all(|(a, f)| (a - f).abs() <= 1e-14) {
            self.done = true;
        }
    }

    /// The constants `[C]` to add to ln p.
    pub fn constants(&self) -> &[f64] {
        self.best.as_ref().map_or(&self.at, |(at, _)| at)
    }
}

/// The constants `[C]` that bring the mean of p over rows in memory, logarithms `z` `[n, C]`, to `shares`.
pub fn shift_to_shares(z: &[f64], shares: &[f64]) -> Vec<f64> {
    let mut search = ShareShift::new(shares.to_vec());
    while !search.done() {
        // sums are exact, so that the parts and their order are of no account
        let part = |z: &[f64]| {
            let mut sums = search.sums();
            let mut columns = vec![Lanes::default(); shares.len()];
            for rows in z.chunks(LANES * shares.len()) {
                gather(rows, &mut columns);
                sums.add(&columns, rows.len() / shares.len());
            }
            sums
        };
        let parts: Vec<ShiftSums> = z.par_chunks(CHUNK * shares.len()).map(part).collect();
        let mut sums = search.sums();
        parts.iter().for_each(|part| sums.merge(part));
        search.update(&sums);
    }
    search.constants().to_vec()
}

/// Constants `[C]` from labelled rows: logarithms of probabilities `z` `[n, C]`, cross-entropy + ridge/2
/// sum_c b_c^2. Fewer than 20 labels are an error.
pub fn shift_to_labels(z: &[f64], labels: &[u16], classes: usize, ridge: f64) -> Result<Vec<f64>> {
    if labels.len() < LEAST_LABELS {
        return Err(Error::data(format!(
            "{} labels of the target, at least {LEAST_LABELS} are needed to move the base rate",
            labels.len()
        )));
    }
    if z.len() != labels.len() * classes || labels.iter().any(|y| usize::from(*y) >= classes) {
        return Err(Error::bug("labels and scores of the labelled accounts do not fit together"));
    }
    let mut p = vec![0.0; classes];
    let objective = |b: &[f64]| {
        let mut out = Local::zero(classes);
        for (row, &y) in z.chunks_exact(classes).zip(labels) {
            let y = usize::from(y);
            p.iter_mut().zip(row).zip(b).for_each(|((p, z), b)| *p = z + b);
            let logit = p[y];
            out.value += softmax(&mut p) - logit;
            for c in 0..classes {
                out.gradient[c] += p[c] - f64::from(u8::from(c == y));
                for e in 0..classes {
                    out.hessian[c * classes + e] += p[c] * (f64::from(u8::from(c == e)) - p[e]);
                }
            }
        }
        (0..classes).for_each(|c| out.ridge(c, ridge, b[c]));
        out.scale_down(labels.len() as f64);
        out
    };
    Ok(minimize(
        objective,
        &vec![0.0; classes],
        &vec![(f64::NEG_INFINITY, f64::INFINITY); classes],
        TOLERANCE,
    )
    .at)
}

/// The constants of [`shift_to_labels`] for aligned teachers, less what chance alone would give: times
/// 1 - (C - 1) / LR, at least 0, where LR is twice what the labels' log-likelihood gains by constants without a
/// ridge, whose mean is C - 1 where the level is right already (the positive part of James and Stein 1961).
pub fn shift_beyond_chance(z: &[f64], labels: &[u16], classes: usize) -> Result<Vec<f64>> {
    let constants = shift_to_labels(z, labels, classes, ALIGNED_LABEL_RIDGE)?;
    let free = shift_to_labels(z, labels, classes, FREE_RIDGE)?;
    let gain: f64 = z
        .chunks_exact(classes)
        .zip(labels)
        .map(|(z, y)| {
            let (mut as_it_is, mut moved) = (z.to_vec(), z.to_vec());
            moved.iter_mut().zip(&free).for_each(|(z, b)| *z += b);
            let y = usize::from(*y);
            (softmax(&mut as_it_is) - z[y]) - (softmax(&mut moved) - z[y] - free[y])
        })
        .sum();
    let kept = (1.0 - (classes - 1) as f64 / (2.0 * gain).max(f64::MIN_POSITIVE)).max(0.0);
    Ok(constants.into_iter().map(|b| b * kept).collect())
}

/// Adds constants to the logarithms of a row's probabilities and makes them probabilities, in place.
pub fn shift(z: &mut [f64], constants: &[f64]) {
    z.iter_mut().zip(constants).for_each(|(z, b)| *z += b);
    softmax(z);
}
