//! One Parquet file from outside: opened with care, read a run of rows at a time.
//!
//! Such files are opened by the parquet crate only, which answers a forged footer with an error.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ProjectionMask};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Error, Kind, Result};
pub use crate::lake::input::BATCH_ROWS;
use crate::lake::input::{self, Input};
use crate::lake::location::{FileId, Location};
use crate::lake::scan::footer;
use crate::lake::scan::locate::Located;
use crate::lake::scan::schema::{self, Columns};
use crate::lake::scan::shape::Shape;
use crate::lake::table::{Column, InTable};

/// What a column of a row group may unpack to: so much, and so much for each row.
const LARGEST_CHUNK: i64 = 64 << 20;
const BYTES_PER_ROW: i64 = 4096;

/// One Parquet file of the scenario.
#[derive(Clone)]
pub struct Source {
    pub located: Located,
    /// Read again with the file's rows where it was let go.
    footer: Arc<OnceLock<ArrowReaderMetadata>>,
    /// Rows of each row group.
    groups: Vec<usize>,
    shape: Arc<Shape>,
    id: FileId,
    pub first_row: u64,
}

/// A run of rows of one file.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    pub file: usize,
    pub row_groups: Vec<usize>,
    pub skip: usize,
    pub take: usize,
    /// Ordinal of its first row among all rows.
    pub first_row: u64,
}

impl Columns for Source {
    fn path(&self) -> &Path {
        &self.located.path
    }

    fn fields(&self) -> Vec<Field> {
        self.shape.fields.clone()
    }

    fn all_null(&self, column: &str) -> bool {
        self.shape.all_null.iter().any(|name| name == column)
    }
}

impl Source {
    /// Opens a file and reads its footer, which takes the memory of thousands of rows and is kept where that is
    /// asked for. Refuses (65) what is no Parquet file.
    pub fn open(located: Located, keep_footer: bool) -> Result<Source> {
        let (metadata, id) = Source::load(&located)?;
        let groups = metadata.metadata().row_groups().iter().map(|g| g.num_rows() as usize).collect();
        let shape = Arc::new(Shape::of(&located, &metadata));
        let footer = Arc::new(OnceLock::new());
        if keep_footer {
            footer.get_or_init(|| metadata);
        }
        Ok(Source { located, footer, groups, shape, id, first_row: 0 })
    }

    /// One shape for files that are alike.
    pub fn share_shape(&mut self, known: &Mutex<Option<Arc<Shape>>>) {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(shape) if *shape == self.shape => self.shape = shape.clone(),
            _ => *known = Some(self.shape.clone()),
        }
    }

    fn footer(&self) -> Result<&ArrowReaderMetadata> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer);
        }
        match Source::load(&self.located) {
            Ok((footer, id)) if id == self.id => Ok(self.footer.get_or_init(|| footer)),
            Ok(_) => Err(self.replaced()),
            Err(damaged) => self.check_unchanged().and(Err(damaged)),
        }
    }

    fn load(located: &Located) -> Result<(ArrowReaderMetadata, FileId)> {
        let path = located.path.clone();
        let (mut file, id) = Input::open(&Location::from(path.as_path()), None)?;
        if let Some(table) = located.table.as_ref().filter(|t| t.bytes != id.bytes) {
            return Err(Error::data(format!("the table's log says that the file has {} bytes", table.bytes))
                .file(&path)
                .value(id.bytes));
        }
        file.fetch_tail()?;
        footer::check(id.bytes, |start, length| file.get_bytes(start, length).ok())
            .map_err(|e| e.file(&path))?;
        let text = is_text(&file);
        let refused = |e: String| match text {
            true => Error::data("this is a text file, accounts are read as Parquet").file(&path).hint(
                format!("if it is CSV: duckdb -c \"copy (from '{}') to 'accounts.parquet'\"", path.display()),
            ),
            false => Error::data(format!("not a Parquet file: {e}")).file(&path),
        };
        let metadata = guarded(|| read_footer(&file).map_err(|e| e.to_string())).map_err(refused)?;
        let by_id = |table: &InTable| table.columns.iter().all(|c| c.field_id.is_some());
        let has_id = |f: &Arc<Field>| f.metadata().contains_key(PARQUET_FIELD_ID_META_KEY);
        if located.table.as_ref().is_some_and(by_id) && !metadata.schema().fields().iter().any(has_id) {
            let why = "the table finds columns by the ids of their fields, and this file has none";
            return Err(Error::data(why).file(&path));
        }
        let groups: i64 = metadata.metadata().row_groups().iter().map(|g| g.num_rows()).sum();
        if groups != metadata.metadata().file_metadata().num_rows()
            || metadata.metadata().row_groups().iter().any(|g| g.num_rows() < 0)
        {
            return Err(refused("its footer contradicts itself about the number of rows".to_string()));
        }
        Ok((metadata, id))
    }

    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|rows| *rows as u64).sum()
    }

    /// Rows of each row group.
    pub fn row_groups(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().copied()
    }

    /// Hands the rows of a piece to `each` in batches of `columns` as `types` has them; a column that stands
    /// in the path is filled in from there.
    pub fn read(
        &self,
        piece: &Piece,
        columns: &[&Field],
        mut each: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let path = &self.located.path;
        let (mut file, _) = Input::open(&Location::from(path.as_path()), Some(&self.id))?;
        let metadata = self.footer()?;
        let places = self.places(metadata, columns);
        let mut roots: Vec<usize> = places.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        // A file that was replaced under the reader looks damaged, but another try will read it.
        let refused = |e: String| match self.check_unchanged() {
            Ok(()) => Error::data(format!("cannot be read as Parquet: {e}")).file(path),
            Err(replaced) => replaced,
        };
        self.check_sizes(metadata, piece, &roots)?;
        let ranges = guarded(|| Ok(self.ranges(metadata, piece, &roots))).map_err(refused)?;
        file.fetch(&ranges)?;
        let built = guarded(|| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
            let builder = builder
                .with_projection(mask)
                .with_row_groups(piece.row_groups.clone())
                .with_batch_size(BATCH_ROWS);
            builder.with_offset(piece.skip).with_limit(piece.take).build().map_err(|e| e.to_string())
        });
        let mut reader = built.map_err(refused)?;
        // The batch's columns stand in the order of the file.
        let places: Vec<Option<usize>> =
            places.iter().map(|p| p.and_then(|p| roots.binary_search(&p).ok())).collect();
        let mut read = 0;
        while let Some(batch) =
            guarded(|| reader.next().transpose().map_err(|e| e.to_string())).map_err(refused)?
        {
            crate::process::cancel::check()?;
            read += batch.num_rows();
            each(self.arrange(&batch, columns, &places)?)?;
        }
        match read == piece.take {
            true => Ok(()),
            false => Err(Error::data(format!(
                "the file's footer promises {} rows here, {read} were read",
                piece.take
            ))
            .file(path)),
        }
    }

    /// Where the file holds the columns; by place, not by name: a name with a dot would be taken for a path.
    fn places(&self, metadata: &ArrowReaderMetadata, columns: &[&Field]) -> Vec<Option<usize>> {
        let own = metadata.schema().fields();
        if let Some(table) = &self.located.table {
            let named = |name: &str| table.columns.iter().find(|c| c.field.name() == name && !c.partition);
            let holds = |column: &Column| match column.field_id.map(|id| id.to_string()) {
                Some(id) => own.iter().position(|f| f.metadata().get(PARQUET_FIELD_ID_META_KEY) == Some(&id)),
                None => own.iter().position(|f| *f.name() == column.physical),
            };
            return columns.iter().map(|c| named(c.name()).and_then(holds)).collect();
        }
        let known: hashbrown::HashMap<&str, usize> =
            own.iter().enumerate().map(|(i, f)| (f.name().as_str(), i)).collect();
        columns.iter().map(|c| known.get(c.name().as_str()).copied()).collect()
    }

    /// The bytes of the columns in the piece's row groups.
    fn ranges(&self, metadata: &ArrowReaderMetadata, piece: &Piece, roots: &[usize]) -> Vec<Range<u64>> {
        let metadata = metadata.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let mut ranges = Vec::new();
        for group in piece.row_groups.iter().map(|g| metadata.row_group(*g)) {
            for (leaf, chunk) in group.columns().iter().enumerate() {
                if roots.binary_search(&schema.get_column_root_idx(leaf)).is_ok() {
                    let (start, length) = chunk.byte_range();
                    ranges.push(start..start.saturating_add(length).min(self.id.bytes).max(start));
                }
            }
        }
        ranges
    }

    /// The batch's columns in the order and with the types of `columns`.
    fn arrange(
        &self,
        batch: &RecordBatch,
        columns: &[&Field],
        places: &[Option<usize>],
    ) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for (column, place) in columns.iter().zip(places) {
            let name = column.name();
            let about = |e: Error| e.file(&self.located.path).column(name);
            let value = self.located.partitions.get(name);
            let array = match (place.map(|p| batch.column(p)), value) {
                (Some(array), None) => array.clone(),
                (Some(array), Some(value)) => {
                    schema::same_as_path(array, value.as_deref()).map_err(about)?;
                    array.clone()
                }
                (None, Some(Some(value))) => {
                    Arc::new(StringArray::from(vec![value.as_str(); rows])) as ArrayRef
                }
                (None, Some(None)) => new_null_array(&DataType::Utf8, rows),
                // a file that is older than the table's column
                (None, None) if self.located.table.is_some() => new_null_array(column.data_type(), rows),
                (None, None) => return Err(about(Error::data("the column is missing"))),
            };
            arrays.push(schema::conform(&array, column.data_type()).map_err(about)?);
            fields.push(Field::new(name, column.data_type().clone(), true));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|e| Error::bug(e.to_string()))
    }

    /// A changed size or time of the file since it was opened: exit 75, since a retry sees the new content.
    fn check_unchanged(&self) -> Result<()> {
        let path = self.located.path.as_path();
        match input::stat(&Location::from(path))? {
            Some(id) if id == self.id => Ok(()),
            _ => Err(self.replaced()),
        }
    }

    fn replaced(&self) -> Error {
        Error::new(Kind::TryAgain, "the file was replaced while it was read").file(&self.located.path)
    }

    /// A column that unpacks to far more than its rows need is refused before it takes the memory.
    fn check_sizes(&self, metadata: &ArrowReaderMetadata, piece: &Piece, roots: &[usize]) -> Result<()> {
        let metadata = metadata.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let read = |leaf: &usize| roots.binary_search(&schema.get_column_root_idx(*leaf)).is_ok();
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(read).collect();
        for group in piece.row_groups.iter().map(|g| metadata.row_group(*g)) {
            let budget = LARGEST_CHUNK + BYTES_PER_ROW * group.num_rows();
            for chunk in leaves.iter().map(|leaf| group.column(*leaf)) {
                if chunk.uncompressed_size() > budget || chunk.uncompressed_size() < 0 {
                    let message =
                        format!("a column of {} rows unpacks to more than {budget} bytes", group.num_rows());
                    return Err(Error::data(message)
                        .file(&self.located.path)
                        .column(chunk.column_path().string())
                        .value(chunk.uncompressed_size()));
                }
            }
        }
        Ok(())
    }
}

/// Whether a file begins as text does, and not as Parquet.
fn is_text(file: &Input) -> bool {
    let Ok(head) = file.get_bytes(0, file.len().min(256) as usize) else { return false };
    let printable = |b: &u8| *b >= b' ' || [b'\n', b'\r', b'\t'].contains(b);
    head.len() >= 4 && head.iter().all(printable) && !head.starts_with(b"PAR1")
}

/// The footer, with each column's type as it is read ([`schema::as_read`]).
fn read_footer(file: &Input) -> parquet::errors::Result<ArrowReaderMetadata> {
    let found = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
    let as_read = |f: &Arc<Field>| f.as_ref().clone().with_data_type(schema::as_read(f.data_type()));
    let fields: Vec<Field> = found.schema().fields().iter().map(as_read).collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    // Where the crate cannot read a column so, it is read as it comes and cast afterwards.
    Ok(ArrowReaderMetadata::try_new(found.metadata().clone(), options).unwrap_or(found))
}

/// Damaged bytes must not end the process: a panic inside the reader is an error about the file.
fn guarded<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its pages are damaged".to_string()))
}
