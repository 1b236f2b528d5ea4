//! How much of a column a teacher knows: a column whose values came to mean nothing is seen here, while the
//! teacher's scores on it look as sure as ever.

use serde::{Deserialize, Serialize};

use crate::relevance::profile::profiles::Summary;

/// Quantiles whose outer two bound the values that a history calls ordinary: its first and last hundredth.
const QUANTILES: usize = 50;
/// A number that spreads over less than this share of its spread in the history is as good as constant.
const SQUEEZED: f64 = 0.05;

/// What a teacher knows of one feature on the target, beside its own history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub teacher: String,
    pub feature: String,
    /// Share of the target's rows whose value it knows: a level among those that it tells apart, a number
    /// within the ordinary range of its history; a null is not known.
    pub share: f64,
    /// The same on its own history; none without one.
    pub at_home: Option<f64>,
    pub nulls: f64,
    pub nulls_at_home: Option<f64>,
    /// Whether a number that varies in the history does so no more.
    pub constant: bool,
    /// Whether the share fell by more than was allowed, or the column is constant.
    pub lost: bool,
}

impl Known {
    /// `levels` are those that the teacher tells apart, if it says so. The column is lost where the share is
    /// more than `fall` below that of the history, or, without a history, below 1.
    pub fn of(
        (teacher, feature): (&str, &str),
        levels: &[String],
        target: &Summary,
        home: Option<&Summary>,
        fall: f64,
    ) -> Known {
        let share = known(target, levels, home);
        let at_home = home.map(|h| known(h, levels, home));
        let constant = home.is_some_and(|home| is_squeezed(target, home));
        // Without a history nobody knows what numbers are ordinary, and levels may always have been missing.
        let compared = at_home.or((!levels.is_empty()).then_some(1.0));
        let fell = compared.is_some_and(|before| before - share > fall);
        Known {
            teacher: teacher.to_string(),
            feature: feature.to_string(),
            share,
            at_home,
            nulls: nulls(target),
            nulls_at_home: home.map(nulls),
            constant,
            lost: fell || constant,
        }
    }
}

fn part(rows: u64, of: u64) -> f64 {
    rows as f64 / of.max(1) as f64
}

fn nulls(summary: &Summary) -> f64 {
    let nulls = match summary {
        Summary::Number(s) => s.missing(),
        Summary::Category(s) => s.nulls,
    };
    part(nulls, summary.rows())
}

/// The share of rows with a known value.
fn known(summary: &Summary, levels: &[String], home: Option<&Summary>) -> f64 {
    let rows = match (summary, home) {
        (Summary::Number(s), Some(Summary::Number(home))) => {
            let ordinary = home.order_statistics(QUANTILES);
            match (ordinary.first(), ordinary.last()) {
                (Some(low), Some(high)) => {
                    let inside = |v: &f64| (low..=high).contains(&v);
                    s.values.iter().zip(&s.counts).filter(|(v, _)| inside(v)).map(|(_, n)| n).sum()
                }
                _ => s.n,
            }
        }
        (Summary::Number(s), _) => s.n,
        (Summary::Category(s), home) => {
            let at_home: hashbrown::HashSet<&str> = match home {
                Some(Summary::Category(home)) if levels.is_empty() => {
                    home.levels.iter().map(|(level, _)| level.as_str()).collect()
                }
                _ => levels.iter().map(String::as_str).collect(),
            };
            let all = at_home.is_empty();
            let is_known = |level: &str| all || at_home.contains(level);
            s.levels.iter().filter(|(level, _)| is_known(level)).map(|(_, n)| n).sum::<u64>()
                + if all { s.other } else { 0 }
        }
    };
    part(rows, summary.rows())
}

/// Whether a number's ordinary values lie far closer together than in the history.
fn is_squeezed(target: &Summary, home: &Summary) -> bool {
    let spread = |s: &Summary| match s {
        Summary::Number(s) => {
            let ordinary = s.order_statistics(QUANTILES);
            ordinary.first().zip(ordinary.last()).map(|(low, high)| high - low)
        }
        Summary::Category(_) => None,
    };
    // A few rows may be alike by chance.
    let few = target.rows() < 2 * QUANTILES as u64;
    match (spread(target), spread(home)) {
        (Some(now), Some(then)) if !few => then > 0.0 && now < SQUEEZED * then,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relevance::profile::categories::CategorySketch;
    use crate::relevance::profile::numbers::NumberSketch;

    fn numbers(values: impl Iterator<Item = f64>) -> Summary {
        let mut sketch = NumberSketch::default();
        sketch.add_all(&values.collect::<Vec<_>>());
        Summary::Number(sketch.summary())
    }

    fn levels(of: &[(&str, u64)], nulls: u64) -> Summary {
        let mut sketch = CategorySketch::default();
        of.iter().for_each(|(level, n)| sketch.add(level, *n));
        sketch.add_nulls(nulls);
        Summary::Category(sketch.summary())
    }

    #[test]
    fn emptied_padded_and_scaled_columns_are_lost_and_others_are_not() {
        let home = numbers((0..1000).map(f64::from));
        let lost = |target: Summary| Known::of(("t", "f"), &[], &target, Some(&home), 0.3).lost;
        assert!(!lost(numbers((0..1000).map(|i| f64::from(i) * 1.1))));
        assert!(!lost(numbers((0..1000).map(|i| f64::from(i) / 2.0))));
        assert!(lost(numbers((0..1000).map(|i| f64::from(i) * 100.0))));
        assert!(lost(numbers((0..1000).map(|i| f64::from(i) / 100.0))));
        assert!(lost(numbers((0..1000).map(|_| 500.0))));
        let known = ["a".to_string(), "b".to_string()];
        let home = levels(&[("a", 600), ("b", 390)], 10);
        let of = |target: Summary| Known::of(("t", "f"), &known, &target, Some(&home), 0.3);
        assert!(of(levels(&[("A", 600), ("B", 400)], 0)).lost);
        assert!(of(levels(&[("a   ", 600), ("b   ", 400)], 0)).lost);
        assert!(of(levels(&[], 1000)).lost);
        let one = of(levels(&[("a", 900), ("c", 100)], 0));
        assert_eq!((one.lost, one.share, one.at_home), (false, 0.9, Some(0.99)));
    }
}
