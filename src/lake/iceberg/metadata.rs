//! The metadata file of a table: its schemas, its partition specs and its snapshots.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lake::input;
use crate::lake::location::Location;
use crate::lake::table::{Column, Pin};

/// Bytes of a metadata file once it is unpacked, at most.
const LARGEST: u64 = 1 << 30;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata {
    pub format_version: u32,
    table_uuid: Option<String>,
    pub location: String,
    #[serde(default)]
    schemas: Vec<Schema>,
    /// Of the first format version, before tables had several.
    schema: Option<Schema>,
    pub current_schema_id: Option<i32>,
    current_snapshot_id: Option<i64>,
    #[serde(default)]
    partition_specs: Vec<Spec>,
    #[serde(default)]
    pub default_spec_id: i32,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    #[serde(default)]
    snapshot_log: Vec<Logged>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Schema {
    schema_id: Option<i32>,
    pub fields: Vec<IcebergField>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IcebergField {
    pub id: i32,
    pub name: String,
    #[serde(default)]
    pub required: bool,
    #[serde(rename = "type")]
    pub data_type: Value,
    initial_default: Option<Value>,
}

/// How files are partitioned.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spec {
    pub spec_id: i32,
    pub fields: Vec<SpecField>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpecField {
    pub source_id: i32,
    pub name: String,
    pub transform: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub snapshot_id: i64,
    #[serde(default)]
    pub summary: BTreeMap<String, String>,
    manifest_list: Option<String>,
    schema_id: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Logged {
    timestamp_ms: i64,
    snapshot_id: i64,
}

impl Metadata {
    /// What a metadata file says.
    pub fn of(content: &Value, place: &Location) -> Result<Metadata> {
        let metadata = Metadata::deserialize(content).map_err(|e| no_metadata(place, &e))?;
        match metadata.format_version {
            1..=3 => Ok(metadata),
            version => Err(Error::data("this format version of Iceberg is not known")
                .file(place.shown())
                .value(version)),
        }
    }

    /// What names the table for good.
    pub fn id(&self) -> &str {
        self.table_uuid.as_deref().unwrap_or(&self.location)
    }

    /// The snapshot that is pinned, or the current one; none of a table that never had one.
    pub fn snapshot(&self, pin: &Pin, place: &Location) -> Result<Option<&Snapshot>> {
        let wanted = match (pin.version, &pin.as_of) {
            (Some(version), _) => i64::try_from(version).ok(),
            (None, Some(time)) => {
                let until = time.timestamp_millis();
                let at = self.snapshot_log.iter().rev().find(|l| l.timestamp_ms <= until);
                let none = || {
                    Error::data("the table had no snapshot at that time, or keeps it no longer")
                        .file(place.shown())
                        .with("as_of", time.to_rfc3339())
                };
                Some(at.ok_or_else(none)?.snapshot_id)
            }
            // -1 is how some writers say none
            (None, None) => match self.current_snapshot_id.filter(|id| *id != -1) {
                Some(id) => Some(id),
                None => return Ok(None),
            },
        };
        let found = self.snapshots.iter().find(|s| Some(s.snapshot_id) == wanted);
        let missing = || {
            Error::data("the table has no such snapshot")
                .file(place.shown())
                .value(wanted.map_or_else(String::new, |id| id.to_string()))
        };
        found.map(Some).ok_or_else(missing)
    }

    /// The columns of the table now.
    pub fn schema(&self, place: &Location) -> Result<&Schema> {
        self.schema_of(self.current_schema_id, place)
    }

    fn schema_of(&self, id: Option<i32>, place: &Location) -> Result<&Schema> {
        let found = self.schemas.iter().find(|s| s.schema_id == id).or(self.schema.as_ref());
        found.ok_or_else(|| Error::data("the metadata lacks its schema").file(place.shown()))
    }

    /// How the files of a spec are partitioned; of a table of the first format version nothing is known.
    pub fn spec(&self, id: i32) -> Option<&Spec> {
        self.partition_specs.iter().find(|s| s.spec_id == id)
    }

    /// The columns that a reader of the snapshot sees: of an earlier one those of its time. Nested ones are left
    /// out.
    pub fn columns(&self, snapshot: &Snapshot, place: &Location) -> Result<Vec<Column>> {
        let id = match self.current_snapshot_id == Some(snapshot.snapshot_id) {
            true => self.current_schema_id,
            false => snapshot.schema_id.or(self.current_schema_id),
        };
        let schema = self.schema_of(id, place)?;
        let mut columns = Vec::new();
        for field in &schema.fields {
            if field.initial_default.as_ref().is_some_and(|v| !v.is_null()) {
                return Err(Error::data("a column with an initial default is not read")
                    .file(place.shown())
                    .column(&field.name));
            }
            if let Some(data_type) = field.data_type.as_str().and_then(arrow_type) {
                columns.push(Column {
                    field: Field::new(&field.name, data_type, true),
                    physical: field.name.clone(),
                    field_id: Some(field.id),
                    partition: false,
                });
            }
        }
        Ok(columns)
    }
}

impl Snapshot {
    pub fn manifest_list(&self, place: &Location) -> Result<Location> {
        let list = self.manifest_list.as_ref().ok_or_else(|| {
            Error::data("a snapshot without a manifest list is not read")
                .file(place.shown())
                .value(self.snapshot_id)
        })?;
        parse(list)
    }
}

/// The content of a metadata file, which may be compressed.
pub fn read(place: &Location) -> Result<Value> {
    let bytes = input::read(place)?;
    let mut text = Vec::new();
    let name = place.to_string();
    let packed = name.ends_with(".gz.metadata.json") || name.ends_with(".metadata.json.gz");
    let unpacked = match packed {
        true => {
            flate2::read::GzDecoder::new(&bytes[..]).take(LARGEST).read_to_end(&mut text).map(|_| &text[..])
        }
        false => Ok(&bytes[..]),
    };
    let content = unpacked.map_err(serde_json::Error::io).and_then(serde_json::from_slice);
    content.map_err(|e| no_metadata(place, &e))
}

fn no_metadata(place: &Location, why: &serde_json::Error) -> Error {
    Error::data(format!("not the metadata of an Iceberg table: {why}")).file(place.shown())
}

/// A place as the metadata has it: a URI or an absolute path.
pub fn parse(text: &str) -> Result<Location> {
    match text.strip_prefix("file:").filter(|rest| !rest.starts_with("//")) {
        Some(path) => Ok(Location::Path(path.into())),
        // nothing in them is percent-encoded
        None => match text.strip_prefix("file://") {
            Some(path) => Ok(Location::Path(path.into())),
            None => Location::parse(text, Path::new("/")),
        },
    }
}

/// A type of the table as arrow has it; none for nested types and those that are not known.
pub fn arrow_type(name: &str) -> Option<DataType> {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let nanos = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
    Some(match name {
        "boolean" => DataType::Boolean,
        "int" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => micros(None),
        "timestamptz" => micros(Some("UTC")),
        "timestamp_ns" => nanos(None),
        "timestamptz_ns" => nanos(Some("UTC")),
        "string" => DataType::Utf8,
        "uuid" => DataType::FixedSizeBinary(16),
        "binary" => DataType::Binary,
        _ => {
            let inside =
                |kind: &str, open, close| name.strip_prefix(kind)?.strip_prefix(open)?.strip_suffix(close);
            if let Some(length) = inside("fixed", '[', ']') {
                return Some(DataType::FixedSizeBinary(length.trim().parse().ok()?));
            }
            let (precision, scale) = inside("decimal", '(', ')')?.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}
