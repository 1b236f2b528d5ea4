//! Profiles, categories: how often each level stands in a column.
//!
//! At most [`MOST_LEVELS`] levels are kept. Where a column has more, those with the smallest hashes stay and
//! all others count as "other": the choice depends on the levels alone, so it is the same whatever the order
//! of rows, and the same in every scenario.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::relevance::maths::probability::hash;

/// Levels that a sketch keeps; a column with more of them is an identifier in all but name.
pub const MOST_LEVELS: usize = 65_536;

/// A column of text as seen so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct CategorySketch {
    nulls: u64,
    rows: u64,
    /// Hash and count of each level kept.
    levels: HashMap<String, (u64, u64)>,
    /// Levels with this hash or a larger one were dropped.
    dropped_from: Option<u64>,
}

impl CategorySketch {
    /// Counts `count` nulls.
    pub fn add_nulls(&mut self, count: u64) {
        self.nulls += count;
    }

    /// Counts a level `count` times; batches of dictionary columns are best counted by code first.
    pub fn add(&mut self, level: &str, count: u64) {
        if count == 0 {
            return;
        }
        self.rows += count;
        if let Some((_, n)) = self.levels.get_mut(level) {
            *n += count;
            return;
        }
        let hash = hash(level.as_bytes());
        if self.dropped_from.is_none_or(|from| hash < from) {
            self.levels.insert(level.to_owned(), (hash, count));
            if self.levels.len() >= 2 * MOST_LEVELS {
                self.prune();
            }
        }
    }

    /// Adds what another sketch has seen.
    pub fn merge(&mut self, other: &CategorySketch) {
        self.nulls += other.nulls;
        if let Some(from) = other.dropped_from {
            self.drop_from(self.dropped_from.map_or(from, |f| f.min(from)));
        }
        let rows = self.rows + other.rows;
        other.levels.iter().for_each(|(level, (_, n))| self.add(level, *n));
        self.rows = rows;
    }

    /// Levels by the bytes of their text, with counts.
    pub fn summary(&self) -> CategorySummary {
        let mut kept = self.clone();
        kept.prune();
        let mut levels: Vec<(String, u64)> =
            kept.levels.into_iter().map(|(level, (_, n))| (level, n)).collect();
        levels.sort_unstable();
        let held: u64 = levels.iter().map(|(_, n)| n).sum();
        CategorySummary { nulls: self.nulls, other: self.rows - held, levels }
    }

    /// Keeps the levels with the smallest hashes, at most [`MOST_LEVELS`].
    fn prune(&mut self) {
        if self.levels.len() > MOST_LEVELS {
            let mut hashes: Vec<u64> = self.levels.values().map(|(h, _)| *h).collect();
            hashes.sort_unstable();
            self.drop_from(hashes[MOST_LEVELS]);
        }
    }

    fn drop_from(&mut self, from: u64) {
        self.dropped_from = Some(from);
        self.levels.retain(|_, (h, _)| *h < from);
    }
}

/// A sketch as it is written down: the same for the same rows, whatever their order.
#[derive(Serialize, Deserialize)]
struct Written {
    nulls: u64,
    rows: u64,
    dropped_from: Option<u64>,
    /// By the bytes of their text.
    levels: Vec<(String, u64)>,
}

impl From<CategorySketch> for Written {
    fn from(mut sketch: CategorySketch) -> Written {
        sketch.prune();
        let mut levels: Vec<(String, u64)> = sketch.levels.into_iter().map(|(l, (_, n))| (l, n)).collect();
        levels.sort_unstable();
        Written { nulls: sketch.nulls, rows: sketch.rows, dropped_from: sketch.dropped_from, levels }
    }
}

impl From<Written> for CategorySketch {
    fn from(written: Written) -> CategorySketch {
        let Written { nulls, rows, dropped_from, levels } = written;
        let levels = levels.into_iter().map(|(level, n)| (hash(level.as_bytes()), level, n));
        let levels = levels.map(|(hash, level, n)| (level, (hash, n))).collect();
        CategorySketch { nulls, rows, levels, dropped_from }
    }
}

/// A column of text: levels by the bytes of their text, with counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategorySummary {
    pub nulls: u64,
    /// Rows of levels that were not kept.
    pub other: u64,
    pub levels: Vec<(String, u64)>,
}

impl CategorySummary {
    /// Rows: levels, others and nulls.
    pub fn rows(&self) -> u64 {
        self.nulls + self.other + self.levels.iter().map(|(_, n)| n).sum::<u64>()
    }

    /// Rows in each bin: one for each of `levels`, then "other", then null.
    pub fn bin_counts(&self, levels: &[String]) -> Vec<u64> {
        let place: HashMap<&str, usize> = levels.iter().enumerate().map(|(i, l)| (l.as_str(), i)).collect();
        let mut out = vec![0; levels.len() + 2];
        for (level, n) in &self.levels {
            out[place.get(level.as_str()).copied().unwrap_or(levels.len())] += n;
        }
        out[levels.len()] += self.other;
        out[levels.len() + 1] = self.nulls;
        out
    }

    /// The `most` most frequent levels of those with `least` rows, all others as "other"; what an owner may
    /// ship instead of rows.
    pub fn coarse(&self, most: usize, least: u64) -> CategorySummary {
        let mut order: Vec<&(String, u64)> = self.levels.iter().filter(|(_, n)| *n >= least).collect();
        order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut levels: Vec<(String, u64)> = order.into_iter().take(most).cloned().collect();
        levels.sort_unstable();
        let held: u64 = levels.iter().map(|(_, n)| n).sum();
        CategorySummary { nulls: self.nulls, other: self.rows() - self.nulls - held, levels }
    }
}
