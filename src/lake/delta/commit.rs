//! One commit publishes a date of a table: the files that stood there are removed, the run's are added.
//!
//! Readers see the date as it was or as it is, never between: the commit is one new file in the log. Its rules
//! are ours and not a library's:
//!
//! | found at a try | then |
//! |---|---|
//! | our transaction, and our files | done: the commit landed, though its answer was lost |
//! | the date's files are not those that the run saw when it began | another run published it: 75 |
//! | another commit was first, and left the date alone | the commit is made again on top of it |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, Schema};
use delta_kernel::engine::arrow_conversion::TryFromArrow;
use delta_kernel::schema::StructType;
use delta_kernel::table_features::ColumnMappingMode;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::lake::delta::engine::encoded;
use crate::lake::delta::snapshot::{Active, Table};
use crate::lake::location::{Location, unescape};
use crate::lake::store::Store;
use crate::lake::table::{Dates, Pin};
use crate::lake::unique::uuid;
use crate::lake::write::write_new;

/// The partition column of the date; the first.
pub const DATE: &str = "ds";
/// Other writers that may be first before a run gives up (75).
const TRIES: usize = 100;
/// Features of writers that a commit of whole files keeps, unless what they are for is in use.
const KEPT: [&str; 11] = [
    "appendOnly",
    "invariants",
    "checkConstraints",
    "changeDataFeed",
    "generatedColumns",
    "columnMapping",
    "identityColumns",
    "deletionVectors",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];
/// What a column's metadata must not ask of writers.
const ASKED: [&str; 4] =
    ["delta.invariants", "delta.generationExpression", "delta.identity", "CURRENT_DEFAULT"];

/// What a run publishes of one table.
#[derive(Debug)]
pub struct Publication {
    /// Names pipeline, table and date: the transaction's application.
    pub application: String,
    /// Names the run; compared for equality.
    pub transaction: i64,
    pub date: String,
    /// Columns of the files, then the partition columns.
    pub schema: Schema,
    /// `ds` first.
    pub partition_columns: Vec<String>,
    pub files: Vec<NewFile>,
    /// What the commit says of the run.
    pub about: Value,
}

/// A file that lies in its place below the table's root.
#[derive(Debug)]
pub struct NewFile {
    pub path: String,
    pub bytes: u64,
    pub partitions: BTreeMap<String, Option<String>>,
    pub stats: Value,
    pub tags: Value,
}

/// Refuses (65) a column that Delta has no type for.
pub fn check_column(field: &Field) -> Result<()> {
    let why = match field.data_type() {
        t if t.is_unsigned_integer() => "Delta has no unsigned integers",
        DataType::FixedSizeBinary(_) => "Delta has no UUIDs",
        _ => return Ok(()),
    };
    Err(Error::data(format!("the column is {}: {why}", field.data_type()))
        .column(field.name())
        .hint("cast it where the accounts are made, or write output.format = \"parquet\""))
}

/// The files of each date, by their paths below the table's root; none of a table that is not there.
pub fn dates(table: Option<&Table>) -> Result<Dates> {
    let mut dates = Dates::new();
    for file in table.map_or(Ok(Vec::new()), Table::active)? {
        let date = file.partitions().get(DATE).cloned().flatten().unwrap_or_default();
        dates.entry(date).or_default().insert(unescape(&file.path));
    }
    Ok(dates)
}

fn is_of(file: &Active, date: &str) -> bool {
    file.partitions().get(DATE).is_some_and(|v| v.as_deref() == Some(date))
}

/// Commits; `seen` are the date's files when the run began, `desk` a directory of the run. The version that holds the
/// run's files.
pub fn commit(
    store: &dyn Store,
    root: &Location,
    new: &Publication,
    seen: &BTreeSet<String>,
    desk: &Path,
) -> Result<u64> {
    let ours: BTreeSet<String> = new.files.iter().map(|f| f.path.clone()).collect();
    for _ in 0..TRIES {
        let table = Table::open(root, &Pin::default())?;
        if let Some(version) = landed(table.as_ref(), new, &ours)? {
            return Ok(version);
        }
        let active = table.as_ref().map_or(Ok(Vec::new()), Table::active)?;
        let before: Vec<&Active> = active.iter().filter(|f| is_of(f, &new.date)).collect();
        if before.iter().map(|f| unescape(&f.path)).collect::<BTreeSet<_>>() != *seen {
            return Err(
                Error::new(Kind::TryAgain, "another run published this date meanwhile").file(root.shown())
            );
        }
        let version = table.as_ref().map_or(0, |t| t.version() + 1);
        let text = actions(table.as_ref(), new, &before, root)?;
        match write_new(store, &log_file(root, version), text.into_bytes().into(), desk) {
            Ok(true) => return Ok(version),
            Ok(false) => {}
            // The answer may be lost and the commit not: what counts is what stands there.
            Err(e) => {
                let table = Table::open(root, &Pin::default()).ok().flatten();
                return landed(table.as_ref(), new, &ours).ok().flatten().ok_or(e);
            }
        }
    }
    Err(Error::new(Kind::TryAgain, format!("{TRIES} other commits were faster")).file(root.shown()))
}

/// The version in which the run's files are the date's, by its transaction and by the files themselves.
fn landed(table: Option<&Table>, new: &Publication, ours: &BTreeSet<String>) -> Result<Option<u64>> {
    let Some(table) = table else { return Ok(None) };
    let done = table.transaction(&new.application)? == Some(new.transaction)
        && dates(Some(table))?.get(&new.date) == Some(ours);
    Ok(done.then(|| table.version()))
}

/// The commit's text: a line for each action.
fn actions(table: Option<&Table>, new: &Publication, before: &[&Active], root: &Location) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut lines = vec![json!({"commitInfo": {
        "timestamp": now,
        "operation": "WRITE",
        "operationParameters": {
            "mode": "Overwrite",
            "predicate": format!("{DATE} = '{}'", new.date),
            "partitionBy": json!(new.partition_columns).to_string(),
        },
        "isBlindAppend": false,
        "engineInfo": concat!("coldstart/", env!("CARGO_PKG_VERSION")),
        "userMetadata": new.about.to_string(),
    }})];
    match table {
        None => {
            lines.push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
            lines.push(json!({"metaData": metadata(&uuid(), &new.partition_columns, &schema(&new.schema, root)?, now)}));
        }
        Some(table) => {
            check_writable(table, new, !before.is_empty())?;
            lines.extend(added_columns(table, new)?.map(|action| json!({"metaData": action})));
        }
    }
    lines.push(json!({"txn": {"appId": new.application, "version": new.transaction, "lastUpdated": now}}));
    let kept: BTreeSet<&str> = new.files.iter().map(|f| f.path.as_str()).collect();
    for file in
        before.iter().filter(|f| f.deletion_vector.is_some() || !kept.contains(unescape(&f.path).as_str()))
    {
        let mut remove = json!({
            "path": file.path, "deletionTimestamp": now, "dataChange": true, "extendedFileMetadata": true,
            "partitionValues": file.partitions(), "size": file.size,
        });
        if let Some(vector) = &file.deletion_vector {
            remove["deletionVector"] = vector.clone();
        }
        lines.push(json!({"remove": remove}));
    }
    for file in &new.files {
        lines.push(json!({"add": {
            "path": encoded(&file.path), "partitionValues": file.partitions, "size": file.bytes,
            "modificationTime": now, "dataChange": true, "stats": file.stats.to_string(), "tags": file.tags,
        }}));
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// The file of a version in the table's log.
pub fn log_file(root: &Location, version: u64) -> Location {
    root.join(&format!("_delta_log/{version:020}.json"))
}

fn metadata(id: &str, partition_columns: &[String], schema: &str, now: i64) -> Value {
    json!({
        "id": id, "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": partition_columns, "configuration": {}, "createdTime": now,
    })
}

/// The schema as the log has it; every column may be null, so that a later run may lack it.
fn schema(schema: &Schema, root: &Location) -> Result<String> {
    let refuse = |e: String| Error::data(format!("Delta cannot hold these columns: {e}")).file(root.shown());
    schema.fields().iter().try_for_each(|f| check_column(f)).map_err(|e| e.file(root.shown()))?;
    let plain: Vec<_> = schema.fields().iter().map(|f| plain(f)).collect();
    let kernel = StructType::try_from_arrow(&Schema::new(plain)).map_err(|e| refuse(e.to_string()))?;
    serde_json::to_string(&kernel).map_err(|e| refuse(e.to_string()))
}

/// A column without what only the files need to know of it.
fn plain(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => &DataType::Utf8,
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    Field::new(field.name(), data_type.clone(), true)
}

/// Refuses (65) a table of somebody else to which whole files cannot simply be added, by the name of what is in
/// the way.
fn check_writable(table: &Table, new: &Publication, replaces: bool) -> Result<()> {
    let settings = table.snapshot.table_configuration();
    let refuse = |what: &str, value: String| {
        Err(Error::data(format!("this Delta table cannot be written: {what}"))
            .file(table.root.shown())
            .value(value))
    };
    for feature in settings.protocol().writer_features().into_iter().flatten() {
        if !KEPT.contains(&feature.as_ref()) {
            return refuse("it has a feature that this program does not keep", feature.to_string());
        }
    }
    if settings.column_mapping_mode() != ColumnMappingMode::None {
        return refuse("its columns are mapped", "columnMapping".to_string());
    }
    let configuration = settings.metadata().configuration();
    if let Some(key) = configuration.keys().find(|k| k.starts_with("delta.constraints.")) {
        return refuse("it has constraints", key.clone());
    }
    if replaces && configuration.get("delta.appendOnly").is_some_and(|v| v == "true") {
        return refuse("it is append-only, and the date is there already", "delta.appendOnly".to_string());
    }
    for field in table.snapshot.schema().fields() {
        if let Some(key) = field.metadata().keys().find(|k| ASKED.iter().any(|asked| k.starts_with(asked))) {
            return refuse(
                "a column asks more of writers than their values",
                format!("{}: {key}", field.name()),
            );
        }
    }
    match table.partition_columns() == new.partition_columns {
        true => Ok(()),
        false => Err(Error::data("the table is partitioned by other columns, which is for good")
            .file(table.root.shown())
            .value(format!("{:?}", table.partition_columns()))
            .with("wanted", format!("{:?}", new.partition_columns))),
    }
}

/// The table's metadata with the columns that the run has and the table lacks; none where it lacks none. A
/// column of another type is refused (65).
fn added_columns(table: &Table, new: &Publication) -> Result<Option<Value>> {
    let there = table.schema()?;
    let mut missing = Vec::new();
    for field in new.schema.fields() {
        let field = plain(field);
        match there.field_with_name(field.name()) {
            Err(_) => missing.push(field),
            Ok(found) if plain(found).data_type() == field.data_type() => {}
            Ok(found) => {
                return Err(Error::data("a column of the table has another type")
                    .file(table.root.shown())
                    .column(field.name())
                    .value(format!("{} there, {} here", found.data_type(), field.data_type())));
            }
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let damaged = |e: serde_json::Error| Error::data(format!("damaged schema: {e}")).file(table.root.shown());
    let metadata = table.snapshot.table_configuration().metadata();
    let mut whole: Value = serde_json::from_str(metadata.schema_string()).map_err(damaged)?;
    let added: Value = serde_json::from_str(&schema(&Schema::new(missing), &table.root)?).map_err(damaged)?;
    if let (Some(whole), Some(added)) = (whole["fields"].as_array_mut(), added["fields"].as_array()) {
        whole.extend(added.iter().cloned());
    }
    let mut action = serde_json::to_value(metadata).map_err(damaged)?;
    action["schemaString"] = Value::String(whole.to_string());
    Ok(Some(action))
}
