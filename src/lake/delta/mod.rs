//! Delta tables: read by their log, written by one commit for a date.

pub mod commit;
pub mod engine;
pub mod snapshot;
pub mod stats;

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Result};
pub use crate::lake::delta::commit::check_column;
use crate::lake::delta::commit::{DATE, NewFile, Publication};
use crate::lake::delta::snapshot::Table;
use crate::lake::location::{Location, path_partitions};
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;
use crate::lake::table::{Dates, OfRun, Pin, TableFile};

/// The files of a pinned or the newest version of the table at a place.
pub fn files(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    let table = Table::open(place, pin)?;
    table.ok_or_else(|| Error::data("the table's log is empty").file(place.shown()))?.read()
}

/// The file that the next commit of the table at a place will make; none where no table is.
pub fn next_commit(place: &Location) -> Result<Option<Location>> {
    let table = Table::open(place, &Pin::default())?;
    Ok(table.map(|table| commit::log_file(place, table.version() + 1)))
}

/// The files of each date, by their paths below the table's root; none of a table that is not there.
pub fn dates(root: &Location) -> Result<Dates> {
    commit::dates(Table::open(root, &Pin::default())?.as_ref())
}

/// Commits files that already lie in their places as the table's date; `source` holds them under their names, and
/// `desk` is a directory of the run for the commit.
pub fn publish(
    store: &dyn Store,
    root: &Location,
    run: &OfRun,
    (source, desk): (&Path, &Path),
    files: &[FileDigest],
) -> Result<u64> {
    let read = files.par_iter().map(|f| stats::of(&source.join(&f.path))).collect::<Result<Vec<_>>>()?;
    let (Some(first), Some((schema, _))) = (files.first(), read.first()) else {
        return Err(Error::bug("a table without a file").file(source));
    };
    let keys: Vec<String> =
        [DATE.to_string()].into_iter().chain(partitions(&first.path).into_keys()).collect();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend(keys.iter().map(|key| Field::new(key, DataType::Utf8, true)));
    let new_file = |(file, (_, stats)): (&FileDigest, &(Schema, Value))| {
        let mut partitions = partitions(&file.path);
        partitions.insert(DATE.to_string(), Some(run.date.to_string()));
        NewFile {
            path: run.path(&file.path),
            bytes: file.bytes,
            partitions,
            stats: stats.clone(),
            tags: json!({"run": &run.key[..12], "sha256": file.sha256}),
        }
    };
    let new = Publication {
        application: format!("coldstart/{}/{}/{}", run.pipeline, run.table, run.date),
        transaction: transaction(run.key),
        date: run.date.to_string(),
        schema: Schema::new(fields),
        partition_columns: keys,
        files: files.iter().zip(&read).map(new_file).collect(),
        about: json!({"pipeline": run.pipeline, "table": run.table, "date": run.date, "run_id": &run.key[..12], "key": run.key}),
    };
    commit::commit(store, root, &new, run.seen, desk)
}

/// The partition values in the path of a file below a date.
fn partitions(file: &str) -> BTreeMap<String, Option<String>> {
    Path::new(file).parent().map(path_partitions).unwrap_or_default()
}

/// The first 63 bits of a run's key.
fn transaction(key: &str) -> i64 {
    let bits = key.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    bits.map_or(0, |bits| (bits >> 1) as i64)
}
