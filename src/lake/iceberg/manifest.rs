//! Manifests: which files a snapshot has, in two levels of Avro files.

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lake::iceberg::avro;
use crate::lake::iceberg::metadata::parse;
use crate::lake::input;
use crate::lake::location::Location;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Data,
    PositionDeletes,
    EqualityDeletes,
    /// What a later format version may add.
    Other(i32),
}

/// A manifest, as the list of its snapshot has it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The record of the list, under the names of format version 2.
    pub record: Value,
    path: String,
    pub spec: i32,
    sequence: i64,
    added_by: Option<i64>,
}

/// A file that a snapshot has.
#[derive(Debug, Clone)]
pub struct Entry {
    pub content: Content,
    /// As the manifest has it.
    pub path: String,
    format: String,
    pub rows: u64,
    pub bytes: u64,
    /// Deletes apply to data that is not younger.
    pub sequence: i64,
    pub file_sequence: i64,
    /// The snapshot that added it.
    pub snapshot: Option<i64>,
    /// By which partition spec, and its values in the order of the spec's fields.
    pub spec: i32,
    pub partition: Vec<Value>,
    /// What the manifest says of the file, where all of it was asked for.
    pub data_file: Value,
}

#[derive(Deserialize)]
struct Listed {
    manifest_path: String,
    #[serde(default)]
    partition_spec_id: i32,
    #[serde(default)]
    sequence_number: i64,
    added_snapshot_id: Option<i64>,
}

#[derive(Deserialize)]
struct ManifestEntry {
    status: i32,
    snapshot_id: Option<i64>,
    sequence_number: Option<i64>,
    file_sequence_number: Option<i64>,
    data_file: Value,
}

#[derive(Deserialize)]
struct DataFile {
    #[serde(default)]
    content: i32,
    file_path: String,
    file_format: String,
    #[serde(default)]
    partition: Value,
    record_count: i64,
    file_size_in_bytes: i64,
}

/// How an entry of a manifest says that its file is gone.
pub const DELETED: i32 = 2;
/// What a list's record is called in tables of older writers, and in this program.
const RENAMED: [(&str, &str); 3] = [
    ("added_data_files_count", "added_files_count"),
    ("existing_data_files_count", "existing_files_count"),
    ("deleted_data_files_count", "deleted_files_count"),
];
/// What is said of a file that only other engines, and whoever writes the manifest again, want to know.
const STATISTICS: [&str; 7] = [
    "column_sizes",
    "value_counts",
    "null_value_counts",
    "nan_value_counts",
    "lower_bounds",
    "upper_bounds",
    "split_offsets",
];

impl Entry {
    /// Refuses (65) what is not read, by its name.
    pub fn check(&self, place: &Location) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::data(format!("this Iceberg table is not read: it has {what}"))
                .file(place.shown())
                .value(&self.path)
                .hint("write the rows that count to a Parquet directory, or have the table compacted"))
        };
        match (self.content, self.format.to_uppercase().as_str()) {
            (Content::Data | Content::PositionDeletes, "PARQUET") => Ok(()),
            (Content::PositionDeletes, "PUFFIN") => refuse("deletion vectors (Puffin)".to_string()),
            (Content::EqualityDeletes, _) => refuse("equality deletes".to_string()),
            (Content::Other(content), _) => refuse(format!("files with content {content}")),
            (_, format) => refuse(format!("files of format {format}")),
        }
    }

    pub fn place(&self) -> Result<Location> {
        parse(&self.path)
    }
}

/// The manifests of the snapshot with this list.
pub fn manifests(list: &Location) -> Result<Vec<Manifest>> {
    let of = |mut record: Value| {
        if let Some(fields) = record.as_object_mut() {
            for (old, name) in RENAMED {
                if let Some(count) = fields.remove(old) {
                    fields.insert(name.to_string(), count);
                }
            }
        }
        let listed: Listed = Listed::deserialize(&record).map_err(|e| damaged(list, e.to_string()))?;
        Ok(Manifest {
            record,
            path: listed.manifest_path,
            spec: listed.partition_spec_id,
            sequence: listed.sequence_number,
            added_by: listed.added_snapshot_id,
        })
    };
    records(list, &[])?.into_iter().map(of).collect()
}

/// All files of the snapshot with this manifest list.
pub fn entries(list: &Location) -> Result<Vec<Entry>> {
    let found = manifests(list)?;
    let of = |manifest: &Manifest| manifest.entries(false);
    Ok(found.par_iter().map(of).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl Manifest {
    /// The files that count; with all that the manifest says of each, if that is asked for.
    pub fn entries(&self, whole: bool) -> Result<Vec<Entry>> {
        let place = parse(&self.path)?;
        let mut found = Vec::new();
        for record in records(&place, if whole { &[] } else { &STATISTICS })? {
            let read = |e: serde_json::Error| damaged(&place, e.to_string());
            let entry: ManifestEntry = serde_json::from_value(record).map_err(read)?;
            if entry.status != DELETED {
                let file = DataFile::deserialize(&entry.data_file).map_err(read)?;
                found.push(self.entry(entry, file, whole));
            }
        }
        Ok(found)
    }

    /// An entry without a sequence number, or a snapshot, has its manifest's.
    fn entry(&self, entry: ManifestEntry, file: DataFile, whole: bool) -> Entry {
        let partition = file.partition.as_object().map(|p| p.values().cloned().collect());
        Entry {
            content: match file.content {
                0 => Content::Data,
                1 => Content::PositionDeletes,
                2 => Content::EqualityDeletes,
                other => Content::Other(other),
            },
            path: file.file_path,
            format: file.file_format,
            rows: file.record_count.max(0) as u64,
            bytes: file.file_size_in_bytes.max(0) as u64,
            sequence: entry.sequence_number.unwrap_or(self.sequence),
            file_sequence: entry.file_sequence_number.or(entry.sequence_number).unwrap_or(self.sequence),
            snapshot: entry.snapshot_id.or(self.added_by),
            spec: self.spec,
            partition: partition.unwrap_or_default(),
            data_file: if whole { entry.data_file } else { Value::Null },
        }
    }

    /// A number of the list's record; absent it is 0.
    pub fn number(&self, name: &str) -> i64 {
        self.record[name].as_i64().unwrap_or(0)
    }

    /// Whether a file of the manifest can have this text as the value of the partition field at `place`.
    pub fn may_hold(&self, place: usize, text: &str) -> bool {
        let summary = &self.record["partitions"][place];
        let bound = |name: &str| summary[name].as_str().map(str::to_string);
        let text = avro::text_of(text.as_bytes());
        let above = bound("lower_bound").is_none_or(|low| low <= text);
        above && bound("upper_bound").is_none_or(|high| text <= high || text.starts_with(&high))
    }
}

/// The records of an Avro file.
fn records(place: &Location, without: &[&str]) -> Result<Vec<Value>> {
    avro::records(&input::read(place)?, without).map_err(|e| damaged(place, e))
}

fn damaged(place: &Location, why: String) -> Error {
    Error::data(format!("damaged Avro file: {why}")).file(place.shown())
}
