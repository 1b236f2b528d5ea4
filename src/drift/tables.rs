//! The tables `feature_drift`, `score_drift` and `class_shares`: this date against the first date of the pipeline and against the date before.
//!
//! Long, as monitors want it: a row for each feature (score, class) and reference. On the first date itself the reference is that date, at distance zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use crate::drift::compare::{self, Moved};
use crate::drift::sketches::{FeatureSketch, ScoreSketches};
use crate::error::{Error, Result};
use crate::relevance::profile::distance::feature_distance;

/// What is known of one date.
#[derive(Debug, Clone)]
pub struct Day {
    pub date: String,
    pub features: Vec<FeatureSketch>,
    pub scores: ScoreSketches,
    /// Accounts of each class.
    pub classes: BTreeMap<String, u64>,
}

/// The date with what it is compared with.
pub struct Days<'a> {
    pub now: &'a Day,
    /// `first` or `previous`, and that date.
    pub references: Vec<(&'static str, &'a Day)>,
}

impl<'a> Days<'a> {
    /// `earlier`, ascending: only its first and its last are looked at.
    pub fn new(now: &'a Day, first: Option<&'a Day>, previous: Option<&'a Day>) -> Days<'a> {
        let mut references = vec![("first", first.unwrap_or(now))];
        references.extend(previous.map(|day| ("previous", day)));
        Days { now, references }
    }

    /// A row for each feature and reference; distances are null where the reference has no such feature.
    pub fn feature_drift(&self) -> Result<RecordBatch> {
        let mut rows = Vec::new();
        for (against, day) in &self.references {
            for feature in &self.now.features {
                let before = day.features.iter().find(|f| f.name == feature.name);
                let moved = before.map(|before| compare::feature(before, feature)).transpose()?;
                let nulls = compare::null_share(&feature.summary);
                rows.push((
                    feature.name.as_str(),
                    *against,
                    day.date.as_str(),
                    feature.summary.rows(),
                    nulls,
                    moved,
                ));
            }
        }
        let of = |get: fn(&Moved) -> Option<f64>| maybe(rows.iter().map(|r| r.5.as_ref().and_then(get)));
        batch(vec![
            ("feature", text(rows.iter().map(|r| r.0))),
            ("against", text(rows.iter().map(|r| r.1))),
            ("against_date", text(rows.iter().map(|r| r.2))),
            ("rows", count(rows.iter().map(|r| r.3))),
            ("js", of(|m| Some(m.js))),
            ("psi", of(|m| Some(m.psi))),
            ("ks", of(|m| Some(m.ks))),
            ("wasserstein", of(|m| m.wasserstein)),
            ("null_share", maybe(rows.iter().map(|r| Some(r.4)))),
            ("null_share_before", of(|m| Some(m.null_share_before))),
            ("unknown_share", of(|m| Some(m.unknown_share))),
        ])
    }

    /// A row for each score (`label`, or a teacher), class and reference, on a sample of the accounts.
    pub fn score_drift(&self) -> Result<RecordBatch> {
        let mut rows = Vec::new();
        for (against, day) in &self.references {
            for score in &self.now.scores.scores {
                let before =
                    day.scores.scores.iter().find(|s| s.score == score.score && s.class == score.class);
                let moved = before.map(|before| compare::score(before, score)).transpose()?;
                rows.push((score, *against, day.date.as_str(), before.map(|b| b.mean), moved));
            }
        }
        let of = |get: fn(&Moved) -> Option<f64>| maybe(rows.iter().map(|r| r.4.as_ref().and_then(get)));
        batch(vec![
            ("score", text(rows.iter().map(|r| r.0.score.as_str()))),
            ("class", text(rows.iter().map(|r| r.0.class.as_str()))),
            ("against", text(rows.iter().map(|r| r.1))),
            ("against_date", text(rows.iter().map(|r| r.2))),
            ("rows", count(rows.iter().map(|r| r.0.summary.rows()))),
            ("mean", maybe(rows.iter().map(|r| Some(r.0.mean)))),
            ("mean_before", maybe(rows.iter().map(|r| r.3))),
            ("js", of(|m| Some(m.js))),
            ("psi", of(|m| Some(m.psi))),
            ("ks", of(|m| Some(m.ks))),
            ("wasserstein", of(|m| m.wasserstein)),
        ])
    }

    /// A row for each class and reference; `psi` is of all classes together, the same in each row of a reference.
    pub fn class_shares(&self, classes: &[String]) -> Result<RecordBatch> {
        let counted = |day: &Day| {
            classes.iter().map(|c| day.classes.get(c).copied().unwrap_or(0)).collect::<Vec<u64>>()
        };
        let share = |counts: &[u64], i: usize| counts[i] as f64 / counts.iter().sum::<u64>().max(1) as f64;
        let now = counted(self.now);
        let mut rows = Vec::new();
        for (against, day) in &self.references {
            let before = counted(day);
            let psi = feature_distance(&before, &now, false).psi;
            for (i, class) in classes.iter().enumerate() {
                let expected = self.now.scores.expected.get(i).copied();
                rows.push((
                    class.as_str(),
                    *against,
                    day.date.as_str(),
                    now[i],
                    share(&now, i),
                    share(&before, i),
                    expected,
                    psi,
                ));
            }
        }
        batch(vec![
            ("class", text(rows.iter().map(|r| r.0))),
            ("against", text(rows.iter().map(|r| r.1))),
            ("against_date", text(rows.iter().map(|r| r.2))),
            ("accounts", count(rows.iter().map(|r| r.3))),
            ("share", maybe(rows.iter().map(|r| Some(r.4)))),
            ("share_before", maybe(rows.iter().map(|r| Some(r.5)))),
            ("expected_share", maybe(rows.iter().map(|r| r.6))),
            ("psi", maybe(rows.iter().map(|r| Some(r.7)))),
        ])
    }
}

fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn count(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|v| v as i64)))
}

fn maybe(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    // only numbers can be null
    let nullable = columns.into_iter().map(|(name, array)| {
        let floats = array.data_type() == &arrow::datatypes::DataType::Float64;
        (name, array, floats)
    });
    RecordBatch::try_from_iter_with_nullable(nullable).map_err(|e: ArrowError| Error::bug(e.to_string()))
}
