//! What is asked of a catalog and what it answers; and what the updates of a commit make of a table's metadata, which a
//! REST server does by itself, for catalogs that have no server. Only the updates that this program sends are known; whatever else the metadata says stays as it is.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::lake::unique::uuid;

/// What a catalog says of a table.
#[derive(Debug)]
pub struct Found {
    /// The metadata file.
    pub at: String,
    /// What it says.
    pub content: Value,
}

/// A table that is to be made: what Iceberg's REST protocol sends.
#[derive(Debug)]
pub struct NewTable {
    pub location: String,
    pub schema: Value,
    pub spec: Value,
}

/// What a commit changes, as Iceberg's REST protocol says it.
#[derive(Debug, Default)]
pub struct Change {
    pub requirements: Vec<Value>,
    pub updates: Vec<Value>,
}

/// What came of a commit.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Somebody else changed the table first.
    Lost,
    /// It may have landed, and may yet.
    Unknown(Error),
}

/// Earlier metadata files that a table remembers, unless it says otherwise.
const REMEMBERED: usize = 100;

/// Milliseconds since 1970, and after what happened last.
pub fn now_after(last: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    now.max(last + 1)
}

/// The metadata of a table without a snapshot.
pub fn new_table(new: &NewTable) -> Value {
    let largest = |fields: &Value, key: &str| {
        let ids = fields.as_array().into_iter().flatten().filter_map(|f| f[key].as_i64());
        ids.max().unwrap_or(0)
    };
    json!({
        "format-version": 2,
        "table-uuid": uuid(),
        "location": new.location,
        "last-sequence-number": 0,
        "last-updated-ms": now_after(0),
        "last-column-id": largest(&new.schema["fields"], "id"),
        "current-schema-id": 0,
        "schemas": [new.schema],
        "default-spec-id": 0,
        "partition-specs": [new.spec],
        "last-partition-id": largest(&new.spec["fields"], "field-id").max(999),
        "default-sort-order-id": 0,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": {},
        "current-snapshot-id": null,
        "refs": {},
        "snapshots": [],
        "snapshot-log": [],
        "metadata-log": [],
    })
}

/// The metadata after the updates; `at` is the file in which it stood before.
pub fn applied(before: &Value, at: &str, updates: &[Value]) -> Result<Value, String> {
    let mut after = before.as_object().cloned().ok_or("the metadata is no object")?;
    let last = after.get("last-updated-ms").and_then(Value::as_i64).unwrap_or(0);
    after.insert("last-updated-ms".to_string(), json!(now_after(last)));
    for update in updates {
        match update["action"].as_str().unwrap_or_default() {
            "add-schema" => {
                let ids = update["schema"]["fields"].as_array().into_iter().flatten();
                let largest = ids.filter_map(|f| f["id"].as_i64()).max().unwrap_or(0);
                let known = after.get("last-column-id").and_then(Value::as_i64).unwrap_or(0);
                after.insert("last-column-id".to_string(), json!(largest.max(known)));
                push(&mut after, "schemas", update["schema"].clone());
            }
            "set-current-schema" => {
                let schemas = after.get("schemas").and_then(Value::as_array);
                let added = schemas.and_then(|s| s.last()).map(|s| s["schema-id"].clone());
                let last = update["schema-id"] == json!(-1);
                let id = added.filter(|_| last).unwrap_or_else(|| update["schema-id"].clone());
                after.insert("current-schema-id".to_string(), id);
            }
            "add-snapshot" => {
                let snapshot = &update["snapshot"];
                after.insert("last-sequence-number".to_string(), snapshot["sequence-number"].clone());
                after.insert("last-updated-ms".to_string(), snapshot["timestamp-ms"].clone());
                push(&mut after, "snapshots", snapshot.clone());
            }
            "set-snapshot-ref" => set_main(&mut after, update)?,
            other => return Err(format!("the update {other} is not known")),
        }
    }
    let remembered = after.get("properties").and_then(|p| p.get("write.metadata.previous-versions-max"));
    let most = remembered.and_then(Value::as_str).and_then(|n| n.parse().ok()).unwrap_or(REMEMBERED);
    push(&mut after, "metadata-log", json!({"timestamp-ms": last, "metadata-file": at}));
    if let Some(Value::Array(log)) = after.get_mut("metadata-log") {
        log.drain(..log.len().saturating_sub(most));
    }
    Ok(Value::Object(after))
}

/// The current snapshot is another one.
fn set_main(after: &mut Map<String, Value>, update: &Value) -> Result<(), String> {
    let id = update["snapshot-id"].clone();
    let mut reference = update.as_object().cloned().ok_or("an update is no object")?;
    reference.remove("action");
    match reference.remove("ref-name") {
        Some(Value::String(name)) if name == "main" => {}
        name => return Err(format!("the branch {name:?} is not known")),
    }
    let time = after.get("last-updated-ms").cloned().unwrap_or_default();
    push(after, "snapshot-log", json!({"timestamp-ms": time, "snapshot-id": id.clone()}));
    after.insert("current-snapshot-id".to_string(), id);
    let refs = after.entry("refs").or_insert_with(|| json!({}));
    refs["main"] = Value::Object(reference);
    Ok(())
}

/// Puts an item at the end of a list of the metadata, which may not be there yet.
fn push(after: &mut Map<String, Value>, name: &str, item: Value) {
    match after.entry(name).or_insert_with(|| json!([])) {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_becomes_the_current_one_and_what_is_not_known_stays() {
        let new = NewTable {
            location: "/t".to_string(),
            schema: json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "a", "type": "long", "required": false}]}),
            spec: json!({"spec-id": 0, "fields": [{"source-id": 1, "field-id": 1000, "name": "a", "transform": "identity"}]}),
        };
        let mut before = new_table(&new);
        before["someday"] = json!({"x": 1});
        before["properties"]["write.metadata.previous-versions-max"] = json!("1");
        before["metadata-log"] = json!([{"timestamp-ms": 1, "metadata-file": "older"}]);
        let updates = [
            json!({"action": "add-schema", "schema": {"schema-id": 1, "fields": [{"id": 1}, {"id": 2}]}}),
            json!({"action": "set-current-schema", "schema-id": -1}),
            json!({"action": "add-snapshot", "snapshot": {"snapshot-id": 9, "sequence-number": 1, "timestamp-ms": 7}}),
            json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 9, "max-ref-age-ms": 5}),
        ];
        let after = applied(&before, "/t/old", &updates).unwrap();
        assert_eq!(after["someday"], json!({"x": 1}));
        assert_eq!((&after["current-snapshot-id"], &after["last-column-id"]), (&json!(9), &json!(2)));
        assert_eq!(after["refs"], json!({"main": {"type": "branch", "snapshot-id": 9, "max-ref-age-ms": 5}}));
        assert_eq!(after["current-schema-id"], json!(1));
        assert_eq!(after["snapshot-log"], json!([{"timestamp-ms": 7, "snapshot-id": 9}]));
        assert_eq!(after["metadata-log"][0]["metadata-file"], "/t/old");
        assert_eq!(after["metadata-log"].as_array().map(Vec::len), Some(1));
        assert!(applied(&before, "", &[json!({"action": "remove-snapshots"})]).is_err());
    }
}
