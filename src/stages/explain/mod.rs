//! `coldstart explain`: why one account got its class.
//!
//! The account is read from the target and scored again as the run did it, with what the run kept ([`crate::run::explanation`]); the label must come out as it
//! was published. What the class would be without each teacher follows from the same scores.

mod case;
pub mod text;

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::calculator_file;
use super::relevance::Fusion;
use super::score::Scored;
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::accounts::{Accounts, Unit};
use crate::lake::store::Real;
use crate::lake::{ids, part, publish};
use crate::relevance::calculator::Calculator;
use crate::run::directory::{Directory, PUBLISHED, read_json};
use crate::run::explanation;
use crate::run::inputs::Inputs;
use crate::run::published::Published;
use case::Case;

/// The published label and the one made again are the same up to this.
const SAME: f64 = 1e-12;

/// Why an account got its class.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub status: &'static str,
    pub pipeline: String,
    pub date: String,
    pub run_id: String,
    pub account: Value,
    /// The soft label.
    pub label: Opinion,
    /// What `classification` says.
    pub decision: Decision,
    pub support: f64,
    /// Bits by which the teachers are apart.
    pub disagreement: f64,
    /// What moved the base rate.
    pub base_rate: String,
    pub rivals: Vec<Rival>,
    /// By weight.
    pub teachers: Vec<TeacherView>,
}

/// Probabilities, and the class of the largest.
#[derive(Debug, Clone, Serialize)]
pub struct Opinion {
    pub class: String,
    pub p: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
pub struct Decision {
    pub decision: String,
    pub reason: Option<String>,
    /// The student, or `fused` where the soft label decided.
    pub by: String,
    pub confidence: f64,
    #[serde(flatten)]
    pub said: Opinion,
}

#[derive(Debug, Serialize)]
pub struct Rival {
    pub name: &'static str,
    pub agrees: bool,
    #[serde(flatten)]
    pub said: Opinion,
}

/// What one teacher said, what that counted, and why.
#[derive(Debug, Serialize)]
pub struct TeacherView {
    pub teacher: String,
    pub scenario: String,
    /// The teacher that this one repeats; it was not asked then.
    pub same_as: Option<String>,
    pub weight: f64,
    pub raw: Opinion,
    /// As it entered the gate: calibrated, and moved to the common level where teachers are aligned.
    pub calibrated: Opinion,
    /// s_k(x): how much the account looks like the teacher's history, beside all scenarios.
    pub support: f64,
    /// Features that make the account like the teacher's history, and unlike it, with what each adds to the support.
    pub like: Vec<FeatureView>,
    pub unlike: Vec<FeatureView>,
    /// Mean distance of the history from the target in bits, and the features that are closest and furthest.
    pub target_js: f64,
    pub target_near: Vec<FeatureDistance>,
    pub target_far: Vec<FeatureDistance>,
    /// The soft label had this teacher never been asked.
    pub without: Opinion,
    pub changes_class: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureView {
    pub feature: String,
    pub value: Value,
    /// Its bin in words.
    pub bin: String,
    pub adds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureDistance {
    pub feature: String,
    pub js: f64,
}

/// Explains the account with this id (its text) as it was published for the date.
///
/// Nothing published, or no such account in what was: 66. Teachers or the account's features changed since: 65.
pub fn explain(pipeline: &Pipeline, date: &str, id: &str) -> Result<Explanation> {
    let root = Directory::place(&pipeline.output_path(), &pipeline.name, date);
    let record = root.join(PUBLISHED);
    if !record.exists() {
        return Err(Error::new(Kind::Missing, "nothing was published for this date").file(&record).with("date", date));
    }
    let published: Published = read_json(&Real, &record)?;
    let folder = explanation::open(&root, &published.explanation)?;
    let calculator: Calculator = read_json(&Real, &folder.join("calculator.json"))?;
    let inputs = Inputs::open(pipeline)?;
    if let Some((what, _)) = calculator.stale(&calculator_file::members(&inputs.teachers)?, &pipeline.classes) {
        return Err(changed(format!("the teachers are not those of the published run: {what}")));
    }
    let soft = published_row(pipeline, "soft_labels", date, id)?;
    let class = published_row(pipeline, "classification", date, id)?;
    let run_id = text_of(&class, "run_id")?.unwrap_or_default();
    if !published.key.starts_with(&run_id) || run_id.is_empty() {
        return Err(changed("the table was published by another run since".to_string()).with("run_id", run_id));
    }
    let scored: Scored = read_json(&Real, &folder.join("score.json"))?;
    let profile = match scored.reprofiled {
        Some(profile) => profile,
        None => read_json(&Real, &folder.join("profile.json"))?,
    };
    let fusion: Fusion = read_json(&Real, &folder.join("fusion.json"))?;
    let case = Case::read(pipeline, inputs, profile, calculator, &fusion, id)?;
    for (class, p) in pipeline.classes.iter().zip(&case.fused.label) {
        let then = part::floats(&soft, &format!("p_{class}"))?[0];
        if (p - then).abs() > SAME {
            return Err(changed("the account is not as it was when the run was published: its label comes out otherwise".to_string())
                .column(format!("p_{class}"))
                .value(format!("{p}, published {then}")));
        }
    }
    Ok(Explanation {
        status: "explained",
        pipeline: pipeline.name.clone(),
        date: date.to_string(),
        account: account_id(&soft, id),
        label: case.opinion(&case.fused.label),
        decision: decision(pipeline, &class)?,
        support: case.fused.support,
        disagreement: case.fused.disagreement,
        base_rate: fusion.base_rate.clone(),
        rivals: case.rivals(),
        teachers: case.teachers(),
        run_id,
    })
}

fn changed(what: String) -> Error {
    Error::data(what).hint("run again with --replace, then explain")
}

fn account_id(row: &RecordBatch, id: &str) -> Value {
    let integer = row.column(0).data_type().is_integer();
    id.parse::<i128>().ok().filter(|_| integer).and_then(|n| serde_json::from_str(&n.to_string()).ok()).unwrap_or_else(|| json!(id))
}

/// The account's row of a published table, the id first.
fn published_row(pipeline: &Pipeline, table: &str, date: &str, id: &str) -> Result<RecordBatch> {
    let folder = publish::partition(&pipeline.output_path(), table, date);
    if !folder.is_dir() {
        return Err(Error::new(Kind::Missing, "nothing was published for this date").file(&folder));
    }
    let accounts = Accounts::open(&folder)?;
    let key = &pipeline.target.id;
    let names = accounts.schema().fields().iter().map(|f| f.name().clone()).filter(|n| n != key);
    let columns: Vec<String> = [key.clone()].into_iter().chain(names).collect();
    let mut found = None;
    if let Some(unit) = unit_of(&accounts, key, id)? {
        accounts.read(unit, &columns, |batch, _| {
            if let Some(row) = row_of(&batch, id)? {
                found = Some(batch.slice(row, 1));
            }
            Ok(())
        })?;
    }
    found.ok_or_else(|| Error::new(Kind::Missing, "no account of the published table has this id").file(&folder).column(key).value(id))
}

/// The unit that holds the account, if any does.
fn unit_of<'a>(accounts: &'a Accounts, key: &str, id: &str) -> Result<Option<&'a Unit>> {
    let columns = [key.to_string()];
    accounts.field(key)?;
    let holds = |unit: &'a Unit| -> Result<Option<&'a Unit>> {
        let mut found = false;
        accounts.read(unit, &columns, |batch, _| {
            found |= row_of(&batch, id)?.is_some();
            Ok(())
        })?;
        Ok(found.then_some(unit))
    };
    accounts.units().par_iter().find_map_any(|unit| holds(unit).transpose()).transpose()
}

/// The row of the account in a batch whose first column is the id.
fn row_of(batch: &RecordBatch, id: &str) -> Result<Option<usize>> {
    let text = ids::as_text(batch.column(0))?;
    Ok(text.as_string::<i64>().iter().position(|found| found == Some(id)))
}

/// A text of the first row; none for null.
fn text_of(row: &RecordBatch, column: &str) -> Result<Option<String>> {
    let array = row.column_by_name(column).ok_or_else(|| Error::data("the column is missing from the published table").column(column))?;
    let text = ids::as_text(array)?;
    let text = text.as_string::<i64>();
    Ok((!text.is_null(0)).then(|| text.value(0).to_string()))
}

fn decision(pipeline: &Pipeline, row: &RecordBatch) -> Result<Decision> {
    let p = pipeline.classes.iter().map(|c| Ok((c.clone(), part::floats(row, &format!("p_{c}"))?[0]))).collect::<Result<_>>()?;
    Ok(Decision {
        decision: text_of(row, "decision")?.unwrap_or_default(),
        reason: text_of(row, "reason")?,
        by: text_of(row, "student")?.unwrap_or_default(),
        confidence: part::floats(row, "confidence")?[0],
        said: Opinion { class: text_of(row, "class")?.unwrap_or_default(), p },
    })
}
