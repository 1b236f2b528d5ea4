//! What each teacher takes beside what the target holds, before anything runs: types from the footers, values from
//! rows spread over all.

use serde::Serialize;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::features::block::Feature;
use crate::features::column::{self, Kind};
use crate::lake::scan::Accounts;
use crate::relevance::profile::known::Known;
use crate::relevance::profile::profiles::Summary;
use crate::sources::sketch::Sketch;
use crate::sources::trial;
use crate::teacher::Teacher;
use crate::teacher::features::fits;

/// Rows of the target, and of each history, that are looked at.
const ROWS: usize = 4000;

/// A feature of a teacher against the target.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub feature: String,
    pub takes: Kind,
    /// The column's type; none where the target lacks it.
    pub column: Option<String>,
    /// Shares of the rows that were looked at: nulls, and values that the teacher does not know. A number is known
    /// within the ordinary range of the teacher's history.
    pub nulls: Option<f64>,
    pub unknown: Option<f64>,
    /// The same in the teacher's own history.
    pub nulls_at_home: Option<f64>,
    pub unknown_at_home: Option<f64>,
    /// Whether so much less is known than in the history that the column counts as lost.
    pub lost: bool,
    /// Why a run refuses it.
    pub refused: Option<String>,
}

/// Every feature of every teacher, in the order of the teachers; and the refusal that a run would end with, which
/// names all that does not fit.
pub fn survey(
    pipeline: &Pipeline,
    accounts: &Accounts,
    teachers: &[Teacher],
) -> Result<(Vec<Vec<Finding>>, Option<Error>)> {
    let mut refusals = Vec::new();
    let mut all = Vec::new();
    for teacher in teachers {
        let mut features = Vec::new();
        let mut refused = Vec::new();
        for spec in &teacher.bundle.features {
            let error = fits(spec, accounts).err();
            let present = error.is_none() && accounts.find(&spec.name).is_some();
            features.push(Feature { name: spec.name.clone(), kind: spec.kind, present });
            refused.push(error);
        }
        let target = summaries(accounts, &features)?;
        let home = match teacher.bundle.history_path() {
            Some(place) => Accounts::open(&place)
                .and_then(|history| summaries(&history, &features))
                .map_err(|e| e.with("teacher", teacher.name()))?,
            None => features.iter().map(|_| None).collect(),
        };
        let mut findings = Vec::new();
        for (j, spec) in teacher.bundle.features.iter().enumerate() {
            let known = target[j].as_ref().map(|summary| {
                let name = (teacher.name(), spec.name.as_str());
                Known::of(name, &spec.values, summary, home[j].as_ref(), pipeline.target.known_fall)
            });
            let field = accounts.find(&spec.name);
            let error = refused[j].take();
            findings.push(Finding {
                feature: spec.name.clone(),
                takes: spec.kind,
                column: field.map(|f| column::name_of(f.data_type())),
                nulls: known.as_ref().map(|k| k.nulls),
                unknown: known.as_ref().map(|k| unknown(k.share, k.nulls)),
                nulls_at_home: known.as_ref().and_then(|k| k.nulls_at_home),
                unknown_at_home: known.as_ref().and_then(|k| Some(unknown(k.at_home?, k.nulls_at_home?))),
                lost: known.as_ref().is_some_and(|k| k.lost),
                refused: error.as_ref().map(|e| e.message().to_string()),
            });
            refusals.extend(error.map(|e| e.column(&spec.name).with("teacher", teacher.name())));
        }
        all.push(findings);
    }
    Ok((all, refusal(refusals).map(|e| e.file(accounts.place()))))
}

fn unknown(share: f64, nulls: f64) -> f64 {
    (1.0 - share - nulls).max(0.0)
}

/// The first refusal, and the names of what else is refused.
fn refusal(refusals: Vec<Error>) -> Option<Error> {
    let name = |e: &Error| {
        let said = |key| e.context().iter().find(|(k, _)| *k == key).map_or("", |(_, v)| v.as_str());
        format!("{} of {}", said("column"), said("teacher"))
    };
    let others: Vec<String> = refusals.iter().skip(1).map(name).collect();
    let first = refusals.into_iter().next()?;
    Some(if others.is_empty() { first } else { first.with("and", others.join(", ")) })
}

/// A summary of some rows for each feature that is present; none of a target whose filter leaves no row.
fn summaries(accounts: &Accounts, features: &[Feature]) -> Result<Vec<Option<Summary>>> {
    let has = |f: &Feature| {
        let field = accounts.find(&f.name);
        f.present && field.is_some_and(|field| column::readable(f.kind, field.data_type()))
    };
    let features: Vec<Feature> = features.iter().map(|f| Feature { present: has(f), ..f.clone() }).collect();
    let names: Vec<String> = features.iter().filter(|f| f.present).map(|f| f.name.clone()).collect();
    if names.is_empty() {
        return Ok(features.iter().map(|_| None).collect());
    }
    accounts.check(&names)?;
    let Some(batch) = trial::spaced(accounts, &names, ROWS)? else {
        return Ok(features.iter().map(|_| None).collect());
    };
    let block = trial::decode(accounts, &batch, &features)?;
    let summary = |(feature, column): (&Feature, &column::Column)| {
        let mut sketch = Sketch::new(feature.kind);
        sketch.add(column);
        feature.present.then(|| sketch.summary())
    };
    Ok(features.iter().zip(&block.columns).map(summary).collect())
}
