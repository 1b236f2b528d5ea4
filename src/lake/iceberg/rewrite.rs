//! The files of a run as an Iceberg table wants them: each column with its id, the partition columns among them; and
//! what a manifest says of a file, from its footer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::statistics::Statistics;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::lake::iceberg::avro::text_of;
use crate::lake::iceberg::columns::Column;
use crate::lake::input::Input;
use crate::lake::location::Location;
use crate::lake::part::{self, Part, Purpose};
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;

/// A file of the table that lies in the run directory.
#[derive(Debug)]
pub struct Made {
    /// Its name below the date.
    pub digest: FileDigest,
    pub partitions: BTreeMap<String, Option<String>>,
    pub facts: Facts,
}

/// What a manifest says of a file; columns by their ids.
#[derive(Debug, Default)]
pub struct Facts {
    pub rows: u64,
    pub sizes: Vec<(i32, Value)>,
    pub values: Vec<(i32, Value)>,
    pub nulls: Vec<(i32, Value)>,
    pub lower: Vec<(i32, Value)>,
    pub upper: Vec<(i32, Value)>,
    pub offsets: Vec<i64>,
}

/// Writes the file at `from` anew with these columns; those that it lacks are its partition's.
pub fn rewrite(
    store: &dyn Store,
    (from, to): (&Path, &Path),
    columns: &[Column],
    partitions: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    let field = |c: &Column| {
        let mut marks = c.field.metadata().clone();
        marks.insert(PARQUET_FIELD_ID_META_KEY.to_string(), c.id.to_string());
        Field::new(c.field.name(), c.field.data_type().clone(), true).with_metadata(marks)
    };
    let schema = part::schema(columns.iter().map(field).collect());
    let mut out = Part::create(store, to, &schema, Purpose::Published)?;
    part::read(from, |batch| {
        let rows = batch.num_rows();
        let of = |column: &Column| -> Result<ArrayRef> {
            let (name, wanted) = (column.field.name(), column.field.data_type());
            let found = match (batch.column_by_name(name), partitions.get(name)) {
                (Some(array), _) => array.clone(),
                (None, Some(Some(text))) => Arc::new(StringArray::from(vec![text.as_str(); rows])),
                (None, _) => new_null_array(wanted, rows),
            };
            cast(&found, wanted).map_err(|e| Error::bug(e.to_string()).file(from).column(name))
        };
        out.write(&part::batch(&schema, columns.iter().map(of).collect::<Result<_>>()?)?)
    })?;
    out.finish()
}

/// A bound of a column, so that those of several row groups can be compared.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(Vec<u8>),
}

impl Bound {
    /// As Iceberg stores a single value: little-endian numbers, and texts as they are.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Bound::Bool(v) => vec![u8::from(*v)],
            Bound::Int(v) => v.to_le_bytes().to_vec(),
            Bound::Long(v) => v.to_le_bytes().to_vec(),
            Bound::Float(v) => v.to_le_bytes().to_vec(),
            Bound::Double(v) => v.to_le_bytes().to_vec(),
            Bound::Text(v) => v.clone(),
        }
    }
}

/// What the footer of a written file says.
pub fn facts(file: &Path, columns: &[Column]) -> Result<Facts> {
    let (input, _) = Input::open(&Location::from(file), None)?;
    let damaged = |e: parquet::errors::ParquetError| Error::data(format!("damaged: {e}")).file(file);
    let footer = ArrowReaderMetadata::load(&input, ArrowReaderOptions::new()).map_err(damaged)?;
    let groups = footer.metadata().row_groups();
    let rows = footer.metadata().file_metadata().num_rows().max(0) as u64;
    let mut facts = Facts { rows, ..Facts::default() };
    facts.offsets = groups.iter().map(|g| g.column(0).byte_range().0 as i64).collect();
    for (place, column) in columns.iter().enumerate() {
        let chunks = || groups.iter().map(|g| g.column(place));
        facts.sizes.push((column.id, json!(chunks().map(|c| c.compressed_size()).sum::<i64>())));
        facts.values.push((column.id, json!(chunks().map(|c| c.num_values()).sum::<i64>())));
        let statistics: Option<Vec<&Statistics>> = chunks().map(|c| c.statistics()).collect();
        let Some(statistics) = statistics else { continue };
        if let Some(nulls) = statistics.iter().map(|s| s.null_count_opt()).sum::<Option<u64>>() {
            facts.nulls.push((column.id, json!(nulls)));
        }
        // a chunk of nulls has no bounds and does not widen those of the others
        let valued = groups.iter().zip(&statistics);
        let valued = valued.filter(|(g, s)| s.null_count_opt() != Some(g.num_rows().max(0) as u64));
        let known = matches!(
            column.field.data_type(),
            DataType::Boolean
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Date32
                | DataType::Utf8
                | DataType::Timestamp(..)
        );
        let bounds: Option<Vec<(Bound, Bound)>> = valued.map(|(_, s)| bounds(s)).collect();
        let folded = bounds
            .filter(|_| known)
            .into_iter()
            .flatten()
            .reduce(|a, b| (if b.0 < a.0 { b.0 } else { a.0 }, if b.1 > a.1 { b.1 } else { a.1 }));
        if let Some((low, high)) = folded {
            facts.lower.push((column.id, json!(text_of(&low.bytes()))));
            facts.upper.push((column.id, json!(text_of(&high.bytes()))));
        }
    }
    Ok(facts)
}

/// Lower and upper bound of a chunk; none where they are not known.
fn bounds(of: &Statistics) -> Option<(Bound, Bound)> {
    Some(match of {
        Statistics::Boolean(s) => (Bound::Bool(*s.min_opt()?), Bound::Bool(*s.max_opt()?)),
        Statistics::Int32(s) => (Bound::Int(*s.min_opt()?), Bound::Int(*s.max_opt()?)),
        Statistics::Int64(s) => (Bound::Long(*s.min_opt()?), Bound::Long(*s.max_opt()?)),
        Statistics::Float(s) => (Bound::Float(*s.min_opt()?), Bound::Float(*s.max_opt()?)),
        Statistics::Double(s) => (Bound::Double(*s.min_opt()?), Bound::Double(*s.max_opt()?)),
        Statistics::ByteArray(s) => {
            (Bound::Text(s.min_opt()?.data().to_vec()), Bound::Text(s.max_opt()?.data().to_vec()))
        }
        _ => return None,
    })
}
