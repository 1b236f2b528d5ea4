//! Between arrow and polars: columns cross through the Arrow C data interface, without a copy.

use std::mem::transmute;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, make_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use polars::prelude::{CompatLevel, DataFrame, Series};
use polars_arrow::ffi as theirs;

use crate::error::{Error, Result};

/// An arrow array as a polars series that shares its memory.
pub fn to_polars(name: &str, array: &ArrayRef) -> std::result::Result<Series, String> {
    let (data, schema) = arrow::ffi::to_ffi(&array.to_data()).map_err(|e| e.to_string())?;
    // SAFETY: both crates' structs are the C data interface's, laid out by its specification; ownership moves
    // with the value.
    let (data, schema) = unsafe {
        (
            transmute::<FFI_ArrowArray, theirs::ArrowArray>(data),
            transmute::<FFI_ArrowSchema, theirs::ArrowSchema>(schema),
        )
    };
    // SAFETY: arrow exported both structs just now, so they are valid by the specification.
    let field = unsafe { theirs::import_field_from_c(&schema) }.map_err(|e| e.to_string())?;
    // SAFETY: as above, and the data type is the one exported with the array.
    let chunk =
        unsafe { theirs::import_array_from_c(data, field.dtype.clone()) }.map_err(|e| e.to_string())?;
    let mut series = Series::try_from((&field, chunk)).map_err(|e| e.to_string())?;
    series.rename(name.into());
    Ok(series)
}

/// A polars frame as one record batch; its strings become plain UTF-8 arrays.
pub fn to_arrow(frame: &DataFrame) -> Result<RecordBatch> {
    let failed = |e: String| Error::bug(format!("a table cannot cross from polars to arrow: {e}"));
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for column in frame.columns() {
        let series = column.as_materialized_series().rechunk();
        let chunk = series.to_arrow(0, CompatLevel::newest());
        let field = polars_arrow::datatypes::Field::new(column.name().clone(), chunk.dtype().clone(), true);
        let (schema, data) = (theirs::export_field_to_c(&field), theirs::export_array_to_c(chunk));
        // SAFETY: both crates' structs are the C data interface's, laid out by its specification; ownership
        // moves with the value.
        let (schema, data) = unsafe {
            (
                transmute::<theirs::ArrowSchema, FFI_ArrowSchema>(schema),
                transmute::<theirs::ArrowArray, FFI_ArrowArray>(data),
            )
        };
        // SAFETY: polars exported both structs just now, so they are valid by the specification.
        let data = unsafe { arrow::ffi::from_ffi(data, &schema) }.map_err(|e| failed(e.to_string()))?;
        let mut array = make_array(data);
        if array.data_type() == &DataType::Utf8View {
            array = cast(&array, &DataType::Utf8).map_err(|e| failed(e.to_string()))?;
        }
        fields.push(Field::new(column.name().as_str(), array.data_type().clone(), true));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|e| failed(e.to_string()))
}
