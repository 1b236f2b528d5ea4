//! The profiles of all scenarios on common bins.
//!
//! In: a summary of every shared feature for each history and, if there is one yet, the target. Out: counts
//! for each bin, from which support and distances follow. A calculator that was trained
//! before the target exists has profiles of the histories alone, with edges from the histories alone;
//! [`Profiles::with_target`] then counts the target on those edges.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::relevance::profile::bins::{Bins, common_edges, common_levels};
use crate::relevance::profile::categories::CategorySummary;
use crate::relevance::profile::numbers::NumberSummary;

/// A feature of one scenario, summarised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    Number(NumberSummary),
    Category(CategorySummary),
}

impl Summary {
    /// Rows of the column.
    pub fn rows(&self) -> u64 {
        match self {
            Summary::Number(s) => s.rows(),
            Summary::Category(s) => s.rows(),
        }
    }

    /// Rows in each bin; all null where the kinds differ.
    pub fn bin_counts(&self, bins: &Bins) -> Vec<u64> {
        match (self, bins) {
            (Summary::Number(s), Bins::Number(edges)) => s.bin_counts(edges),
            (Summary::Category(s), Bins::Category(levels)) => s.bin_counts(levels),
            _ => {
                let mut counts = vec![0; bins.count()];
                counts[bins.of_null()] = self.rows();
                counts
            }
        }
    }
}

/// One feature on common bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    pub name: String,
    pub bins: Bins,
    /// Rows in each bin `[B]` for each history, in the order of the teachers that have one.
    pub histories: Vec<Vec<u64>>,
    /// The same for the target, once there is one.
    pub target: Option<Vec<u64>>,
}

impl FeatureProfile {
    /// Common bins of one feature and every scenario's counts on them. The kinds must agree.
    pub fn new(name: &str, histories: &[&Summary], target: Option<&Summary>) -> Result<Self> {
        let all: Vec<&Summary> = histories.iter().copied().chain(target).collect();
        let numbers: Vec<&NumberSummary> =
            all.iter().filter_map(|s| if let Summary::Number(n) = s { Some(n) } else { None }).collect();
        let categories: Vec<&CategorySummary> =
            all.iter().filter_map(|s| if let Summary::Category(c) = s { Some(c) } else { None }).collect();
        let bins = if categories.is_empty() {
            Bins::Number(common_edges(&numbers))
        } else if numbers.is_empty() {
            Bins::Category(common_levels(&categories))
        } else {
            return Err(
                Error::data("a feature is a number in one scenario and a category in another").column(name)
            );
        };
        let counts = |s: &Summary| s.bin_counts(&bins);
        Ok(FeatureProfile {
            name: name.to_owned(),
            histories: histories.iter().map(|s| counts(s)).collect(),
            target: target.map(counts),
            bins: bins.clone(),
        })
    }

    /// The same bins with the target counted on them.
    pub fn with_target(&self, target: &Summary) -> Self {
        FeatureProfile { target: Some(target.bin_counts(&self.bins)), ..self.clone() }
    }

    /// Smoothed shares h = (count + .5) / (n + .5 B) of every scenario, the target last if it is known.
    pub fn shares(&self) -> Vec<Vec<f64>> {
        self.histories.iter().chain(&self.target).map(|counts| smoothed(counts)).collect()
    }
}

/// h = (count + .5) / (n + .5 B).
pub fn smoothed(counts: &[u64]) -> Vec<f64> {
    let rows = counts.iter().sum::<u64>() as f64 + 0.5 * counts.len() as f64;
    counts.iter().map(|c| (*c as f64 + 0.5) / rows).collect()
}

/// All shared features on common bins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Teachers in all.
    pub teachers: usize,
    /// Which of them have a history, ascending; the order of every [`FeatureProfile::histories`].
    pub sources: Vec<usize>,
    /// Features that some teacher names and that every history and the target hold.
    pub features: Vec<FeatureProfile>,
}

impl Profiles {
    /// The same bins with the target counted on them; `target` has a summary for each feature, in order.
    pub fn with_target(&self, target: &[&Summary]) -> Result<Self> {
        if target.len() != self.features.len() {
            return Err(Error::bug("one summary of the target for each profiled feature"));
        }
        let features = self.features.iter().zip(target).map(|(f, s)| f.with_target(s)).collect();
        Ok(Profiles { features, ..self.clone() })
    }
}
