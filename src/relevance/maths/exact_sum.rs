//! Sums that do not depend on the order of their terms.
//!
//! Floating-point addition is not associative, so a sum over batches would depend on how rows were cut into
//! batches and on which thread came first. Here every term is rounded to a multiple of 2^-52 and added as an
//! integer, which is exact.

use serde::{Deserialize, Serialize};

use crate::relevance::maths::real::Real;

const UNIT: f64 = (1u64 << 52) as f64;

/// Sum of terms of size below 2047 (larger ones count as 2048), each rounded to a multiple of 2^-52.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactSum(i128);

impl ExactSum {
    /// Adds a term; NaN counts as zero.
    #[inline]
    pub fn add(&mut self, term: f64) {
        self.0 += i128::from((term * UNIT) as i64);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        self.0 += other.0;
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        self.0 as f64 / UNIT
    }
}

/// Means of several quantities over the same rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactMeans {
    rows: u64,
    sums: Vec<ExactSum>,
}

impl ExactMeans {
    /// Means of `width` quantities over no rows yet.
    pub fn new(width: usize) -> Self {
        ExactMeans { rows: 0, sums: vec![ExactSum::default(); width] }
    }

    /// Adds the first `rows` of the rows in `terms`, which has the width of the means.
    #[inline(always)]
    pub fn add_rows<R: Real>(&mut self, terms: &[R], rows: usize) {
        self.rows += rows as u64;
        for (sum, term) in self.sums.iter_mut().zip(terms) {
            term.rows()[..rows].iter().for_each(|term| sum.add(*term));
        }
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &ExactMeans) {
        self.rows += other.rows;
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(more);
        }
    }

    /// Rows added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The means; zeros over no rows.
    pub fn means(&self) -> Vec<f64> {
        let n = self.rows.max(1) as f64;
        self.sums.iter().map(|s| s.value() / n).collect()
    }
}
