//! Our own Parquet files: parts that stages write, and read back.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, LogicalType, Type as PhysicalType, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type, TypePtr};

use crate::error::{Error, Result};
use crate::lake::input::{BATCH_ROWS, Input};
use crate::lake::location::Location;
use crate::lake::scan::schema::{EXTENSION, UUID};
use crate::lake::store::files::{cannot_create, create_dir, put, temporary};
use crate::lake::store::{Real, Store, digest};

/// Whether a part is for people and other programs, or only for the next stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Published,
    Intermediate,
}

/// A Parquet file that is being written. It appears under its name when it is complete, so that whoever reads
/// what another attempt wrote before reads one whole file or the other.
///
/// Its bytes depend on its rows alone, not on the batches in which they come.
pub struct Part<'a> {
    store: &'a dyn Store,
    writer: ArrowWriter<Box<dyn Write + Send>>,
    /// Fewer rows than a batch, that wait for more.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    purpose: Purpose,
    beside: PathBuf,
    path: PathBuf,
}

impl<'a> Part<'a> {
    pub fn create(
        store: &'a dyn Store,
        path: &Path,
        schema: &SchemaRef,
        purpose: Purpose,
    ) -> Result<Part<'a>> {
        if let Some(folder) = path.parent() {
            create_dir(store, folder)?;
        }
        let beside = temporary(path);
        let file = store.create(&beside).map_err(|e| cannot_create(&e, path))?;
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("coldstart ", env!("CARGO_PKG_VERSION")).to_string())
            .set_dictionary_enabled(false)
            .set_statistics_enabled(if purpose == Purpose::Published {
                EnabledStatistics::Chunk
            } else {
                EnabledStatistics::None
            });
        if purpose == Purpose::Published {
            let level = ZstdLevel::try_new(1).map_err(|e| Error::bug(e.to_string()))?;
            properties = properties.set_compression(Compression::ZSTD(level));
            for field in schema
                .fields()
                .iter()
                .filter(|f| f.data_type() == &DataType::Utf8 && !f.metadata().contains_key("id"))
            {
                properties =
                    properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), true);
            }
        }
        let mut options = ArrowWriterOptions::new().with_properties(properties.build());
        if let Some(described) = with_uuids(schema).map_err(|e| failed(&e, path))? {
            options = options.with_parquet_schema(described);
        }
        let writer =
            ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(|e| failed(&e, path))?;
        let path = path.to_path_buf();
        Ok(Part { store, writer, waiting: Vec::new(), waiting_rows: 0, purpose, beside, path })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut left = batch.clone();
        while self.waiting_rows + left.num_rows() >= BATCH_ROWS {
            let fits = BATCH_ROWS - self.waiting_rows;
            self.waiting.push(left.slice(0, fits));
            left = left.slice(fits, left.num_rows() - fits);
            self.write_waiting()?;
        }
        if left.num_rows() > 0 {
            self.waiting_rows += left.num_rows();
            self.waiting.push(left);
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<()> {
        self.waiting_rows = 0;
        let batches = std::mem::take(&mut self.waiting);
        let written = match batches.as_slice() {
            [] => Ok(()),
            [one] => self.writer.write(one),
            [first, ..] => {
                let joined =
                    concat_batches(&first.schema(), &batches).map_err(|e| Error::bug(e.to_string()))?;
                self.writer.write(&joined)
            }
        };
        written.map_err(|e| failed(&e, &self.path))
    }

    /// Completes the file. It is not durable yet: publication syncs what it publishes, and a stage's record
    /// knows the digest of the rest.
    pub fn finish(mut self) -> Result<()> {
        self.write_waiting()?;
        let Part { store, writer, purpose, beside, path, .. } = self;
        writer.close().map_err(|e| failed(&e, &path))?;
        if purpose == Purpose::Published {
            store.begin_sync(&beside);
        }
        put(store, &beside, &path)
    }
}

/// A write error keeps the operating system's reason, which decides whether a retry can help.
fn failed(error: &parquet::errors::ParquetError, path: &Path) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Error::io(io, "cannot write", path);
        }
        source = e.source();
    }
    Error::new(crate::error::Kind::Io, format!("cannot write: {error}")).file(path)
}

/// Hands the batches of one of our own parts to `each`.
pub fn read(path: &Path, each: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    read_columns(path, None, each)
}

/// As [`read()`], with the columns named alone, or all.
pub fn read_columns(
    path: &Path,
    columns: Option<&[&str]>,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let damaged = |e: String| Error::data(format!("damaged: {e}")).file(path);
    let builder = open(path)?;
    let mask = match columns {
        // by place: names would be taken for paths, and a class may have a dot in its name
        Some(names) => {
            let places = builder
                .schema()
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, f)| names.contains(&f.name().as_str()))
                .map(|(i, _)| i);
            ProjectionMask::roots(builder.parquet_schema(), places)
        }
        None => ProjectionMask::all(),
    };
    let builder = builder.with_projection(mask);
    for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(e.to_string()))? {
        crate::process::cancel::check()?;
        each(batch.map_err(|e| damaged(e.to_string()))?)?;
    }
    Ok(())
}

/// Opens a part, on this machine or as an object, whose pieces that are wanted may then be all of it.
fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<Input>> {
    let (mut input, id) = Input::open(&Location::from(path), None)?;
    input.fetch(from_ref(&(0..id.bytes)))?;
    ParquetRecordBatchReaderBuilder::try_new(input)
        .map_err(|e| Error::data(format!("damaged: {e}")).file(path))
}

/// The type of a column of one of our own parts.
pub fn data_type(path: &Path, column: &str) -> Result<DataType> {
    let builder = open(path)?;
    let field = builder.schema().field_with_name(column);
    let field = field.map_err(|_| Error::data("the id column is missing").file(path).column(column))?;
    Ok(field.data_type().clone())
}

/// The fields of one of our own parts.
pub fn fields(path: &Path) -> Result<Vec<Field>> {
    Ok(open(path)?.schema().fields().iter().map(|f| f.as_ref().clone()).collect())
}

/// The parts directly in `folder`, sorted by name.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut parts: Vec<PathBuf> = digest::list(&Real, folder)?
        .into_iter()
        .filter(|f| f.ends_with(".parquet"))
        .map(|f| folder.join(f))
        .collect();
    parts.sort();
    Ok(parts)
}

/// A float64 column of a batch that we wrote ourselves.
pub fn floats<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [f64]> {
    let array = batch
        .column_by_name(name)
        .ok_or_else(|| Error::bug("a column is missing from a part").column(name))?;
    let array = array
        .as_primitive_opt::<Float64Type>()
        .ok_or_else(|| Error::bug("a column of a part is not float64").column(name))?;
    Ok(array.values())
}

/// A non-null float64 field.
pub fn float_field(name: impl Into<String>) -> Field {
    Field::new(name, DataType::Float64, false)
}

/// The id's field as it came, marked so that it is not dictionary-encoded.
pub fn id_field(id: &Field) -> Field {
    let mut marks: HashMap<String, String> = [("id".to_string(), "true".to_string())].into();
    marks.extend(id.metadata().get(EXTENSION).map(|name| (EXTENSION.to_string(), name.clone())));
    Field::new(id.name(), id.data_type().clone(), false).with_metadata(marks)
}

/// The Parquet schema in which columns that are marked so are UUIDs; none where no column is.
fn with_uuids(schema: &Schema) -> parquet::errors::Result<Option<SchemaDescriptor>> {
    let is_uuid = |f: &Arc<Field>| f.metadata().get(EXTENSION).is_some_and(|name| name == UUID);
    if !schema.fields().iter().any(is_uuid) {
        return Ok(None);
    }
    let plain = ArrowSchemaConverter::new().convert(schema)?;
    let described = |(column, field): (&TypePtr, &Arc<Field>)| match is_uuid(field) {
        true => Type::primitive_type_builder(field.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY)
            .with_length(16)
            .with_repetition(column.get_basic_info().repetition())
            .with_logical_type(Some(LogicalType::Uuid))
            .build()
            .map(Arc::new),
        false => Ok(column.clone()),
    };
    let columns = plain.root_schema().get_fields().iter().zip(schema.fields()).map(described);
    let root = Type::group_type_builder(plain.root_schema().name())
        .with_fields(columns.collect::<parquet::errors::Result<Vec<_>>>()?)
        .build()?;
    Ok(Some(SchemaDescriptor::new(Arc::new(root))))
}

/// A float64 array from values.
pub fn float_array(values: Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

/// A batch from columns that fit the schema.
pub fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|e| Error::bug(format!("a batch does not fit its schema: {e}")))
}

/// A schema from fields.
pub fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}
