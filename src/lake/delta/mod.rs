//! Delta tables, read by their log.

pub mod engine;
pub mod snapshot;

use crate::error::{Error, Result};
use crate::lake::delta::snapshot::Table;
use crate::lake::location::Location;
use crate::lake::table::{Pin, TableFile};

/// The files of a pinned or the newest version of the table at a place.
pub fn files(place: &Location, pin: &Pin) -> Result<Vec<TableFile>> {
    let table = Table::open(place, pin)?;
    table.ok_or_else(|| Error::data("the table's log is empty").file(place.shown()))?.read()
}
