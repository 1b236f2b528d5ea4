//! In place of `delta` where the feature `lakehouse` is off.

use std::path::Path;

use arrow::datatypes::Field;

use crate::error::Result;
use crate::lake::location::Location;
use crate::lake::scan::format::{Format, refusal};
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;
use crate::lake::table::{Dates, OfRun, Pin, TableFile};

/// Refuses (65) the table.
pub fn files(place: &Location, _: &Pin) -> Result<Vec<TableFile>> {
    refuse(place)
}

/// No table is known.
pub fn next_commit(_: &Location) -> Result<Option<Location>> {
    Ok(None)
}

/// Refuses (65) the table.
pub fn dates(root: &Location) -> Result<Dates> {
    refuse(root)
}

pub fn check_column(_: &Field) -> Result<()> {
    Ok(())
}

/// Refuses (65) the table.
pub fn publish(
    _: &dyn Store,
    root: &Location,
    _: &OfRun,
    _: (&Path, &Path),
    _: &[FileDigest],
) -> Result<u64> {
    refuse(root)
}

fn refuse<T>(place: &Location) -> Result<T> {
    Err(refusal(place.shown(), Format::Delta))
}
