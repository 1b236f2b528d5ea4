//! The labelled history of `coldstart teacher add`.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::commands::add::request::{Request, ask};
use crate::error::{Error, Result};
use crate::features::column;
use crate::lake::scan::{Accounts, read_all};
use crate::sources::history::no_label;

/// A labelled history, opened.
pub struct History {
    pub accounts: Accounts,
    pub label: String,
    /// Rows of each label, as text.
    pub counts: BTreeMap<String, u64>,
    /// Rows that were not held out of training.
    pub training_rows: u64,
}

impl History {
    /// Opens the history that was typed and counts its labels.
    pub fn open(request: &Request) -> Result<Option<History>> {
        let Some(path) = &request.history else { return Ok(None) };
        let accounts = Accounts::open(path)?;
        let columns =
            accounts.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        let label = request.label.clone().ok_or_else(|| {
            ask(
                "the history has a column of labels, which is not named",
                "--label",
                format!("--label COLUMN, of: {columns}"),
            )
        })?;
        accounts.field(&label)?;
        let refuse = |e: Error| e.file(accounts.place()).column(&label);
        let batch = read_all(&accounts, std::slice::from_ref(&label))?;
        let text = column::label_texts(batch.column(0)).map_err(refuse)?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (row, label) in text.iter().enumerate() {
            let label = label.ok_or_else(|| refuse(no_label(row)))?;
            match counts.get_mut(label) {
                Some(n) => *n += 1,
                None => drop(counts.insert(label.to_string(), 1)),
            }
            if counts.len() > MOST_LABELS {
                return Err(refuse(
                    Error::data("the column has too many values to be one of labels").value(label),
                ));
            }
        }
        if let (Some(only), 1) = (counts.keys().next(), counts.len()) {
            let refused =
                Error::data("all rows have the same label: the history tells no class from another");
            return Err(refuse(refused.value(only)).hint(
                "give the rows of the other classes too, or leave --history out and say --rows and --classes",
            ));
        }
        let mut training_rows = text.len() as u64;
        if let Some(held_out) = &request.held_out {
            let flags = read_all(&accounts, std::slice::from_ref(held_out))?.column(0).clone();
            let flags = flags.as_boolean_opt().ok_or_else(|| {
                Error::data("held_out is not boolean").file(accounts.place()).column(held_out)
            })?;
            training_rows -= flags.true_count() as u64;
        }
        Ok(Some(History { accounts, label, counts, training_rows }))
    }

    /// The distinct values of a column, as text.
    pub fn values(&self, column: &str) -> Result<Vec<String>> {
        let batch = read_all(&self.accounts, &[column.to_string()])?;
        let text = cast(batch.column(0), &DataType::Utf8);
        let text = text.map_err(|e| Error::data(format!("cannot be read as text: {e}")).column(column))?;
        let values: BTreeSet<&str> = text.as_string::<i32>().iter().flatten().collect();
        Ok(values.into_iter().map(str::to_string).collect())
    }

    /// Columns that may be features, and whether each is text.
    pub fn candidates(&self, request: &Request) -> Vec<(String, bool)> {
        let is_out = |name: &String| {
            *name == self.label || request.held_out.as_ref() == Some(name) || request.leave_out.contains(name)
        };
        let fields = self.accounts.schema().fields().iter().filter(|f| !is_out(f.name()));
        fields.map(|f| (f.name().clone(), is_text_type(f.data_type()))).collect()
    }
}

/// More values than classes ever are.
const MOST_LABELS: usize = 10_000;

/// Whether a column holds text.
pub fn is_text_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text_type(values),
        _ => false,
    }
}
