//! Account features: the Parquet files of one scenario, opened, checked against each other and read in
//! batches.
//!
//! Files from outside are opened by the parquet crate only, which answers a forged footer with an error.

pub mod filter;
pub mod footer;
pub mod ids;
pub mod locate;

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Kind, Result, nearest};
use crate::lake::scan::filter::Filter;
use crate::lake::scan::locate::{Located, locate};

/// Rows of a batch: small enough that a batch of all features stays in the L2 cache while every teacher
/// scores it.
pub const BATCH_ROWS: usize = 8192;
/// Rows that one worker takes at a time, at least where the files allow it.
const UNIT_ROWS: usize = 65_536;
/// Row groups beyond this are cut into several units.
const LARGEST_UNIT: usize = 2 * UNIT_ROWS;
/// What a column of a row group may unpack to: so much, and so much for each row.
const LARGEST_CHUNK: i64 = 64 << 20;
const BYTES_PER_ROW: i64 = 4096;

/// One Parquet file of the scenario.
#[derive(Clone)]
struct Source {
    located: Located,
    metadata: ArrowReaderMetadata,
    bytes: u64,
    modified: Option<SystemTime>,
    first_row: u64,
}

/// A run of rows of one file that one worker reads.
#[derive(Debug, Clone)]
pub struct Unit {
    pub index: usize,
    file: usize,
    row_groups: Vec<usize>,
    skip: usize,
    take: usize,
    first_row: u64,
}

impl Unit {
    /// Its stored rows.
    pub fn rows(&self) -> u64 {
        self.take as u64
    }

    /// Its first rows alone.
    pub fn head(&self, rows: usize) -> Unit {
        Unit { take: self.take.min(rows), ..self.clone() }
    }
}

/// The accounts of one scenario.
#[derive(Clone)]
pub struct Accounts {
    sources: Vec<Source>,
    schema: Schema,
    units: Vec<Unit>,
    rows: u64,
    filter: Option<Filter>,
    /// Ordinals of rows that are left out, sorted.
    dropped: Vec<u64>,
}

impl Accounts {
    /// Opens every file, reads footers only. Refuses what is no Parquet file and files whose columns differ
    /// (65).
    pub fn open(place: &Path) -> Result<Accounts> {
        let mut sources: Vec<Source> = Vec::new();
        let mut rows = 0;
        for located in locate(place)? {
            let source = open_source(located, rows)?;
            rows += source.rows();
            if let Some(first) = sources.first() {
                same_columns(first, &source)?;
            }
            sources.push(source);
        }
        let first =
            sources.first().ok_or_else(|| Error::data("the directory holds no Parquet file").file(place))?;
        let schema = full_schema(first)?;
        let units = cut_into_units(&sources);
        Ok(Accounts { sources, schema, units, rows, filter: None, dropped: Vec::new() })
    }

    /// Keeps only the rows for which the SQL expression is true.
    pub fn with_filter(mut self, expression: &str) -> Result<Accounts> {
        self.filter = Some(Filter::parse(expression, &self.schema)?);
        Ok(self)
    }

    /// Leaves out the rows with these ordinals (sorted).
    pub fn without_rows(mut self, dropped: Vec<u64>) -> Accounts {
        self.dropped = dropped;
        self
    }

    /// Columns of the files and of their paths, in the order of the first file.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows in the files, before any filter.
    pub fn stored_rows(&self) -> u64 {
        self.rows
    }

    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Stored rows of some of the units.
    pub fn rows_of(&self, units: Range<usize>) -> u64 {
        self.units[units].iter().map(Unit::rows).sum()
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|s| s.located.path.as_path())
    }

    /// The first file: where to point in a message about the whole scenario.
    pub fn place(&self) -> &Path {
        &self.sources[0].located.path
    }

    /// The field of a column, or an error that names the nearest one.
    pub fn field(&self, name: &str) -> Result<&Field> {
        self.schema.field_with_name(name).map_err(|_| {
            let error = Error::data("the column is missing").file(self.place()).column(name);
            match nearest(self.schema.fields().iter().map(|f| f.name().as_str()), name) {
                Some(near) => error.hint(format!("the nearest column is {near:?}")),
                None => error,
            }
        })
    }

    /// Hands the rows of a unit, filtered, to `each`: batches of at most [`BATCH_ROWS`] rows with `columns`
    /// in their order, and the ordinal of every row of the batch among all stored rows.
    pub fn read(
        &self,
        unit: &Unit,
        columns: &[String],
        mut each: impl FnMut(RecordBatch, &[u64]) -> Result<()>,
    ) -> Result<()> {
        let source = &self.sources[unit.file];
        let path = &source.located.path;
        let mut needed: Vec<&str> = columns.iter().map(String::as_str).collect();
        for name in self.filter.iter().flat_map(|f| f.columns()) {
            if !needed.contains(&name.as_str()) {
                needed.push(name);
            }
        }
        let file = File::open(path).map_err(|e| Error::io(&e, "cannot open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, source.metadata.clone());
        let mask = ProjectionMask::columns(builder.parquet_schema(), needed.iter().copied());
        // A file that was replaced under the reader looks damaged, but another try will read it.
        let refused = |e: String| match source.check_unchanged() {
            Ok(()) => Error::data(format!("cannot be read as Parquet: {e}")).file(path),
            Err(replaced) => replaced,
        };
        source.check_sizes(unit, &needed)?;
        let built = guarded(|| {
            let builder = builder
                .with_projection(mask)
                .with_row_groups(unit.row_groups.clone())
                .with_batch_size(BATCH_ROWS);
            builder.with_offset(unit.skip).with_limit(unit.take).build().map_err(|e| e.to_string())
        });
        let mut reader = built.map_err(refused)?;
        let mut next_row = unit.first_row;
        let mut read = 0;
        while let Some(batch) =
            guarded(|| reader.next().transpose().map_err(|e| e.to_string())).map_err(refused)?
        {
            crate::process::cancel::check()?;
            let ordinals: Vec<u64> = (next_row..next_row + batch.num_rows() as u64).collect();
            next_row += batch.num_rows() as u64;
            read += batch.num_rows();
            let batch = self.arrange(source, &batch, &needed)?;
            let (batch, ordinals) = self.select(batch, ordinals)?;
            if batch.num_rows() > 0 {
                let places: Vec<usize> = (0..columns.len()).collect();
                each(batch.project(&places).map_err(|e| Error::bug(e.to_string()))?, &ordinals)?;
            }
        }
        match read == unit.take {
            true => Ok(()),
            false => Err(Error::data(format!(
                "the file's footer promises {} rows here, {read} were read",
                unit.take
            ))
            .file(path)),
        }
    }

    /// The batch's columns in the order of `needed`, partition columns filled in from the path.
    fn arrange(&self, source: &Source, batch: &RecordBatch, needed: &[&str]) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(needed.len());
        let mut fields = Vec::with_capacity(needed.len());
        for name in needed {
            let array = match (batch.column_by_name(name), source.located.partitions.get(*name)) {
                (Some(array), _) => array.clone(),
                (None, Some(Some(value))) => {
                    Arc::new(StringArray::from(vec![value.as_str(); batch.num_rows()])) as ArrayRef
                }
                (None, Some(None)) => new_null_array(&DataType::Utf8, batch.num_rows()),
                (None, None) => {
                    return Err(Error::data("the column is missing")
                        .file(&source.located.path)
                        .column(*name));
                }
            };
            fields.push(Field::new(*name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|e| Error::bug(e.to_string()))
    }

    fn select(&self, batch: RecordBatch, ordinals: Vec<u64>) -> Result<(RecordBatch, Vec<u64>)> {
        let first = ordinals.first().copied().unwrap_or(0);
        let from = self.dropped.partition_point(|r| *r < first);
        let any_dropped = self.dropped.get(from).is_some_and(|r| *r < first + ordinals.len() as u64);
        if self.filter.is_none() && !any_dropped {
            return Ok((batch, ordinals));
        }
        let mut keep = match &self.filter {
            Some(filter) => filter.mask(&batch)?,
            None => vec![true; batch.num_rows()],
        };
        for row in self.dropped[from..].iter().take_while(|r| **r < first + ordinals.len() as u64) {
            keep[(row - first) as usize] = false;
        }
        let kept = ordinals.into_iter().zip(&keep).filter_map(|(o, k)| k.then_some(o)).collect();
        let batch =
            filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(|e| Error::bug(e.to_string()))?;
        Ok((batch, kept))
    }
}

impl Source {
    fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// A changed size or time of the file since it was opened: exit 75, since a retry sees the new content.
    fn check_unchanged(&self) -> Result<()> {
        let path = &self.located.path;
        let meta = std::fs::metadata(path).map_err(|e| Error::io(&e, "cannot open", path))?;
        match meta.len() == self.bytes && meta.modified().ok() == self.modified {
            true => Ok(()),
            false => Err(Error::new(Kind::TryAgain, "the file was replaced while it was read").file(path)),
        }
    }

    /// A column that unpacks to far more than its rows need is refused before it takes the memory.
    fn check_sizes(&self, unit: &Unit, needed: &[&str]) -> Result<()> {
        for group in unit.row_groups.iter().map(|g| self.metadata.metadata().row_group(*g)) {
            let budget = LARGEST_CHUNK + BYTES_PER_ROW * group.num_rows();
            for chunk in group
                .columns()
                .iter()
                .filter(|c| c.column_path().parts().first().is_some_and(|p| needed.contains(&p.as_str())))
            {
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

/// Damaged bytes must not end the process: a panic inside the reader is an error about the file.
fn guarded<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its pages are damaged".to_string()))
}

fn open_source(located: Located, first_row: u64) -> Result<Source> {
    let path = located.path.clone();
    let mut file = File::open(&path).map_err(|e| Error::io(&e, "cannot open", &path))?;
    let meta = file.metadata().map_err(|e| Error::io(&e, "cannot open", &path))?;
    footer::check(&mut file, meta.len()).map_err(|e| e.file(&path))?;
    let text = is_text(&mut file);
    let refused = |e: String| match text {
        true => Error::data("this is a text file, accounts are read as Parquet").file(&path).hint(format!(
            "if it is CSV: duckdb -c \"copy (from '{}') to 'accounts.parquet'\"",
            path.display()
        )),
        false => Error::data(format!("not a Parquet file: {e}")).file(&path),
    };
    let metadata =
        guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string()))
            .map_err(refused)?;
    let groups: i64 = metadata.metadata().row_groups().iter().map(|g| g.num_rows()).sum();
    if groups != metadata.metadata().file_metadata().num_rows()
        || metadata.metadata().row_groups().iter().any(|g| g.num_rows() < 0)
    {
        return Err(refused("its footer contradicts itself about the number of rows".to_string()));
    }
    Ok(Source { located, metadata, bytes: meta.len(), modified: meta.modified().ok(), first_row })
}

/// Whether a file begins as text does, and not as Parquet.
fn is_text(file: &mut File) -> bool {
    let mut head = Vec::new();
    let read = file.rewind().and_then(|()| file.by_ref().take(256).read_to_end(&mut head)).is_ok();
    let printable = |b: &u8| *b >= b' ' || [b'\n', b'\r', b'\t'].contains(b);
    read && head.len() >= 4 && head.iter().all(printable) && !head.starts_with(b"PAR1")
}

fn full_schema(source: &Source) -> Result<Schema> {
    let path = &source.located.path;
    let mut fields: Vec<Field> =
        source.metadata.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    for name in source.located.partitions.keys() {
        if fields.iter().any(|f| f.name() == name) {
            return Err(Error::data("the column stands in the file and in its path").file(path).column(name));
        }
        fields.push(Field::new(name, DataType::Utf8, true));
    }
    for (i, field) in fields.iter().enumerate() {
        if let Some(twin) =
            fields[..i].iter().find(|f| f.name().to_lowercase() == field.name().to_lowercase())
        {
            let message = match twin.name() == field.name() {
                true => "the column stands twice",
                false => "two columns differ only by case",
            };
            return Err(Error::data(message).file(path).column(field.name()).value(twin.name()));
        }
    }
    Ok(Schema::new(fields))
}

fn same_columns(first: &Source, other: &Source) -> Result<()> {
    let (a, b) = (full_schema(first)?, full_schema(other)?);
    let refuse = |what: String, column: &str| {
        Err(Error::data(what)
            .file(&other.located.path)
            .column(column)
            .with("compared with", first.located.path.display().to_string()))
    };
    for field in a.fields() {
        match b.field_with_name(field.name()) {
            Err(_) => return refuse("the column is missing in this file".to_string(), field.name()),
            Ok(found) if found.data_type() != field.data_type() => {
                return refuse(
                    format!("the column is {} here and {} there", found.data_type(), field.data_type()),
                    field.name(),
                );
            }
            Ok(_) => {}
        }
    }
    match b.fields().iter().find(|f| a.field_with_name(f.name()).is_err()) {
        Some(extra) => refuse("the column is not in the first file".to_string(), extra.name()),
        None => Ok(()),
    }
}

fn cut_into_units(sources: &[Source]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        let mut pending =
            Unit { index: 0, file, row_groups: Vec::new(), skip: 0, take: 0, first_row: source.first_row };
        for (group, meta) in source.metadata.metadata().row_groups().iter().enumerate() {
            pending.row_groups.push(group);
            pending.take += meta.num_rows() as usize;
            if pending.take >= UNIT_ROWS {
                let next = pending.first_row + pending.take as u64;
                cut(&pending, &mut units);
                pending = Unit { index: 0, file, row_groups: Vec::new(), skip: 0, take: 0, first_row: next };
            }
        }
        if pending.take > 0 {
            cut(&pending, &mut units);
        }
    }
    for (index, unit) in units.iter_mut().enumerate() {
        unit.index = index;
    }
    units
}

/// A large row group becomes several units, each of which skips the pages before it.
fn cut(unit: &Unit, units: &mut Vec<Unit>) {
    let parts = if unit.take > LARGEST_UNIT { unit.take.div_ceil(LARGEST_UNIT) } else { 1 };
    let bounds: Vec<usize> = (0..=parts).map(|i| i * unit.take / parts).collect();
    for pair in bounds.windows(2) {
        units.push(Unit {
            skip: pair[0],
            take: pair[1] - pair[0],
            first_row: unit.first_row + pair[0] as u64,
            ..unit.clone()
        });
    }
}

/// A whole small table in memory, for labelled histories and label files: its batches joined into one.
pub fn read_all(accounts: &Accounts, columns: &[String]) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    for unit in accounts.units() {
        accounts.read(unit, columns, |batch, _| {
            batches.push(batch);
            Ok(())
        })?;
    }
    let schema = match batches.first() {
        Some(batch) => batch.schema(),
        None => return Err(Error::data("the table has no row").file(accounts.place())),
    };
    arrow::compute::concat_batches(&schema, &batches)
        .map_err(|e| Error::data(format!("cannot join batches: {e}")).file(accounts.place()))
}

/// The files of a scenario relative to its place, for a digest that survives a move of the lake.
pub fn relative_files(accounts: &Accounts, place: &Path) -> Vec<(String, PathBuf)> {
    accounts
        .files()
        .map(|f| (f.strip_prefix(place).unwrap_or(f).to_string_lossy().into_owned(), f.to_path_buf()))
        .collect()
}
