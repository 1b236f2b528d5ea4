//! Iceberg tables, read by their metadata: format versions 1 and 2, and what version 3 does not change.
//!
//! A table is known by its metadata file: the one that is named, or of a Hadoop table the one that its
//! `version-hint.text` points at. Position deletes are applied; whatever else changes which rows count, or what a file's
//! columns mean, is refused by its name (65).

mod avro;
mod manifest;
mod metadata;

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

use crate::error::{Error, Result};
use crate::lake::iceberg::manifest::{Content, Entry};
use crate::lake::iceberg::metadata::Metadata;
use crate::lake::input::{self, Input};
use crate::lake::location::Location;
use crate::lake::scan::footer;
use crate::lake::table::{InTable, Pin, TableFile, TableRead};

/// Of each data file the rows that are deleted, each with the sequence number of its deletion.
type Deleted = HashMap<String, Vec<(i64, u64)>>;

/// The metadata file of the table that a place means; none where no table is.
pub fn metadata_of(place: &Location) -> Result<Option<Location>> {
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

/// The data files of a pinned or the current snapshot of the table with this metadata file.
pub fn files(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    // damaged bytes must not end the process
    let read = catch_unwind(AssertUnwindSafe(|| read(place, pin)));
    read.unwrap_or_else(|_| Err(Error::data("the table's metadata is damaged").file(place.shown())))
}

fn read(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    let table = Metadata::read(place)?;
    let Some(snapshot) = table.snapshot(pin, place)? else { return Ok(Vec::new()) };
    let entries = manifest::entries(&snapshot.manifest_list(place)?)?;
    let columns = Arc::new(table.columns(snapshot, place)?);
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
            partitions: Default::default(),
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
