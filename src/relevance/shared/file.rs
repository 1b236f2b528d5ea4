//! The owner's profile: the sketch of a scenario whose rows may not leave their owner, as JSON. It comes from a stranger,
//! and is checked like one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::relevance::profile::profiles::Summary;
use crate::relevance::transfer::calibrate::Calibration;
use crate::relevance::transfer::reliability::Cell;

/// The version that is written; earlier ones are read.
pub const FORMAT: u32 = 2;

/// A scenario without its rows: for each feature at most 240 cells of a number, or the counts of a category's
/// levels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchFile {
    pub format: u32,
    pub rows: u64,
    pub features: BTreeMap<String, Summary>,
    /// What the labelled rows say, where the owner said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
}

/// How counts were made noisy.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    pub mechanism: String,
    pub epsilon: f64,
    /// Histograms in which each row is counted.
    pub histograms: u64,
    /// Scale of the noise, in rows: histograms / epsilon.
    pub scale: f64,
}

/// The part of a sketch that needs labels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Names of the labels: those of the own teacher, or all that there are.
    pub classes: Vec<String>,
    /// Rows of each.
    pub counts: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
    pub tables: Vec<Table>,
}

/// The owner's own teacher.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    pub teacher: String,
    /// SHA-256 of its model file.
    pub model: String,
    pub calibration: Calibration,
}

/// Scores of one teacher against labels; of its own rows those that were held out.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub teacher: String,
    /// SHA-256 of its model file.
    pub model: String,
    /// The model's classes: what a cell's scores are of.
    pub classes: Vec<String>,
    pub cells: Vec<Cell>,
}
