//! Profiles: bins that all scenarios share.
//!
//! A number gets at most 24 bins between 23 inner quantiles of the scenario-balanced union: every scenario
//! gives 240 order statistics, however many rows it has. A category gets a bin for each of its 40 most
//! frequent levels and one for all others. Null has the last bin in both.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::relevance::profile::categories::CategorySummary;
use crate::relevance::profile::numbers::{NumberSummary, ORDER_STATISTICS};

/// Bins of a number, without that of null.
pub const NUMBER_BINS: usize = 24;
/// Levels of a category that have their own bin.
pub const LEVELS: usize = 40;

/// The bins of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// Ascending edges; the bin of a value is the number of edges at or below it.
    Number(Vec<f64>),
    /// Levels in the order of their bins.
    Category(Vec<String>),
}

impl Bins {
    /// Bins in all, null among them.
    pub fn count(&self) -> usize {
        2 + match self {
            Bins::Number(edges) => edges.len(),
            Bins::Category(levels) => levels.len(),
        }
    }

    /// The bin of null.
    pub fn of_null(&self) -> usize {
        self.count() - 1
    }

    /// The bin of a number; of a category it is null.
    pub fn of_number(&self, value: f64) -> usize {
        match self {
            Bins::Number(edges) if !value.is_nan() => edges.partition_point(|e| *e <= value),
            _ => self.of_null(),
        }
    }

    /// The bin of each of a batch's levels, for [`crate::relevance::profile::support::Column::Category`]; for
    /// a number all are null.
    pub fn of_levels<'a>(&self, levels: impl IntoIterator<Item = &'a str>) -> Vec<u16> {
        match self {
            Bins::Number(_) => levels.into_iter().map(|_| self.of_null() as u16).collect(),
            Bins::Category(known) => {
                let place: HashMap<&str, u16> =
                    known.iter().zip(0u16..).map(|(l, i)| (l.as_str(), i)).collect();
                levels.into_iter().map(|l| place.get(l).copied().unwrap_or(known.len() as u16)).collect()
            }
        }
    }

    /// A bin in words, for people: `12.5 .. 20`, `blue-collar`, `other`, `null`.
    pub fn describe(&self, bin: usize) -> String {
        if bin >= self.of_null() {
            return "null".into();
        }
        match self {
            Bins::Category(levels) => levels.get(bin).cloned().unwrap_or_else(|| "other".into()),
            // Features come as float32 mostly, and people need no more digits.
            Bins::Number(edges) => match (bin.checked_sub(1).and_then(|b| edges.get(b)), edges.get(bin)) {
                (Some(low), Some(high)) => format!("{} .. {}", *low as f32, *high as f32),
                (None, Some(high)) => format!("below {}", *high as f32),
                (Some(low), None) => format!("{} or more", *low as f32),
                (None, None) => "any".into(),
            },
        }
    }
}

/// Edges common to the scenarios: distinct values at floor(i N / 24), i = 1..23, of their pooled order
/// statistics, N of them.
pub fn common_edges(scenarios: &[&NumberSummary]) -> Vec<f64> {
    let mut pooled: Vec<f64> = scenarios.iter().flat_map(|s| s.order_statistics(ORDER_STATISTICS)).collect();
    if pooled.is_empty() {
        pooled.push(0.0);
    }
    pooled.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..NUMBER_BINS).map(|i| pooled[i * pooled.len() / NUMBER_BINS]).collect();
    edges.dedup();
    edges
}

/// Levels common to the scenarios: the most frequent of all their rows together, ties by the bytes of the
/// text.
pub fn common_levels(scenarios: &[&CategorySummary]) -> Vec<String> {
    let mut total: HashMap<&str, u64> = HashMap::new();
    for (level, n) in scenarios.iter().flat_map(|s| &s.levels) {
        *total.entry(level).or_default() += n;
    }
    let mut order: Vec<(&str, u64)> = total.into_iter().collect();
    order.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    order.into_iter().take(LEVELS).map(|(level, _)| level.to_owned()).collect()
}
