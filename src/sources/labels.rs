//! A file of labelled accounts of the target.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::scan::{Accounts, ids, read_all};

/// The class of each labelled account, by the text of its id; the accounts' own id column is of type `like`.
pub fn read_labels(pipeline: &Pipeline, path: &Path, like: &DataType) -> Result<HashMap<String, u16>> {
    let id = &pipeline.target.id;
    let table = Accounts::open(path)?;
    for column in [id.as_str(), "label"] {
        table.field(column)?;
    }
    let batch = read_all(&table, &[id.clone(), "label".to_string()])?;
    let text = ids::as_text_like(batch.column(0), like).map_err(|e| e.file(path).column(id))?;
    let label = ids::as_text(batch.column(1)).map_err(|e| e.file(path).column("label"))?;
    let (text, label) = (text.as_string::<i64>(), label.as_string::<i64>());
    let mut out = HashMap::new();
    for row in 0..text.len() {
        let refuse =
            |what: &str, column: &str, value: &str| Error::data(what).file(path).column(column).value(value);
        if text.is_null(row) || label.is_null(row) {
            return Err(refuse("a labelled account without id or label", id, "null"));
        }
        let class = pipeline.classes.iter().position(|c| c == label.value(row));
        let class =
            class.ok_or_else(|| refuse("a label is none of the classes", "label", label.value(row)))?;
        if out.insert(text.value(row).to_string(), class as u16).is_some() {
            return Err(refuse("an account is labelled twice", id, text.value(row)));
        }
    }
    Ok(out)
}
