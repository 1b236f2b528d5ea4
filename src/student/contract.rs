//! What every family of students can do.

use crate::student::sample::Kind;
use crate::student::saved::Saved;

/// A fitted model. Rows do not influence each other: any subset of rows gets the same bits.
pub trait Student: Send + Sync {
    /// `logistic`, `boosted` or `forest`.
    fn family(&self) -> &'static str;

    /// Number of classes C.
    fn classes(&self) -> usize;

    /// What each column must be.
    fn kinds(&self) -> &[Kind];

    /// Whether any prediction can depend on the column.
    fn uses(&self, _column: usize) -> bool {
        true
    }

    /// Writes the probabilities, row-major [n, C], of the n rows of `columns`. They are finite, not negative
    /// and sum to 1, whatever stands in the columns; an infinite number, or a code that is no level, counts
    /// as null.
    ///
    /// Columns must be as many as [`kinds`](Student::kinds), each with n values, and `out` n * C long; if
    /// not, `out` is NaN throughout.
    fn predict(&self, columns: &[&[f32]], out: &mut [f64]);

    /// The serialisable form.
    fn saved(&self) -> Saved;
}
