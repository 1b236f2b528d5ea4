//! Manifests and lists of manifests written, in format version 2.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::lake::iceberg::avro::text_of;
use crate::lake::iceberg::avro_write;
use crate::lake::iceberg::manifest::{DELETED, Entry};
use crate::lake::iceberg::rewrite::Made;
use crate::lake::iceberg::table::Table;

const EXISTING: i32 = 0;
const ADDED: i32 = 1;

/// What becomes of a file in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    Goes,
}

/// A manifest that is being made.
#[derive(Debug, Default)]
pub struct Draft {
    entries: Vec<Value>,
    partitions: Vec<Vec<Value>>,
    /// Files and rows: added, staying, going.
    counts: [(i64, i64); 3],
    least_sequence: Option<i64>,
}

/// The snapshot that is being made.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    pub snapshot: i64,
    pub parent: Option<i64>,
    pub sequence: i64,
}

impl Draft {
    /// A file of the run; its sequence number is the snapshot's, which is known when it has landed.
    pub fn add(
        &mut self,
        made: &Made,
        path: &str,
        partition: &[Value],
        next: Next,
        table: &Table,
    ) -> Result<()> {
        let data_file = data_file(made, path, partition, table)?;
        self.entries.push(json!({"status": ADDED, "snapshot_id": next.snapshot, "sequence_number": null,
            "file_sequence_number": null, "data_file": data_file}));
        self.count(ADDED, made.facts.rows as i64, partition, None);
        Ok(())
    }

    /// A file that the snapshot before had.
    pub fn keep(&mut self, entry: &Entry, fate: Fate, next: Next) {
        let (status, by) = match fate {
            Fate::Stays => (EXISTING, entry.snapshot),
            Fate::Goes => (DELETED, Some(next.snapshot)),
        };
        self.entries.push(json!({"status": status, "snapshot_id": by, "sequence_number": entry.sequence,
            "file_sequence_number": entry.file_sequence, "data_file": entry.data_file}));
        self.count(status, entry.rows as i64, &entry.partition, Some(entry.sequence));
    }

    fn count(&mut self, status: i32, rows: i64, partition: &[Value], sequence: Option<i64>) {
        let counts = &mut self.counts[match status {
            ADDED => 0,
            EXISTING => 1,
            _ => 2,
        }];
        *counts = (counts.0 + 1, counts.1 + rows);
        self.partitions.push(partition.to_vec());
        self.least_sequence = [self.least_sequence, sequence].into_iter().flatten().min();
    }

    /// The manifest, and what the list says of it.
    pub fn finish(self, table: &Table, path: &str, next: Next) -> Result<(Vec<u8>, Value)> {
        let damaged = || Error::data("the metadata lacks its schema or its spec").file(table.place.shown());
        let find = |list: &str, key: &str, id: Value| {
            let items = table.content()[list].as_array()?;
            items.iter().find(|item| item[key] == id).cloned()
        };
        let schema =
            find("schemas", "schema-id", json!(table.metadata.current_schema_id)).ok_or_else(damaged)?;
        let spec_id = table.metadata.default_spec_id;
        let spec = find("partition-specs", "spec-id", json!(spec_id)).ok_or_else(damaged)?;
        let about = [
            ("schema", schema.to_string()),
            ("schema-id", schema["schema-id"].to_string()),
            ("partition-spec", spec["fields"].to_string()),
            ("partition-spec-id", spec_id.to_string()),
            ("format-version", "2".to_string()),
            ("content", "data".to_string()),
        ];
        let bytes = avro_write::file(&entry_schema(&spec), &about, &self.entries).map_err(|e| {
            Error::bug(format!("a manifest cannot be written: {e}")).file(table.place.shown())
        })?;
        let [(added, added_rows), (existing, existing_rows), (deleted, deleted_rows)] = self.counts;
        let fields = self.partitions.first().map_or(0, Vec::len);
        let summaries: Vec<Value> = (0..fields).map(|place| summary(&self.partitions, place)).collect();
        let listed = json!({
            "manifest_path": path, "manifest_length": bytes.len(), "partition_spec_id": spec_id, "content": 0,
            "sequence_number": next.sequence, "min_sequence_number": self.least_sequence.unwrap_or(next.sequence),
            "added_snapshot_id": next.snapshot, "added_files_count": added, "existing_files_count": existing,
            "deleted_files_count": deleted, "added_rows_count": added_rows, "existing_rows_count": existing_rows,
            "deleted_rows_count": deleted_rows, "partitions": summaries, "key_metadata": null,
        });
        Ok((bytes, listed))
    }
}

/// The list of a snapshot's manifests.
pub fn list(records: &[Value], next: Next) -> Result<Vec<u8>> {
    let parent = next.parent.map_or("null".to_string(), |id| id.to_string());
    let about = [
        ("snapshot-id", next.snapshot.to_string()),
        ("parent-snapshot-id", parent),
        ("sequence-number", next.sequence.to_string()),
        ("format-version", "2".to_string()),
    ];
    let written = avro_write::file(&list_schema(), &about, records);
    written.map_err(|e| Error::bug(format!("a list of manifests cannot be written: {e}")))
}

/// Least and greatest value of a partition field among some files; ours are texts.
fn summary(partitions: &[Vec<Value>], place: usize) -> Value {
    let values = || partitions.iter().map(|p| p.get(place).and_then(Value::as_str));
    let bytes = |text: Option<&str>| text.map(|t| text_of(t.as_bytes()));
    let known = || values().flatten();
    json!({"contains_null": values().any(|v| v.is_none()), "contains_nan": false,
        "lower_bound": bytes(known().min()), "upper_bound": bytes(known().max())})
}

fn data_file(made: &Made, path: &str, partition: &[Value], table: &Table) -> Result<Value> {
    let damaged = || Error::data("the metadata lacks its spec").file(table.place.shown());
    let spec = table.metadata.spec(table.metadata.default_spec_id).ok_or_else(damaged)?;
    let partition: serde_json::Map<String, Value> =
        spec.fields.iter().map(|f| sanitized(&f.name)).zip(partition.iter().cloned()).collect();
    let facts = &made.facts;
    let pairs = |values: &[(i32, Value)]| -> Value {
        values.iter().map(|(id, value)| json!({"key": id, "value": value})).collect()
    };
    Ok(json!({
        "content": 0, "file_path": path, "file_format": "PARQUET", "partition": partition,
        "record_count": facts.rows, "file_size_in_bytes": made.digest.bytes,
        "column_sizes": pairs(&facts.sizes), "value_counts": pairs(&facts.values),
        "null_value_counts": pairs(&facts.nulls), "nan_value_counts": null,
        "lower_bounds": pairs(&facts.lower), "upper_bounds": pairs(&facts.upper),
        "key_metadata": null, "split_offsets": facts.offsets, "equality_ids": null, "sort_order_id": 0,
    }))
}

/// A name as Avro allows it, in the way of Iceberg's own writers.
fn sanitized(name: &str) -> String {
    let mut out = String::new();
    for (place, c) in name.chars().enumerate() {
        match c {
            'a'..='z' | 'A'..='Z' | '_' => out.push(c),
            '0'..='9' if place > 0 => out.push(c),
            '0'..='9' => out.push_str(&format!("_{c}")),
            _ => out.push_str(&format!("_x{:X}", u32::from(c))),
        }
    }
    out
}

fn field(id: i32, name: &str, of: Value) -> Value {
    json!({"name": name, "type": of, "field-id": id})
}

fn optional(id: i32, name: &str, of: Value) -> Value {
    json!({"name": name, "type": ["null", of], "default": null, "field-id": id})
}

fn record(name: &str, fields: Vec<Value>) -> Value {
    json!({"type": "record", "name": name, "fields": fields})
}

/// A map with numbers as keys, which Avro has not.
fn map(id: i32, name: &str, key: i32, value: i32, of: &str) -> Value {
    let pair = record(
        &format!("k{key}_v{value}"),
        vec![field(key, "key", json!("int")), field(value, "value", json!(of))],
    );
    optional(id, name, json!({"type": "array", "logicalType": "map", "items": pair}))
}

fn list_of(id: i32, name: &str, element: i32, of: Value) -> Value {
    optional(id, name, json!({"type": "array", "element-id": element, "items": of}))
}

/// The schema of a manifest, by the table format's specification; its partitions are texts.
fn entry_schema(spec: &Value) -> Value {
    let parts = spec["fields"].as_array().into_iter().flatten().map(|f| {
        let id = f["field-id"].as_i64().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        optional(id, &sanitized(f["name"].as_str().unwrap_or_default()), json!("string"))
    });
    let data_file = record(
        "r2",
        vec![
            field(134, "content", json!("int")),
            field(100, "file_path", json!("string")),
            field(101, "file_format", json!("string")),
            field(102, "partition", record("r102", parts.collect())),
            field(103, "record_count", json!("long")),
            field(104, "file_size_in_bytes", json!("long")),
            map(108, "column_sizes", 117, 118, "long"),
            map(109, "value_counts", 119, 120, "long"),
            map(110, "null_value_counts", 121, 122, "long"),
            map(137, "nan_value_counts", 138, 139, "long"),
            map(125, "lower_bounds", 126, 127, "bytes"),
            map(128, "upper_bounds", 129, 130, "bytes"),
            optional(131, "key_metadata", json!("bytes")),
            list_of(132, "split_offsets", 133, json!("long")),
            list_of(135, "equality_ids", 136, json!("int")),
            optional(140, "sort_order_id", json!("int")),
        ],
    );
    record(
        "manifest_entry",
        vec![
            field(0, "status", json!("int")),
            optional(1, "snapshot_id", json!("long")),
            optional(3, "sequence_number", json!("long")),
            optional(4, "file_sequence_number", json!("long")),
            field(2, "data_file", data_file),
        ],
    )
}

fn list_schema() -> Value {
    let bounds = record(
        "r508",
        vec![
            field(509, "contains_null", json!("boolean")),
            optional(518, "contains_nan", json!("boolean")),
            optional(510, "lower_bound", json!("bytes")),
            optional(511, "upper_bound", json!("bytes")),
        ],
    );
    record(
        "manifest_file",
        vec![
            field(500, "manifest_path", json!("string")),
            field(501, "manifest_length", json!("long")),
            field(502, "partition_spec_id", json!("int")),
            field(517, "content", json!("int")),
            field(515, "sequence_number", json!("long")),
            field(516, "min_sequence_number", json!("long")),
            field(503, "added_snapshot_id", json!("long")),
            field(504, "added_files_count", json!("int")),
            field(505, "existing_files_count", json!("int")),
            field(506, "deleted_files_count", json!("int")),
            field(512, "added_rows_count", json!("long")),
            field(513, "existing_rows_count", json!("long")),
            field(514, "deleted_rows_count", json!("long")),
            list_of(507, "partitions", 508, bounds),
            optional(519, "key_metadata", json!("bytes")),
        ],
    )
}
