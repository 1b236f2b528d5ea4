//! The serialisable form of every family of students.

use serde::{Deserialize, Serialize};

use crate::student::sample::Kind;

pub(super) const FORMAT: &str = "coldstart-student";
pub(super) const VERSION: u32 = 1;

/// The serialisable form of every family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) family: String,
    pub(super) classes: usize,
    pub(super) columns: Vec<Kind>,
    pub(super) model: Model,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Model {
    Logistic(Linear),
    /// The link's argument is scale * sum of leaves + base + the linear start.
    Trees {
        link: SavedLink,
        base: Vec<f64>,
        scale: f64,
        start: Option<Linear>,
        trees: Vec<SavedTree>,
    },
}

/// A logistic student's functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    pub bias: Vec<f64>,
    pub terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SavedLink {
    Identity,
    Sigmoid,
    Softmax,
}

/// A tree by columns, one entry for each split; leaves are one more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedTree {
    pub output: usize,
    pub column: Vec<u32>,
    pub rule: Vec<SavedRule>,
    pub null_left: Vec<bool>,
    /// A child >= 0 is a split, a child < 0 is leaf !child.
    pub left: Vec<i32>,
    pub right: Vec<i32>,
    pub leaf: Vec<f64>,
}

/// A threshold, or the levels that go left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SavedRule {
    AtMost(f64),
    Levels(Vec<u32>),
}

/// What a column adds to the class's sums; every list of weights has one for each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Term {
    /// A column that was constant.
    Nothing,
    /// weight * (x - mean) / deviation; for null `null`, or nothing.
    Number { mean: f64, deviation: f64, weight: Vec<f64>, null: Option<Vec<f64>> },
    /// `weights[i]` for the level `levels[i]`; nothing for another.
    Category { levels: Vec<u32>, weights: Vec<Vec<f64>> },
}

impl Saved {
    /// The form of a model of this family.
    pub(super) fn of(family: &str, kinds: &[Kind], classes: usize, model: Model) -> Saved {
        Saved {
            format: FORMAT.into(),
            version: VERSION,
            family: family.into(),
            classes,
            columns: kinds.to_vec(),
            model,
        }
    }
}
