//! Iceberg tables: read by their metadata, in format versions 1 and 2 and what version 3 does not change; written, in
//! version 2, by one snapshot for a date.
//!
//! A table is known by its metadata file: the one that its catalog names, the one that the user names, or of a Hadoop
//! table the one that its `version-hint.text` points at. Position deletes are applied; whatever else changes which rows
//! count, or what a file's columns mean, is refused by its name (65).

mod avro;
mod avro_write;
mod catalogs;
mod changes;
mod columns;
mod commit;
mod manifest;
mod manifest_write;
mod metadata;
mod publish;
mod rest;
mod rewrite;
mod sql;
mod table;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use hashbrown::HashMap;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use rayon::prelude::*;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::lake::catalog::Name;
pub use crate::lake::iceberg::columns::check_column;
use crate::lake::iceberg::manifest::{Content, Entry};
use crate::lake::iceberg::metadata::Metadata;
pub use crate::lake::iceberg::publish::publish;
use crate::lake::iceberg::table::Table;
pub use crate::lake::iceberg::table::dates;
use crate::lake::input::{self, Input};
use crate::lake::location::Location;
use crate::lake::scan::footer;
use crate::lake::table::{Column, InTable, Pin, TableFile, TableRead};

/// Of each data file the rows that are deleted, each with the sequence number of its deletion.
type Deleted = HashMap<String, Vec<(i64, u64)>>;

/// The metadata file of the table that a place means; none where no table is.
pub fn metadata_of(place: &Location) -> Result<Option<Location>> {
    if matches!(place, Location::Table(_)) {
        return Ok(Some(place.clone()));
    }
    if place.to_string().ends_with(".metadata.json") {
        return Ok(Some(place.clone()));
    }
    let hint = place.join("metadata/version-hint.text");
    if input::stat(&hint)?.is_none() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&input::read(&hint)?).trim().to_string();
    let name = if text.ends_with(".metadata.json") { text } else { format!("v{text}.metadata.json") };
    Ok(Some(place.join("metadata").join(&name)))
}

/// The metadata file that the catalog names for a table; none of a table that is not there.
pub fn metadata_place(place: &Location) -> Result<Option<String>> {
    Ok(catalogs::load(&Name::parse(&place.to_string())?)?.map(|found| found.at))
}

/// The data files of a pinned or the current snapshot of the table with this metadata file, or of this name.
pub fn files(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    // damaged bytes must not end the process
    let read = catch_unwind(AssertUnwindSafe(|| read(place, pin)));
    read.unwrap_or_else(|_| Err(Error::data("the table's metadata is damaged").file(place.shown())))
}

fn read(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    let table = match place {
        Location::Table(_) => {
            let missing = || Error::new(Kind::Missing, "the catalog has no such table").file(place.shown());
            Table::load(place)?.ok_or_else(missing)?.metadata
        }
        _ => Metadata::of(&metadata::read(place)?, place)?,
    };
    let Some(snapshot) = table.snapshot(pin, place)? else { return Ok(Vec::new()) };
    let entries = manifest::entries(&snapshot.manifest_list(place)?)?;
    let mut columns = table.columns(snapshot, place)?;
    let identities = identities(&table, &entries, &mut columns);
    let columns = Arc::new(columns);
    let version = Arc::new(TableRead {
        format: "iceberg".to_string(),
        table: table.id().to_string(),
        version: snapshot.snapshot_id.to_string(),
    });
    let (data, deletes): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|e| e.content == Content::Data);
    data.iter().chain(&deletes).try_for_each(|e| e.check(place))?;
    let deleted = positions(&deletes)?;
    let file = |e: &Entry| -> Result<TableFile> {
        let of_file = deleted.get(&e.path).into_iter().flatten();
        let mut rows: Vec<u64> = of_file.filter(|(at, _)| *at >= e.sequence).map(|(_, row)| *row).collect();
        rows.sort_unstable();
        rows.dedup();
        if rows.last().is_some_and(|last| *last >= e.rows) {
            return Err(Error::data("a row is deleted that the file does not have")
                .file(place.shown())
                .value(&e.path));
        }
        Ok(TableFile {
            place: e.place()?,
            partitions: e.identities(&identities),
            table: InTable {
                columns: columns.clone(),
                version: version.clone(),
                bytes: e.bytes,
                deleted: rows.into(),
            },
        })
    };
    let mut files = data.iter().map(file).collect::<Result<Vec<_>>>()?;
    files.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(files)
}

/// Where the partition of a spec has the value of a column: spec -> (column, place, type).
type Identities = HashMap<i32, Vec<(String, usize, DataType)>>;

/// The columns whose values all files have in their partitions as they are: they are taken from there, so that files
/// are left out by them, and one that does not hold the column is not read as null.
fn identities(table: &Metadata, entries: &[Entry], columns: &mut [Column]) -> Identities {
    let mut specs: Vec<i32> = entries.iter().filter(|e| e.content == Content::Data).map(|e| e.spec).collect();
    specs.sort_unstable();
    specs.dedup();
    let mut found = Identities::new();
    for column in columns {
        let place = |id: &i32| {
            let fields = &table.spec(*id)?.fields;
            let of =
                |f: &metadata::SpecField| f.transform == "identity" && Some(f.source_id) == column.field_id;
            Some((*id, fields.iter().position(of)?))
        };
        let places: Option<Vec<(i32, usize)>> = specs.iter().map(place).collect();
        // others have no text that says the same to each reader
        let plain = matches!(
            column.field.data_type(),
            DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Date32
        );
        for (spec, place) in places.into_iter().flatten().filter(|_| plain) {
            column.partition = true;
            let field = (column.field.name().clone(), place, column.field.data_type().clone());
            found.entry(spec).or_default().push(field);
        }
    }
    found
}

impl Entry {
    /// The values of these columns in the file's partition, as text.
    fn identities(&self, of: &Identities) -> BTreeMap<String, Option<String>> {
        let text = |value: Option<&Value>, data_type: &DataType| match (value?, data_type) {
            (Value::String(text), _) => Some(text.clone()),
            (Value::Number(days), DataType::Date32) => {
                let since = chrono::Duration::try_days(days.as_i64()?)?;
                Some((chrono::DateTime::UNIX_EPOCH + since).format("%Y-%m-%d").to_string())
            }
            (Value::Number(number), _) => Some(number.to_string()),
            _ => None,
        };
        let fields = of.get(&self.spec).into_iter().flatten();
        fields.map(|(name, place, t)| (name.clone(), text(self.partition.get(*place), t))).collect()
    }
}

/// The rows that the files of position deletes name.
fn positions(deletes: &[Entry]) -> Result<Deleted> {
    let one = |entry: &Entry| -> Result<Deleted> {
        let (mut found, place) = (Deleted::new(), entry.place()?);
        let damaged = || Error::data("not a file of position deletes").file(place.shown());
        let (mut input, id) = Input::open(&place, None)?;
        input.fetch(from_ref(&(0..id.bytes)))?;
        footer::check(id.bytes, |start, length| input.get_bytes(start, length).ok())
            .map_err(|e| e.file(place.shown()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(input).and_then(|r| r.build());
        for batch in reader.map_err(|_| damaged())? {
            let batch = batch.map_err(|_| damaged())?;
            let path = batch.column_by_name("file_path").and_then(|c| cast(c, &DataType::Utf8).ok());
            let rows = batch.column_by_name("pos").and_then(|c| c.as_primitive_opt::<Int64Type>());
            let (path, rows) = path.zip(rows).ok_or_else(damaged)?;
            for (path, row) in path.as_string::<i32>().iter().zip(rows.iter()) {
                let row = row.and_then(|r| u64::try_from(r).ok());
                let (path, row) = path.zip(row).ok_or_else(damaged)?;
                found.entry_ref(path).or_default().push((entry.sequence, row));
            }
        }
        Ok(found)
    };
    let mut all = Deleted::new();
    for (path, rows) in deletes.par_iter().map(one).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        all.entry(path).or_default().extend(rows);
    }
    Ok(all)
}
