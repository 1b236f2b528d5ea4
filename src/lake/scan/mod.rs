//! Account features: the Parquet files of one scenario, opened, checked against each other and read in
//! batches.

pub mod coerce;
pub mod filter;
pub mod footer;
pub mod format;
pub mod ids;
pub mod locate;
pub mod prune;
pub mod repeated;
pub mod schema;
mod shape;
pub mod source;
pub mod units;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use rayon::prelude::*;

use crate::error::{Error, Kind, Result, which_column};
use crate::lake::scan::filter::Filter;
use crate::lake::scan::locate::{Located, locate};
use crate::lake::scan::schema::Merged;
use crate::lake::scan::source::{BATCH_ROWS, Source};
pub use crate::lake::scan::units::Unit;
use crate::lake::table::{Pin, TableRead};

/// Files up to so many keep their footers in memory from the start; of more, those that are read.
const KEPT_FOOTERS: usize = 16;

/// The accounts of one scenario.
#[derive(Clone)]
pub struct Accounts {
    sources: Vec<Source>,
    merged: Merged,
    units: Vec<Unit>,
    /// The units that each file of the output is made of.
    parts: Vec<Range<usize>>,
    rows: u64,
    filter: Option<Filter>,
    /// Ordinals of rows that are left out, sorted.
    dropped: Vec<u64>,
}

impl Accounts {
    /// Opens every file, reads footers only. Refuses (65) what is no Parquet file.
    pub fn open(place: &Path) -> Result<Accounts> {
        Accounts::open_where(place, &Pin::default(), None)
    }

    /// As [`Accounts::open`], of a table at the version that is pinned; without the files that `filter` leaves
    /// out by their partitions alone, and with only the rows for which the SQL expression is true.
    pub fn open_where(place: &Path, pin: &Pin, filter: Option<&str>) -> Result<Accounts> {
        let found = locate(place, pin)?;
        let Some(filter) = filter else { return Accounts::of_files(found, place) };
        let kept = prune::keep(&found, filter)?;
        if kept.is_empty() && !found.is_empty() {
            return Err(Error::new(Kind::Empty, "no account of the target is left to classify")
                .file(place)
                .value(filter)
                .hint("target.where leaves out every partition"));
        }
        Accounts::of_files(kept, place)?.with_filter(filter)
    }

    fn of_files(files: Vec<Located>, place: &Path) -> Result<Accounts> {
        let (keep, shape) = (files.len() <= KEPT_FOOTERS, Mutex::new(None));
        let open = |file| {
            let mut source = Source::open(file, keep)?;
            source.share_shape(&shape);
            Ok(source)
        };
        let mut sources = files.into_par_iter().map(open).collect::<Result<Vec<_>>>()?;
        let (mut rows, mut dropped) = (0, Vec::new());
        for source in &mut sources {
            source.first_row = rows;
            let deleted = source.located.table.iter().flat_map(|t| t.deleted.iter());
            dropped.extend(deleted.map(|row| rows + row));
            rows += source.rows();
        }
        if sources.is_empty() {
            return Err(Error::new(Kind::Empty, "the directory holds no Parquet file").file(place));
        }
        let merged = Merged::new(&sources)?;
        let units = units::cut(&sources);
        let parts = (0..units.len()).map(|i| i..i + 1).collect();
        let rows = rows - dropped.len() as u64;
        Ok(Accounts { sources, merged, units, parts, rows, filter: None, dropped })
    }

    /// Cut finer where there are fewer than `units` units, so that so many workers have something to do. Files of
    /// the output are made of the same rows as before.
    pub fn cut_for(mut self, units: usize) -> Accounts {
        if units > self.units.len() {
            (self.units, self.parts) = units::finer(&self.units, &self.sources, units);
        }
        self
    }

    /// Keeps only the rows for which the SQL expression is true.
    fn with_filter(mut self, expression: &str) -> Result<Accounts> {
        let filter = Filter::parse(expression, self.schema())?;
        filter.columns().iter().try_for_each(|c| self.merged.check(c))?;
        self.filter = Some(filter);
        Ok(self)
    }

    /// Leaves out the rows with these ordinals (sorted).
    pub fn without_rows(mut self, dropped: Vec<u64>) -> Accounts {
        if self.dropped.is_empty() {
            self.dropped = dropped;
        } else {
            self.dropped.extend(dropped);
            self.dropped.sort_unstable();
            self.dropped.dedup();
        }
        self
    }

    /// The table and its version, where the place is one.
    pub fn table(&self) -> Option<&TableRead> {
        self.sources.first()?.located.table.as_ref().map(|t| t.version.as_ref())
    }

    /// Reads the column as an id: text and whole numbers alike in all files.
    pub fn with_id(mut self, id: &str) -> Accounts {
        self.merged.as_id(id);
        self
    }

    /// Columns of the files and of their paths, in the order of their first appearance; whether a column can
    /// be read from all files, [`Accounts::check`] says.
    pub fn schema(&self) -> &Schema {
        &self.merged.schema
    }

    /// Refuses (65) columns that some files lack or that differ too much between files.
    pub fn check<'a>(&self, columns: impl IntoIterator<Item = &'a String>) -> Result<()> {
        columns.into_iter().try_for_each(|c| self.merged.check(c))
    }

    /// Rows in the files, before any filter, without those that a table has deleted.
    pub fn stored_rows(&self) -> u64 {
        self.rows
    }

    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The units that each file of the output is made of: one each, unless they are cut finer.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
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

    /// The field of a column, if the files have it.
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.merged.field(name)
    }

    /// The field of a column, or an error that names the nearest one.
    pub fn field(&self, name: &str) -> Result<&Field> {
        self.merged.check(name)?;
        self.merged.field(name).ok_or_else(|| {
            let names = self.schema().fields().iter().map(|f| f.name().as_str());
            let error = Error::data("the column is missing").file(self.place()).column(name);
            error.hint(which_column(names, name))
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
        let mut needed: Vec<&str> = columns.iter().map(String::as_str).collect();
        for name in self.filter.iter().flat_map(|f| f.columns()) {
            if !columns.contains(name) {
                needed.push(name);
            }
        }
        let fields = needed.iter().map(|name| self.field(name)).collect::<Result<Vec<_>>>()?;
        let places: Vec<usize> = (0..columns.len()).collect();
        let mut waiting = Waiting::default();
        for piece in unit.pieces() {
            let mut next_row = piece.first_row;
            self.sources[piece.file].read(piece, &fields, |batch| {
                let ordinals: Vec<u64> = (next_row..next_row + batch.num_rows() as u64).collect();
                next_row += batch.num_rows() as u64;
                let (batch, ordinals) = self.select(batch, ordinals)?;
                if batch.num_rows() == 0 {
                    return Ok(());
                }
                waiting.add(
                    batch.project(&places).map_err(|e| Error::bug(e.to_string()))?,
                    ordinals,
                    &mut each,
                )
            })?;
        }
        waiting.finish(&mut each)
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

/// Small batches that wait until they are worth a call.
#[derive(Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    ordinals: Vec<u64>,
}

impl Waiting {
    fn add(
        &mut self,
        batch: RecordBatch,
        ordinals: Vec<u64>,
        each: &mut impl FnMut(RecordBatch, &[u64]) -> Result<()>,
    ) -> Result<()> {
        if self.ordinals.len() + ordinals.len() > BATCH_ROWS {
            self.finish(each)?;
        }
        self.batches.push(batch);
        self.ordinals.extend(ordinals);
        if self.ordinals.len() >= BATCH_ROWS / 2 { self.finish(each) } else { Ok(()) }
    }

    fn finish(&mut self, each: &mut impl FnMut(RecordBatch, &[u64]) -> Result<()>) -> Result<()> {
        let (batches, ordinals) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.ordinals));
        match batches.as_slice() {
            [] => Ok(()),
            [one] => each(one.clone(), &ordinals),
            [first, ..] => {
                let joined = concat_batches(&first.schema(), &batches)
                    .map_err(|e| Error::data(format!("cannot join batches: {e}")))?;
                each(joined, &ordinals)
            }
        }
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
    joined(accounts, &batches)?.ok_or_else(|| Error::data("the table has no row").file(accounts.place()))
}

/// Batches that were read of some accounts as one; none of none.
pub fn joined(accounts: &Accounts, batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let joined = concat_batches(&first.schema(), batches);
    joined.map(Some).map_err(|e| Error::data(format!("cannot join batches: {e}")).file(accounts.place()))
}

/// The files of a scenario relative to its place, for a digest that survives a move of the lake.
pub fn relative_files(accounts: &Accounts, place: &Path) -> Vec<(String, PathBuf)> {
    accounts
        .files()
        .map(|f| (f.strip_prefix(place).unwrap_or(f).to_string_lossy().into_owned(), f.to_path_buf()))
        .collect()
}
