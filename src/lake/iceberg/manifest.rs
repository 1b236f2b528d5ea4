//! Manifests: which files a snapshot has, in two levels of Avro files.

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

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
}

#[derive(Deserialize)]
struct ManifestFile {
    manifest_path: String,
    #[serde(default)]
    sequence_number: i64,
}

#[derive(Deserialize)]
struct ManifestEntry {
    status: i32,
    #[serde(default)]
    sequence_number: Option<i64>,
    data_file: DataFile,
}

#[derive(Deserialize)]
struct DataFile {
    #[serde(default)]
    content: i32,
    file_path: String,
    file_format: String,
    record_count: i64,
    file_size_in_bytes: i64,
}

/// How an entry of a manifest says that its file is gone.
const DELETED: i32 = 2;

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

/// All files of the snapshot with this manifest list.
pub fn entries(list: &Location) -> Result<Vec<Entry>> {
    let manifests: Vec<ManifestFile> = read(list)?;
    let of = |manifest: &ManifestFile| -> Result<Vec<Entry>> {
        let entries: Vec<ManifestEntry> = read(&parse(&manifest.manifest_path)?)?;
        let live = entries.into_iter().filter(|e| e.status != DELETED);
        Ok(live.map(|e| e.with_sequence(manifest.sequence_number)).collect())
    };
    Ok(manifests.par_iter().map(of).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl ManifestEntry {
    /// An entry without a sequence number has its manifest's.
    fn with_sequence(self, of_manifest: i64) -> Entry {
        let file = self.data_file;
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
            sequence: self.sequence_number.unwrap_or(of_manifest),
        }
    }
}

/// The records of an Avro file.
fn read<T: DeserializeOwned>(place: &Location) -> Result<Vec<T>> {
    let bytes = input::read(place)?;
    let damaged = |e: String| Error::data(format!("damaged Avro file: {e}")).file(place.shown());
    let records = avro::records(&bytes).map_err(damaged)?.into_iter();
    records.map(|record| serde_json::from_value(record).map_err(|e| damaged(e.to_string()))).collect()
}
