//! `coldstart explain`: why one account got its class.
//!
//! The account is read from the target and scored again as the run did it, with what the run kept
//! ([`crate::job::kept`]); the label must come out as it was published. What the class would be without each
//! teacher follows from the same scores.

mod case;
mod row;
pub mod text;
pub mod views;

use arrow::array::{Array, AsArray, RecordBatch};
use serde_json::{Value, json};

use crate::commands::explain::case::Case;
use crate::commands::explain::row::{changed, row_of, unit_of};
use crate::commands::explain::views::{Decision, Explanation, Opinion};
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::job::published::Published;
use crate::job::{kept, remote};
use crate::lake::part;
use crate::lake::scan::ids;
use crate::lake::store::Real;
use crate::lake::store::files::read_json;
use crate::run::directory::{Directory, PUBLISHED};
use crate::sources::calculator_file;
use crate::sources::inputs::Inputs;
use crate::stages::artifacts::{CALCULATOR, COUNTED_PROFILE, FUSION};

/// The published label and the one made again are the same up to this.
const SAME: f64 = 1e-12;

/// Explains the account with this id (its text) as it was published for the date.
///
/// Nothing published, or no such account in what was: 66. Teachers or the account's features changed since:
/// 65.
pub fn explain(pipeline: &Pipeline, date: &str, id: &str) -> Result<Explanation> {
    remote::fetch_record(pipeline, date, &Real)?;
    let root = Directory::place(&pipeline.output_path(), &pipeline.name, date);
    let record = root.join(PUBLISHED);
    if !record.exists() {
        return Err(Error::new(Kind::Missing, "nothing was published for this date")
            .file(&record)
            .with("date", date));
    }
    let published: Published = read_json(&Real, &record)?;
    // commits that came since are nothing to the account as it was
    let pipeline = &pipeline.at_version(published.table_version());
    let folder = kept::open(&root, &published.explanation)?;
    let calculator = CALCULATOR.load_from(&Real, &folder)?;
    let inputs = Inputs::open(pipeline)?;
    if let Some((what, _)) = calculator.stale(&calculator_file::members(&inputs.teachers)?, &pipeline.classes)
    {
        return Err(changed(format!("the teachers are not those of the published run: {what}")));
    }
    let soft = published_row(pipeline, "soft_labels", date, id)?;
    let class = published_row(pipeline, "classification", date, id)?;
    let run_id = text_of(&class, "run_id")?.unwrap_or_default();
    if !published.key.starts_with(&run_id) || run_id.is_empty() {
        return Err(
            changed("the table was published by another run since".to_string()).with("run_id", run_id)
        );
    }
    let profile = COUNTED_PROFILE.load_from(&Real, &folder)?;
    let fusion = FUSION.load_from(&Real, &folder)?;
    let case = Case::read(pipeline, inputs, profile, calculator, &fusion, id)?;
    for (class, p) in pipeline.classes.iter().zip(&case.fused.label) {
        let then = part::floats(&soft, &format!("p_{class}"))?[0];
        if (p - then).abs() > SAME {
            return Err(changed(
                "the account is not as it was when the run was published: its label comes out otherwise"
                    .to_string(),
            )
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

fn account_id(row: &RecordBatch, id: &str) -> Value {
    let integer = row.column(0).data_type().is_integer();
    id.parse::<i128>()
        .ok()
        .filter(|_| integer)
        .and_then(|n| serde_json::from_str(&n.to_string()).ok())
        .unwrap_or_else(|| json!(id))
}

/// The account's row of a published table, the id first.
fn published_row(pipeline: &Pipeline, table: &str, date: &str, id: &str) -> Result<RecordBatch> {
    let tables = pipeline.tables();
    let accounts = tables.open(table, date)?;
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
    found.ok_or_else(|| {
        Error::new(Kind::Missing, "no account of the published table has this id")
            .file(tables.shown(table, date).shown())
            .column(key)
            .value(id)
    })
}

/// A text of the first row; none for null.
fn text_of(row: &RecordBatch, column: &str) -> Result<Option<String>> {
    let array = row
        .column_by_name(column)
        .ok_or_else(|| Error::data("the column is missing from the published table").column(column))?;
    let text = ids::as_text(array)?;
    let text = text.as_string::<i64>();
    Ok((!text.is_null(0)).then(|| text.value(0).to_string()))
}

fn decision(pipeline: &Pipeline, row: &RecordBatch) -> Result<Decision> {
    let p = pipeline
        .classes
        .iter()
        .map(|c| Ok((c.clone(), part::floats(row, &format!("p_{c}"))?[0])))
        .collect::<Result<_>>()?;
    Ok(Decision {
        decision: text_of(row, "decision")?.unwrap_or_default(),
        reason: text_of(row, "reason")?,
        by: text_of(row, "student")?.unwrap_or_default(),
        confidence: part::floats(row, "confidence")?[0],
        said: Opinion { class: text_of(row, "class")?.unwrap_or_default(), p },
    })
}
