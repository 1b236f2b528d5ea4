//! What a student is fitted to: columns, soft labels, weights; and the check that everything after it relies
//! on.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// A number; NaN is null.
    Number,
    /// A position in a list of this many levels; NaN is null or unknown.
    Category { levels: usize },
}

/// More levels than this are refused; a float32 holds every integer below it exactly.
pub const MAX_LEVELS: usize = 1 << 20;

/// The share of the uniform distribution that is mixed into every soft label before a fit: a class without
/// mass then has finite log-odds, and the cross-entropy changes by less than 2e-5.
pub(crate) const SMOOTH: f64 = 1e-6;

/// Rows to fit to, or to measure on. Column-major, each column with n values.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub columns: &'a [&'a [f32]],
    pub kinds: &'a [Kind],
    /// Row-major [n, classes]: each row in [0, 1], sum 1.
    pub soft: &'a [f64],
    /// `[n]`, not negative: what a row counts, on average 1.
    pub weights: &'a [f64],
    pub classes: usize,
}

impl Sample<'_> {
    /// Number of rows n.
    pub fn rows(&self) -> usize {
        self.weights.len()
    }

    /// The soft label of a row, mixed with [`SMOOTH`] of the uniform distribution.
    pub(crate) fn target(&self, row: usize, class: usize) -> f64 {
        let c = self.classes as f64;
        self.soft[row * self.classes + class].clamp(0.0, 1.0) * (1.0 - SMOOTH) + SMOOTH / c
    }

    /// The mean soft label of some rows.
    pub(crate) fn shares(&self, rows: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
        let mass: f64 = rows.clone().map(|row| self.weights[row]).sum();
        let sum = |class| rows.clone().map(|row| self.weights[row] * self.target(row, class)).sum::<f64>();
        (0..self.classes).map(|class| sum(class) / mass).collect()
    }

    /// Refuses shapes that disagree (a bug of the caller), no rows or columns, infinite numbers, codes that
    /// are no level, soft labels that are no distribution (to 1e-6), and weights that are negative, not
    /// finite or all zero.
    pub fn check(&self) -> Result<()> {
        let n = self.rows();
        let shapes = self.columns.len() == self.kinds.len()
            && self.columns.iter().all(|c| c.len() == n)
            && self.soft.len() == n * self.classes;
        if !shapes {
            return Err(Error::bug(
                "columns, soft labels and weights of the student's rows differ in length",
            ));
        }
        if n == 0 || self.columns.is_empty() || self.classes < 2 {
            return Err(Error::data("a student needs at least one row, one column and two classes")
                .value(format!("{n} rows, {} columns, {} classes", self.columns.len(), self.classes)));
        }
        if n > u32::MAX as usize {
            return Err(Error::data("too many rows for one fit").value(n));
        }
        let invalid = |(column, kind): (&&[f32], &Kind)| {
            // many at a time, without a branch for each
            let all =
                column.chunks(1 << 10).all(|some| some.iter().fold(true, |all, v| all & valid(*v, *kind)));
            if all { None } else { column.iter().copied().find(|v| !valid(*v, *kind)) }
        };
        let found: Vec<Option<f32>> = self.columns.par_iter().zip(self.kinds).map(invalid).collect();
        for (j, (v, kind)) in found.into_iter().zip(self.kinds).enumerate() {
            if let Some(v) = v {
                return Err(Error::data("a value is neither finite nor null, or a code is not a level")
                    .column(format!("#{j}"))
                    .value(v));
            }
            if let Kind::Category { levels } = kind
                && *levels > MAX_LEVELS
            {
                return Err(Error::data("too many levels").column(format!("#{j}")).value(levels));
            }
        }
        for row in self.soft.chunks_exact(self.classes) {
            let sum: f64 = row.iter().sum();
            if !row.iter().all(|p| (-1e-12..=1.0 + 1e-12).contains(p)) || (sum - 1.0).abs() > 1e-6 {
                return Err(Error::bug("a soft label is not a distribution").value(format!("{row:?}")));
            }
        }
        let mass: f64 = self.weights.iter().sum();
        if !self.weights.iter().all(|w| *w >= 0.0) || !mass.is_finite() || mass <= 0.0 {
            return Err(Error::data("row weights must be finite, not negative, and not all zero"));
        }
        Ok(())
    }
}

/// Whether a value may stand in a column of this kind: a finite number or NaN; a level's code or NaN.
fn valid(v: f32, kind: Kind) -> bool {
    v.is_nan()
        || match kind {
            Kind::Number => v.is_finite(),
            Kind::Category { levels } => level(v, levels).is_some(),
        }
}

/// The level that a code stands for; None for NaN and for what is no position in a list of `levels`.
pub(crate) fn level(code: f32, levels: usize) -> Option<usize> {
    let at = code as usize;
    (code >= 0.0 && at < levels && at as f32 == code).then_some(at)
}

/// The columns with everything that counts as null as NaN; None where the shapes disagree.
pub(crate) fn readable<'a>(
    columns: &[&'a [f32]],
    kinds: &[Kind],
    rows: usize,
) -> Option<Vec<Cow<'a, [f32]>>> {
    if columns.len() != kinds.len() || columns.iter().any(|c| c.len() != rows) {
        return None;
    }
    let clean = |(column, kind): (&&'a [f32], &Kind)| {
        let good = |v: f32| match *kind {
            Kind::Number => !v.is_infinite(),
            Kind::Category { levels } => v.is_nan() || level(v, levels).is_some(),
        };
        if column.iter().all(|v| good(*v)) {
            Cow::Borrowed(*column)
        } else {
            Cow::Owned(column.iter().map(|v| if good(*v) { *v } else { f32::NAN }).collect())
        }
    };
    Some(columns.iter().zip(kinds).map(clean).collect())
}
