//! One date's sketches against another's.

use crate::drift::sketches::{FeatureSketch, ScoreSketch};
use crate::error::Result;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::distance::{feature_distance, summary_wasserstein};
use crate::relevance::profile::profiles::{FeatureProfile, Summary};

/// How far a column has moved since an earlier date.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// Jensen-Shannon divergence in bits, population stability index, Kolmogorov-Smirnov (numbers) or total variation (categories), all on common bins.
    pub js: f64,
    pub psi: f64,
    pub ks: f64,
    /// Wasserstein-1 distance in pooled standard deviations; of numbers alone.
    pub wasserstein: Option<f64>,
    pub null_share: f64,
    pub null_share_before: f64,
    /// Share of rows whose level the earlier date did not have, or whose number lies outside its range.
    pub unknown_share: f64,
}

/// A feature now against the same feature before; a number that became text, or the other way round, shares no value with what it was.
pub fn feature(before: &FeatureSketch, now: &FeatureSketch) -> Result<Moved> {
    let found = match (&before.summary, &now.summary) {
        (Summary::Number(_), Summary::Category(_)) | (Summary::Category(_), Summary::Number(_)) => {
            feature_distance(&[before.summary.rows(), 0], &[0, now.summary.rows()], false)
        }
        (then, is) => {
            let profile = FeatureProfile::new(&now.name, &[then], Some(is))?;
            let ordered = matches!(profile.bins, Bins::Number(_));
            let then = &profile.histories[0];
            feature_distance(then, profile.target.as_ref().unwrap_or(then), ordered)
        }
    };
    Ok(Moved {
        js: found.js,
        psi: found.psi,
        ks: found.ks,
        wasserstein: summary_wasserstein(&before.summary, &now.summary),
        null_share: null_share(&now.summary),
        null_share_before: null_share(&before.summary),
        unknown_share: unknown_share(&before.summary, &now.summary),
    })
}

/// A score now against the same score before.
pub fn score(before: &ScoreSketch, now: &ScoreSketch) -> Result<Moved> {
    let column = |s: &ScoreSketch| FeatureSketch {
        name: s.score.clone(),
        summary: Summary::Number(s.summary.clone()),
    };
    feature(&column(before), &column(now))
}

/// Share of null, or not a number, among all rows.
pub fn null_share(summary: &Summary) -> f64 {
    let nulls = match summary {
        Summary::Number(s) => s.missing(),
        Summary::Category(s) => s.nulls,
    };
    nulls as f64 / summary.rows().max(1) as f64
}

fn unknown_share(before: &Summary, now: &Summary) -> f64 {
    let rows = now.rows().max(1) as f64;
    match (before, now) {
        (Summary::Number(before), Summary::Number(now)) => {
            let (Some(low), Some(high)) = (before.min, before.max) else { return now.n as f64 / rows };
            let outside = |v: f64| v < low || v > high;
            now.values
                .iter()
                .zip(&now.counts)
                .filter(|(v, _)| outside(**v))
                .map(|(_, n)| *n as f64)
                .sum::<f64>()
                / rows
        }
        (Summary::Category(before), Summary::Category(now)) => {
            let known: Vec<String> = before.levels.iter().map(|(level, _)| level.clone()).collect();
            let elsewhere = now.bin_counts(&known)[known.len()] as f64 / rows;
            // levels that were too rare to be kept by name are not new
            (elsewhere - before.other as f64 / before.rows().max(1) as f64).max(0.0)
        }
        _ => 1.0 - null_share(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relevance::profile::categories::CategorySketch;
    use crate::relevance::profile::numbers::NumberSketch;

    fn numbers(values: &[f64], nulls: u64) -> FeatureSketch {
        let mut sketch = NumberSketch::default();
        sketch.add_all(values);
        sketch.add_nulls(nulls);
        FeatureSketch::new("x", &Summary::Number(sketch.summary()))
    }

    fn levels(of: &[(&str, u64)]) -> FeatureSketch {
        let mut sketch = CategorySketch::default();
        of.iter().for_each(|(level, n)| sketch.add(level, *n));
        FeatureSketch::new("x", &Summary::Category(sketch.summary()))
    }

    #[test]
    fn a_column_that_stays_is_at_distance_zero_and_one_that_moves_is_not() {
        let then: Vec<f64> = (0..1000).map(f64::from).collect();
        let same = feature(&numbers(&then, 10), &numbers(&then, 10)).unwrap();
        assert!(
            same.js == 0.0 && same.psi == 0.0 && same.wasserstein == Some(0.0) && same.unknown_share == 0.0,
            "{same:?}"
        );
        let now: Vec<f64> = (500..1500).map(f64::from).collect();
        let moved = feature(&numbers(&then, 0), &numbers(&now, 1000)).unwrap();
        assert!(moved.js > 0.2 && moved.ks > 0.4, "{moved:?}");
        assert_eq!((moved.null_share, moved.null_share_before), (0.5, 0.0));
        assert!((moved.unknown_share - 0.25).abs() < 0.01, "{moved:?}");
    }

    #[test]
    fn a_new_level_is_unknown_and_a_changed_kind_shares_nothing() {
        let moved = feature(&levels(&[("a", 90), ("b", 10)]), &levels(&[("a", 60), ("c", 40)])).unwrap();
        assert!((moved.unknown_share - 0.4).abs() < 1e-12 && (moved.ks - 0.4).abs() < 1e-12, "{moved:?}");
        let other = feature(&levels(&[("1", 100)]), &numbers(&[1.0; 100], 0)).unwrap();
        assert_eq!(other.unknown_share, 1.0);
    }
}
