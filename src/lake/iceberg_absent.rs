//! In place of `iceberg` where the feature `lakehouse` is off.

use crate::error::Result;
use crate::lake::location::Location;
use crate::lake::table::{Pin, TableFile};

/// No table is known.
pub fn metadata_of(_: &Location) -> Result<Option<Location>> {
    Ok(None)
}

/// Nothing calls it.
pub fn files(_: &Location, _: &Pin) -> Result<Vec<TableFile>> {
    Ok(Vec::new())
}
