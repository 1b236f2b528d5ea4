//! What a Delta log says of each file: rows, and the least and greatest value of each column, so that readers
//! skip files. Taken from the Parquet footer.

use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::lake::input::Input;
use crate::lake::location::Location;

/// Schema and statistics of a Parquet file of ours.
pub fn of(file: &std::path::Path) -> Result<(Schema, Value)> {
    let (input, _) = Input::open(&Location::from(file), None)?;
    let damaged = |e: parquet::errors::ParquetError| Error::data(format!("damaged: {e}")).file(file);
    let footer = ArrowReaderMetadata::load(&input, ArrowReaderOptions::new()).map_err(damaged)?;
    let schema = footer.schema().as_ref().clone();
    let groups = footer.metadata().row_groups();
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (place, field) in schema.fields().iter().enumerate() {
        let chunks: Option<Vec<&Statistics>> = groups.iter().map(|g| g.column(place).statistics()).collect();
        let Some(chunks) = chunks.filter(|_| flat(field)) else { continue };
        if let Some(n) = chunks.iter().map(|s| s.null_count_opt()).sum::<Option<u64>>() {
            nulls.insert(field.name().clone(), json!(n));
        }
        // a chunk of nulls has no bounds and does not widen those of the others
        let valued = groups
            .iter()
            .zip(&chunks)
            .filter(|(g, s)| s.null_count_opt() != Some(g.num_rows().max(0) as u64));
        let bounds: Option<Vec<(Value, Value)>> = valued.map(|(_, s)| bounds(s)).collect();
        let folded = bounds.into_iter().flatten().reduce(|a, b| (min(a.0, b.0), max(a.1, b.1)));
        if let Some((low, high)) = folded {
            least.insert(field.name().clone(), low);
            greatest.insert(field.name().clone(), high);
        }
    }
    let rows = footer.metadata().file_metadata().num_rows();
    let stats = json!({"numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls});
    Ok((schema, stats))
}

fn flat(field: &Field) -> bool {
    use DataType::*;
    matches!(
        field.data_type(),
        Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | LargeUtf8 | Utf8View
    )
}

/// Lower and upper bound of a chunk; none where they are not known or not numbers.
fn bounds(of: &Statistics) -> Option<(Value, Value)> {
    // JSON has no NaN and no infinity
    let float = |v: f64| v.is_finite().then(|| json!(v));
    match of {
        Statistics::Int32(s) => Some((json!(s.min_opt()?), json!(s.max_opt()?))),
        Statistics::Int64(s) => Some((json!(s.min_opt()?), json!(s.max_opt()?))),
        Statistics::Float(s) => Some((float(f64::from(*s.min_opt()?))?, float(f64::from(*s.max_opt()?))?)),
        Statistics::Double(s) => Some((float(*s.min_opt()?)?, float(*s.max_opt()?)?)),
        Statistics::ByteArray(s) => {
            Some((json!(s.min_opt()?.as_utf8().ok()?), json!(s.max_opt()?.as_utf8().ok()?)))
        }
        _ => None,
    }
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a < b,
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a < b,
            _ => a.as_f64() < b.as_f64(),
        },
    }
}

fn min(a: Value, b: Value) -> Value {
    if less(&b, &a) { b } else { a }
}

fn max(a: Value, b: Value) -> Value {
    if less(&a, &b) { b } else { a }
}
