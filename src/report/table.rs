//! A small published table, read whole: its columns by name, as numbers or as text.

use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type};

use crate::error::{Error, Result};
use crate::lake::part;

/// The rows of a date; none where nothing was published.
#[derive(Debug, Default)]
pub struct Table(Option<RecordBatch>);

impl Table {
    /// The rows of all parts of a date.
    pub fn read(parts: &[PathBuf]) -> Result<Table> {
        let mut batches = Vec::new();
        for file in parts {
            part::read(file, |batch| {
                batches.push(batch);
                Ok(())
            })?;
        }
        let Some(first) = batches.first() else { return Ok(Table(None)) };
        let schema = first.schema();
        Ok(Table(Some(
            concat_batches(&schema, &batches).map_err(|e| Error::data(e.to_string()).file(&parts[0]))?,
        )))
    }

    pub fn rows(&self) -> usize {
        self.0.as_ref().map_or(0, RecordBatch::num_rows)
    }

    /// A column as numbers; null where it is, and everywhere where the table lacks the column.
    pub fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        let column = self.column(name, &DataType::Float64);
        let values = column.as_ref().and_then(|c| c.as_primitive_opt::<Float64Type>());
        values.map_or_else(
            || vec![None; self.rows()],
            |v| v.iter().map(|v| v.filter(|v| v.is_finite())).collect(),
        )
    }

    /// A column as text, in the same way.
    pub fn texts(&self, name: &str) -> Vec<Option<String>> {
        let column = self.column(name, &DataType::Utf8);
        let values = column.as_ref().and_then(|c| c.as_string_opt::<i32>());
        values.map_or_else(|| vec![None; self.rows()], |v| v.iter().map(|v| v.map(str::to_string)).collect())
    }

    /// A number of the first row.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers(name).first().copied().flatten()
    }

    /// A text of the first row.
    pub fn text(&self, name: &str) -> Option<String> {
        self.texts(name).into_iter().next().flatten()
    }

    fn column(&self, name: &str, wanted: &DataType) -> Option<arrow::array::ArrayRef> {
        let column = self.0.as_ref()?.column_by_name(name)?;
        cast(column, wanted).ok()
    }
}
