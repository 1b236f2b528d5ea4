//! The columns of a table that is written: what they are called in Iceberg, and how a table gets those that it lacks.

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::lake::catalog::Name;
use crate::lake::iceberg::catalogs;
use crate::lake::iceberg::changes::{Change, NewTable, Outcome};
use crate::lake::iceberg::metadata::{SpecField, arrow_type};
use crate::lake::iceberg::table::Table;
use crate::lake::location::Location;
use crate::lake::store::Store;

/// Other writers that may be first before a run gives up (75).
const TRIES: usize = 20;
/// Partition fields have ids from here on.
const FIRST_PARTITION_FIELD: i32 = 1000;

/// A column as the files of a table hold it.
#[derive(Debug, Clone)]
pub struct Column {
    pub field: Field,
    pub id: i32,
}

/// What the tables of a run hold: the columns of the files, then the partition columns.
#[derive(Debug)]
pub struct Shape {
    pub fields: Vec<Field>,
    /// `ds` first.
    pub partition_columns: Vec<String>,
}

/// Refuses (65) a column that Iceberg has no type for.
pub fn check_column(field: &Field) -> Result<()> {
    type_of(field).map(drop)
}

/// The type of a column, by Iceberg's name.
fn type_of(field: &Field) -> Result<&'static str> {
    use DataType::*;
    let inner = match field.data_type() {
        Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let why = match inner {
        Boolean => return Ok("boolean"),
        Int8 | Int16 | Int32 => return Ok("int"),
        Int64 => return Ok("long"),
        Float32 => return Ok("float"),
        Float64 => return Ok("double"),
        Date32 => return Ok("date"),
        Timestamp(TimeUnit::Microsecond, None) => return Ok("timestamp"),
        Utf8 | LargeUtf8 | Utf8View => return Ok("string"),
        t if t.is_unsigned_integer() => "Iceberg has no unsigned integers",
        FixedSizeBinary(_) => "this program writes no UUIDs to Iceberg tables",
        _ => "this program writes no such column to Iceberg tables",
    };
    Err(Error::data(format!("the column is {}: {why}", field.data_type()))
        .column(field.name())
        .hint("cast it where the accounts are made, or write output.format = \"parquet\""))
}

fn described(field: &Field, id: i32) -> Result<Value> {
    // every column may be null, so that a later run may lack it
    Ok(json!({"id": id, "name": field.name(), "required": false, "type": type_of(field)?}))
}

/// A table that has all columns of the run: made where there is none, with new columns where it lacks some. One of
/// somebody else to which files cannot simply be added is refused (65) by what is in the way.
pub fn ready(store: &dyn Store, place: &Location, home: &Location, shape: &Shape) -> Result<Table> {
    let name = Name::parse(&place.to_string())?;
    for _ in 0..TRIES {
        let Some(table) = Table::load(place)? else {
            catalogs::create(store, &name, &new_table(home, shape)?)?;
            continue;
        };
        check_writable(&table, shape)?;
        let Some(change) = added(&table, shape)? else { return Ok(table) };
        match table.commit(store, &change)? {
            Outcome::Done | Outcome::Lost => {}
            // whether it landed is seen next
            Outcome::Unknown(_) => std::thread::sleep(std::time::Duration::from_millis(500)),
        }
    }
    Err(Error::new(Kind::TryAgain, "the table's columns change all the time").file(place.shown()))
}

fn new_table(home: &Location, shape: &Shape) -> Result<NewTable> {
    let numbered = || shape.fields.iter().zip(1..);
    let fields = numbered().map(|(field, id)| described(field, id)).collect::<Result<Vec<_>>>()?;
    let id_of = |name: &String| numbered().find(|(f, _)| f.name() == name).map(|(_, id)| id);
    let part = |(name, field): (&String, i32)| json!({"source-id": id_of(name), "field-id": field, "name": name, "transform": "identity"});
    let parts: Vec<Value> = shape.partition_columns.iter().zip(FIRST_PARTITION_FIELD..).map(part).collect();
    Ok(NewTable {
        location: match home {
            Location::Path(path) => format!("file://{}", path.display()),
            other => other.to_string(),
        },
        schema: json!({"type": "struct", "schema-id": 0, "fields": fields}),
        spec: json!({"spec-id": 0, "fields": parts}),
    })
}

/// Refuses (65) a table of somebody else to which whole files cannot simply be added.
pub fn check_writable(table: &Table, shape: &Shape) -> Result<()> {
    let refuse = |what: &str, value: String| {
        Err(Error::data(format!("this Iceberg table cannot be written: {what}"))
            .file(table.place.shown())
            .value(value))
    };
    let metadata = &table.metadata;
    if metadata.format_version != 2 {
        return refuse("its format version is not 2", metadata.format_version.to_string());
    }
    let schema = metadata.schema(&table.place)?;
    let name_of = |id: i32| schema.fields.iter().find(|f| f.id == id).map(|f| f.name.clone());
    let spec = metadata.spec(metadata.default_spec_id);
    let parts: Option<Vec<String>> = spec.and_then(|spec| {
        let own = |f: &SpecField| name_of(f.source_id).filter(|_| f.transform == "identity");
        spec.fields.iter().map(own).collect()
    });
    if parts.as_ref() != Some(&shape.partition_columns) {
        let transforms = spec.iter().flat_map(|s| &s.fields).map(|f| format!("{}: {}", f.name, f.transform));
        return refuse(
            "it is partitioned otherwise",
            format!("{:?}, wanted {:?}", transforms.collect::<Vec<_>>(), shape.partition_columns),
        );
    }
    match schema.fields.iter().find(|f| f.required && !shape.fields.iter().any(|own| *own.name() == f.name)) {
        Some(field) => refuse("it demands a column that the run does not have", field.name.clone()),
        None => Ok(()),
    }
}

/// The columns of the table that the run has, as its files hold them: of a type that the table's reads. Another
/// type is refused (65); a column that the table lacks is left out.
pub fn columns(table: &Table, shape: &Shape) -> Result<Vec<Column>> {
    let there = &table.metadata.schema(&table.place)?.fields;
    let mut columns = Vec::new();
    for field in &shape.fields {
        let Some(found) = there.iter().find(|f| f.name == *field.name()) else { continue };
        let (own, theirs) = (type_of(field)?, found.data_type.as_str().unwrap_or("nested"));
        let data_type = arrow_type(theirs)
            .filter(|_| matches!((own, theirs), ("int", "long") | ("float", "double")) || own == theirs);
        let data_type = data_type.ok_or_else(|| {
            Error::data("a column of the table has another type")
                .file(table.place.shown())
                .column(field.name())
                .value(format!("{theirs} there, {own} here"))
        })?;
        let id = found.id;
        columns.push(Column { field: field.clone().with_data_type(data_type), id });
    }
    Ok(columns)
}

/// The commit that adds the columns which the run has and the table lacks; none where it lacks none.
fn added(table: &Table, shape: &Shape) -> Result<Option<Change>> {
    let known = columns(table, shape)?;
    let lacking = |f: &&Field| !known.iter().any(|c| c.field.name() == f.name());
    let missing: Vec<&Field> = shape.fields.iter().filter(lacking).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let last = table.content()["last-column-id"].as_i64().and_then(|id| i32::try_from(id).ok());
    let damaged = || Error::data("the metadata lacks its schema").file(table.place.shown());
    let (last, current) = (last.ok_or_else(damaged)?, table.metadata.current_schema_id.ok_or_else(damaged)?);
    let schemas = table.content()["schemas"].as_array().ok_or_else(damaged)?;
    let ids = || schemas.iter().filter_map(|s| s["schema-id"].as_i64());
    let mut schema = schemas.iter().find(|s| s["schema-id"] == json!(current)).ok_or_else(damaged)?.clone();
    let next = ids().max().unwrap_or(0) + 1;
    schema["schema-id"] = json!(next);
    let fields = schema["fields"].as_array_mut().ok_or_else(damaged)?;
    let mut largest = last;
    for field in missing {
        largest += 1;
        fields.push(described(field, largest)?);
    }
    Ok(Some(Change {
        requirements: vec![
            json!({"type": "assert-table-uuid", "uuid": table.content()["table-uuid"]}),
            json!({"type": "assert-current-schema-id", "current-schema-id": current}),
            json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": last}),
        ],
        updates: vec![
            json!({"action": "add-schema", "schema": schema, "last-column-id": largest}),
            // the one that was added: a server may number it otherwise
            json!({"action": "set-current-schema", "schema-id": -1}),
        ],
    }))
}
