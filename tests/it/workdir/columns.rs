//! Tables in memory: read, written and altered column by column.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// A table as the bytes of a Parquet file with row groups of this many rows.
pub fn parquet(batch: &RecordBatch, row_group: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a writer");
    writer.write(batch).expect("rows");
    writer.close().expect("a footer");
    bytes
}

/// A Parquet file as one table.
pub fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().expect("a reader").map(|b| b.expect("rows")).collect();
    concat_batches(&schema, &batches).expect("one schema")
}

/// The table with this column in the place of the one of the same name, or after all others.
pub fn with(batch: &RecordBatch, name: &str, array: ArrayRef) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = named_columns(batch);
    match columns.iter_mut().find(|(n, _)| n == name) {
        Some(column) => column.1 = array,
        None => columns.push((name.to_string(), array)),
    }
    table(columns)
}

/// The table without a column.
pub fn without(batch: &RecordBatch, name: &str) -> RecordBatch {
    table(named_columns(batch).into_iter().filter(|(n, _)| n != name).collect())
}

/// The table with another name for a column.
pub fn renamed(batch: &RecordBatch, from: &str, to: &str) -> RecordBatch {
    table(
        named_columns(batch)
            .into_iter()
            .map(|(n, a)| (if n == from { to.to_string() } else { n }, a))
            .collect(),
    )
}

/// The names and columns of a table.
pub fn named_columns(batch: &RecordBatch) -> Vec<(String, ArrayRef)> {
    batch.schema().fields().iter().map(|f| f.name().clone()).zip(batch.columns().iter().cloned()).collect()
}

/// A table from its columns, every one of which may hold nulls.
pub fn table(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Schema::new(fields).into(), columns.into_iter().map(|(_, array)| array).collect())
        .expect("columns of one length")
}

/// A column as numbers; null is NaN.
pub fn floats(batch: &RecordBatch, name: &str) -> Vec<f64> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name:?}"));
    let column = cast(column, &DataType::Float64).expect("numbers");
    column.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)).collect()
}

/// A column as text.
pub fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name:?}"));
    let column = cast(column, &DataType::Utf8).expect("text");
    column.as_string::<i32>().iter().map(|v| v.map(str::to_string)).collect()
}
