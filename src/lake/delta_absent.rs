//! In place of `delta` where the feature `lakehouse` is off.

use crate::error::Result;
use crate::lake::location::Location;
use crate::lake::scan::format::{Format, refusal};
use crate::lake::table::{Pin, TableFile};

/// Refuses (65) the table.
pub fn files(place: &Location, _: &Pin) -> Result<Vec<TableFile>> {
    Err(refusal(place.shown(), Format::Delta))
}
