//! A version of a lakehouse table, whatever its format, as a reader needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::Field;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::lake::location::Location;

/// Which version of a table is read; the newest where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pin {
    pub version: Option<u64>,
    pub as_of: Option<DateTime<Utc>>,
}

impl Pin {
    pub fn is_set(&self) -> bool {
        *self != Pin::default()
    }
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name and type for readers.
    pub field: Field,
    /// Its name in the files.
    pub physical: String,
    /// The Parquet field id by which alone it is found in the files, where the table says so.
    pub field_id: Option<i32>,
    /// Whether its values stand in the table's log and not in the files.
    pub partition: bool,
}

/// A data file of the table.
#[derive(Debug, Clone)]
pub struct TableFile {
    pub place: Location,
    /// Partition column -> value, as text.
    pub partitions: BTreeMap<String, Option<String>>,
    pub table: InTable,
}

/// What a file is to its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTable {
    pub columns: Arc<Vec<Column>>,
    pub version: Arc<TableRead>,
    /// The file's size, as the table's log has it.
    pub bytes: u64,
    /// Rows that the table has deleted, by their place in the file; sorted.
    pub deleted: Arc<[u64]>,
}

/// Which table was read, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRead {
    pub format: String,
    pub table: String,
    pub version: String,
}

/// The files of each date of a published table, by their paths below its root.
pub type Dates = BTreeMap<String, BTreeSet<String>>;

/// What a run publishes of a table, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct OfRun<'a> {
    pub pipeline: &'a str,
    pub table: &'a str,
    pub date: &'a str,
    /// The run's key, in hexadecimal.
    pub key: &'a str,
    /// The date's files when the run began.
    pub seen: &'a BTreeSet<String>,
}

impl OfRun<'_> {
    /// Where a file of the date stands below the table's root.
    pub fn path(&self, file: &str) -> String {
        format!("ds={}/{file}", self.date)
    }
}
