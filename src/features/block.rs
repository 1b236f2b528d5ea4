//! A batch of accounts, decoded: one column for each feature that some teacher takes.

use arrow::array::RecordBatch;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::features::column::{self, Column, Kind, NonFinite};

/// A feature that some teacher takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    pub name: String,
    pub kind: Kind,
    /// Whether the scenario at hand has the column; all null otherwise.
    pub present: bool,
}

/// Where each of some names stands, for tables of thousands of columns; of two alike the first counts.
pub fn places<'a>(names: impl IntoIterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut places = HashMap::new();
    names.into_iter().enumerate().for_each(|(place, name)| {
        places.entry(name).or_insert(place);
    });
    places
}

/// A batch of accounts, decoded: one column for each feature.
pub struct Block {
    pub rows: usize,
    pub columns: Vec<Column>,
}

impl Block {
    /// Decodes the features of `batch` (absent ones become null) and adds to `odd`, feature by feature, what
    /// was not finite.
    pub fn decode(batch: &RecordBatch, features: &[Feature], odd: &mut [NonFinite]) -> Result<Block> {
        let rows = batch.num_rows();
        let schema = batch.schema();
        let places = places(schema.fields().iter().map(|f| f.name().as_str()));
        let mut columns = Vec::with_capacity(features.len());
        for (feature, odd) in features.iter().zip(odd) {
            if !feature.present {
                columns.push(Column::nulls(feature.kind, rows));
                continue;
            }
            let array = places
                .get(feature.name.as_str())
                .map(|place| batch.column(*place))
                .ok_or_else(|| Error::bug("a feature was not read").column(&feature.name))?;
            let (column, found) = column::decode(feature.kind, array).map_err(|e| e.column(&feature.name))?;
            odd.nan += found.nan;
            odd.infinite += found.infinite;
            columns.push(column);
        }
        Ok(Block { rows, columns })
    }

    /// Some of the rows.
    pub fn take(&self, rows: &[usize]) -> Block {
        let pick = |column: &Column| match column {
            Column::Number(values) => Column::Number(rows.iter().map(|i| values[*i]).collect()),
            Column::Category { codes, levels } => {
                Column::Category { codes: rows.iter().map(|i| codes[*i]).collect(), levels: levels.clone() }
            }
        };
        Block { rows: rows.len(), columns: self.columns.iter().map(pick).collect() }
    }
}
