//! Label files of the target: the id column and `label`, the class name as text, as Parquet or as CSV with a
//! line of names.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use crate::config::Pipeline;
use crate::error::{Error, Result, nearest};
use crate::lake::csv;
use crate::lake::scan::{Accounts, ids, read_all};

/// The column of labels.
pub const LABEL: &str = "label";

/// Whether the name says CSV.
pub fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
}

/// The class of each labelled account, by the text of its id; the accounts' own id column is of type `like`. A
/// row whose label is null or empty is one that nobody has filled in, and is left out.
pub fn read_labels(pipeline: &Pipeline, path: &Path, like: &DataType) -> Result<HashMap<String, u16>> {
    let id = &pipeline.target.id;
    let columns = [id.clone(), LABEL.to_string()];
    let batch = if is_csv(path) { read_csv(path, &columns)? } else { read_parquet(path, &columns)? };
    let text = ids::as_text_like(batch.column(0), like).map_err(|e| e.file(path).column(id))?;
    let label = ids::as_text(batch.column(1)).map_err(|e| e.file(path).column(LABEL))?;
    let (text, label) = (text.as_string::<i64>(), label.as_string::<i64>());
    let mut out = HashMap::new();
    for row in 0..text.len() {
        let refuse =
            |what: &str, column: &str, value: &str| Error::data(what).file(path).column(column).value(value);
        if label.is_null(row) || label.value(row).is_empty() {
            continue;
        }
        if text.is_null(row) {
            return Err(refuse("a labelled account without an id", id, "null"));
        }
        let class = pipeline.classes.iter().position(|c| c == label.value(row));
        let class = class.ok_or_else(|| {
            let error = refuse("a label is none of the classes", LABEL, label.value(row));
            error
                .with("classes", pipeline.classes.join(", "))
                .hint(remedy(&pipeline.classes, label.value(row)))
        })?;
        if out.insert(text.value(row).to_string(), class as u16).is_some() {
            return Err(refuse("an account is labelled twice", id, text.value(row)));
        }
    }
    match out.is_empty() && text.len() > 0 {
        true => {
            Err(Error::data("no row has a label: the column is empty everywhere").file(path).column(LABEL))
        }
        false => Ok(out),
    }
}

/// What to do about a label that is no class.
pub fn remedy(classes: &[String], label: &str) -> String {
    match (label.parse::<f64>().is_ok() || label == "true" || label == "false", classes) {
        (true, [first, second]) => format!(
            "write the class names as text; if 0 is {first} and 1 is {second}, in SQL: case label when 0 then '{first}' else '{second}' end as label"
        ),
        (true, _) => "write the class names as text, not their numbers".to_string(),
        (false, _) => match nearest(classes.iter().map(String::as_str), label) {
            Some(near) => format!("did you mean {near:?}? Labels are written as the pipeline's classes are"),
            None => "labels are written as the pipeline's classes are".to_string(),
        },
    }
}

fn read_parquet(path: &Path, columns: &[String]) -> Result<RecordBatch> {
    let table = Accounts::open(path)?;
    for column in columns {
        table.field(column)?;
    }
    read_all(&table, columns)
}

/// The columns as text.
fn read_csv(path: &Path, columns: &[String]) -> Result<RecordBatch> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(&e, "cannot open the labels", path))?;
    let records =
        csv::records(&bytes).map_err(|e| Error::data(format!("cannot be read as CSV: {e}")).file(path))?;
    let (names, rows) = records.split_first().ok_or_else(|| Error::data("the file is empty").file(path))?;
    let place = |column: &String| {
        names.iter().position(|n| n == column).ok_or_else(|| {
            Error::data("the column is missing")
                .file(path)
                .column(column)
                .with("found", names.join(", "))
                .hint("the first line names the columns, separated by commas: the id and label")
        })
    };
    let places = columns.iter().map(place).collect::<Result<Vec<usize>>>()?;
    let column = |at: &usize| {
        let fields = rows.iter().map(|row| row.get(*at).map(String::as_str).filter(|v| !v.is_empty()));
        fields.collect::<StringArray>()
    };
    let arrays = columns.iter().zip(&places).map(|(name, at)| (name, Arc::new(column(at)) as ArrayRef, true));
    RecordBatch::try_from_iter_with_nullable(arrays).map_err(|e| Error::data(e.to_string()).file(path))
}
