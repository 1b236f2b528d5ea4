//! What the owner of a scenario asks for.

use std::path::{Path, PathBuf};

/// What the owner asks for.
pub struct Request<'a> {
    pub accounts: &'a Path,
    /// Columns that are no features.
    pub leave_out: &'a [String],
    pub label: Option<&'a str>,
    pub held_out: Option<&'a str>,
    /// The owner's own bundle.
    pub teacher: Option<&'a Path>,
    pub score_with: &'a [PathBuf],
    /// Epsilon, and the secret from which the noise is drawn.
    pub noise: Option<(f64, &'a str)>,
    pub out: &'a Path,
}
