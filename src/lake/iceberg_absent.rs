//! In place of `iceberg` where the feature `lakehouse` is off.

use std::path::Path;

use arrow::datatypes::Field;

use crate::error::{Error, Result};
use crate::lake::location::Location;
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;
use crate::lake::table::{Dates, OfRun, Pin, TableFile};

/// No table is known; one in a catalog is refused (78).
pub fn metadata_of(place: &Location) -> Result<Option<Location>> {
    match place {
        Location::Table(_) => refuse(place),
        _ => Ok(None),
    }
}

/// Refuses (78) the table.
pub fn metadata_place(place: &Location) -> Result<Option<String>> {
    refuse(place)
}

/// Refuses (78) the table.
pub fn files(place: &Location, _: &Pin) -> Result<Vec<TableFile>> {
    refuse(place)
}

/// Refuses (78) the table.
pub fn dates(place: &Location, _: Option<&str>) -> Result<(Location, Dates)> {
    refuse(place)
}

pub fn check_column(_: &Field) -> Result<()> {
    Ok(())
}

/// Refuses (78) the table.
pub fn publish(
    _: &dyn Store,
    (place, _): (&Location, &Location),
    _: &OfRun,
    _: (&Path, &Path),
) -> Result<Vec<FileDigest>> {
    refuse(place)
}

fn refuse<T>(place: &Location) -> Result<T> {
    Err(Error::config("this program asks no catalog of tables")
        .value(place)
        .hint("`make lakehouse` builds the program that does"))
}
