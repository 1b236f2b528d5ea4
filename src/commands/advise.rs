//! `coldstart advise`: which accounts are worth most if they are labelled next.

use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field};
use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::csv;
use crate::lake::part::{self, Part, Purpose};
use crate::lake::scan::ids;
use crate::lake::store::files::replace;
use crate::lake::store::{Real, Store};
use crate::process::log::Log;
use crate::relevance::findings::advice::{Candidate, draw};
use crate::relevance::fusion::base_rate::LEAST_LABELS;
use crate::relevance::maths::probability::hash;
use crate::sources::labels::{LABEL, is_csv, read_labels};

/// Draws a batch of `most` accounts from the soft labels published for a date and writes it: the id,
/// `p_<class>`, `disagreement`, `chance`, at which the account was drawn, and an empty `label` to be filled in;
/// as CSV where the name says so. Accounts that `target.labels` already names are left out. No published partition: 66.
pub fn advise(
    pipeline: &Pipeline,
    date: &str,
    most: usize,
    seed: u64,
    out: &Path,
    log: &Log,
) -> Result<Value> {
    if most == 0 {
        return Err(Error::new(Kind::Usage, "--labels must be at least 1"));
    }
    if out.is_dir() {
        return Err(Error::new(Kind::CannotCreate, "the place of the batch is a directory").file(out));
    }
    if !is_csv(out) && out.extension().is_none_or(|e| e != "parquet") {
        return Err(Error::new(Kind::Usage, "the batch is written as CSV or Parquet")
            .with("argument", "--output")
            .value(out.display())
            .hint("end its name in .csv or .parquet"));
    }
    if most < LEAST_LABELS {
        log.warn(
            "advise",
            "target.labels is not used with so few labels",
            json!({"labels": most, "needed": LEAST_LABELS}),
        );
    }
    let tables = pipeline.tables();
    let files = tables.parts("soft_labels", date).map_err(|e| e.hint("coldstart run comes first"))?;
    let (candidates, places) = candidates(pipeline, &files, seed)?;
    if candidates.is_empty() {
        return Err(Error::data("every account of the published table is labelled already")
            .file(tables.shown("soft_labels", date).shown()));
    }
    let start = hash(&seed.to_le_bytes()) as f64 / 2f64.powi(64);
    let drawn = draw(&candidates, most, start);
    let wanted: Vec<(Row, f64)> = drawn.iter().map(|(i, chance)| (places[*i], *chance)).collect();
    let batch = collect(pipeline, &files, &wanted)?;
    replace(&Real, out, |beside| match is_csv(out) {
        true => write_csv(beside, &batch)
            .map_err(|e| Error::new(Kind::Io, format!("cannot write: {e}")).file(out)),
        false => {
            let mut part = Part::create(&Real, beside, &batch.schema(), Purpose::Published)?;
            part.write(&batch)?;
            part.finish()
        }
    })?;
    let expected: serde_json::Map<String, Value> = pipeline
        .classes
        .iter()
        .map(|c| {
            Ok((
                c.clone(),
                json!((part::floats(&batch, &format!("p_{c}"))?.iter().sum::<f64>() * 10.0).round() / 10.0),
            ))
        })
        .collect::<Result<_>>()?;
    Ok(json!({
        "status": "advised",
        "pipeline": pipeline.name,
        "date": date,
        "accounts": candidates.len(),
        "labels": batch.num_rows(),
        "seed": seed,
        "expected": expected,
        "batch": out.display().to_string(),
        "next": format!("fill in the column label, then run again with --set target.labels={}", out.display()),
    }))
}

/// The batch as CSV with a line of names.
fn write_csv(path: &Path, batch: &RecordBatch) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut file = Real.create(path)?;
    file.write_all(csv::line(batch.schema().fields().iter().map(|f| f.name().as_str())).as_bytes())?;
    let columns = batch
        .columns()
        .iter()
        .map(|c| cast(c, &DataType::LargeUtf8))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let texts: Vec<_> = columns.iter().map(|c| c.as_string::<i64>()).collect();
    for row in 0..batch.num_rows() {
        let fields = texts.iter().map(|t| if t.is_null(row) { "" } else { t.value(row) });
        file.write_all(csv::line(fields).as_bytes())?;
    }
    Ok(())
}

/// A row of the published soft labels: its file and its place there.
type Row = (usize, u32);

/// Every account that is not labelled yet, with its file and its row in it.
fn candidates(pipeline: &Pipeline, files: &[PathBuf], seed: u64) -> Result<(Vec<Candidate>, Vec<Row>)> {
    let labelled = match (&pipeline.target.labels, files.first()) {
        (Some(file), Some(part)) => {
            let like = part::data_type(part, &pipeline.target.id)?;
            read_labels(pipeline, &pipeline.resolve(file), &like)?
        }
        _ => hashbrown::HashMap::new(),
    };
    let named: Vec<String> = [pipeline.target.id.clone()]
        .into_iter()
        .chain(pipeline.classes.iter().map(|c| format!("p_{c}")))
        .collect();
    let names: Vec<&str> = named.iter().map(String::as_str).collect();
    let (mut candidates, mut places) = (Vec::new(), Vec::new());
    for (f, file) in files.iter().enumerate() {
        let mut row = 0u32;
        part::read_columns(file, Some(&names), |batch| {
            let id = batch.column_by_name(&pipeline.target.id);
            let id = id.ok_or_else(|| {
                Error::data("the id column is missing").file(file).column(&pipeline.target.id)
            })?;
            let (text, hashes) = (ids::as_text(id)?, ids::hashes(id)?);
            let p = probabilities(pipeline, &batch, file)?;
            let mut own = vec![0.0; p.len()];
            for (i, id) in text.as_string::<i64>().iter().enumerate() {
                if !id.is_some_and(|id| labelled.contains_key(id)) {
                    own.iter_mut().zip(&p).for_each(|(own, p)| *own = p[i]);
                    let key = hash(&[hashes[i].to_le_bytes(), seed.to_le_bytes()].concat());
                    candidates.push(Candidate::new(&own, key));
                    places.push((f, row + i as u32));
                }
            }
            row += batch.num_rows() as u32;
            Ok(())
        })?;
    }
    Ok((candidates, places))
}

fn probabilities<'a>(pipeline: &Pipeline, batch: &'a RecordBatch, file: &Path) -> Result<Vec<&'a [f64]>> {
    let column = |class: &String| {
        let name = format!("p_{class}");
        let missing = || {
            Error::data("the published table is of another pipeline: a column is missing")
                .file(file)
                .column(&name)
        };
        batch.column_by_name(&name).ok_or_else(missing).and_then(|_| part::floats(batch, &name))
    };
    pipeline.classes.iter().map(column).collect()
}

/// The rows drawn, in the order in which they were drawn.
fn collect(pipeline: &Pipeline, files: &[PathBuf], wanted: &[(Row, f64)]) -> Result<RecordBatch> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|i| wanted[*i].0);
    let mut parts = Vec::new();
    for (f, file) in files.iter().enumerate() {
        let mut row = 0u32;
        part::read(file, |batch| {
            let until = row + batch.num_rows() as u32;
            let here =
                order.iter().map(|i| wanted[*i].0).filter(|(file, r)| *file == f && (row..until).contains(r));
            let rows: UInt32Array = here.map(|(_, r)| Some(r - row)).collect();
            if !rows.is_empty() {
                parts.push(take_record_batch(&batch, &rows).map_err(|e| Error::bug(e.to_string()))?);
            }
            row = until;
            Ok(())
        })?;
    }
    let first = parts.first().ok_or_else(|| Error::bug("an empty batch"))?;
    let found = concat_batches(&first.schema(), &parts).map_err(|e| Error::bug(e.to_string()))?;
    // `found` is in the order of the files; back to the order drawn.
    let mut back = vec![0u32; order.len()];
    order.iter().zip(0u32..).for_each(|(i, at)| back[*i] = at);
    let found = take_record_batch(&found, &UInt32Array::from(back)).map_err(|e| Error::bug(e.to_string()))?;
    let id = found
        .schema()
        .field_with_name(&pipeline.target.id)
        .cloned()
        .map_err(|e| Error::bug(e.to_string()))?;
    let mut fields: Vec<Field> = vec![id.clone()];
    let mut columns = vec![found.column_by_name(id.name()).cloned().ok_or_else(|| Error::bug("no id"))?];
    for name in pipeline.classes.iter().map(|c| format!("p_{c}")).chain(["disagreement".to_string()]) {
        columns.push(part::float_array(part::floats(&found, &name)?.to_vec()));
        fields.push(part::float_field(name));
    }
    fields.push(part::float_field("chance"));
    columns.push(part::float_array(wanted.iter().map(|w| w.1).collect()));
    // to be filled in: the file can be handed back as it is
    fields.push(Field::new(LABEL, DataType::Utf8, true));
    columns.push(new_null_array(&DataType::Utf8, wanted.len()));
    part::batch(&part::schema(fields), columns)
}
