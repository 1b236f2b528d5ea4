//! The catalogs of Iceberg tables: which metadata file counts, and how another one comes to count.

use crate::error::Result;
use crate::lake::catalog::{self, Kind, Name, Settings};
use crate::lake::iceberg::changes::{Change, Found, NewTable, Outcome};
use crate::lake::iceberg::{rest, sql};
use crate::lake::store::Store;

/// What the catalog says of the table; none where it has none.
pub fn load(name: &Name) -> Result<Option<Found>> {
    let settings = known(name)?;
    match settings.kind {
        Kind::Sql => sql::load(&settings, name),
        _ => rest::load(&settings, name),
    }
}

/// Makes a table, and its namespace where there is none; one that is there stays as it is.
pub fn create(store: &dyn Store, name: &Name, new: &NewTable) -> Result<()> {
    let settings = known(name)?;
    match settings.kind {
        Kind::Sql => sql::create(store, &settings, name, new),
        _ => rest::create(&settings, name, new),
    }
}

/// Changes a table, unless it is no longer as it was found; `root` is where its metadata files go.
pub fn commit(
    store: &dyn Store,
    name: &Name,
    (found, root): (&Found, &str),
    change: &Change,
) -> Result<Outcome> {
    let settings = known(name)?;
    match settings.kind {
        Kind::Sql => sql::commit(store, &settings, name, (found, root), change),
        _ => rest::commit(&settings, name, change),
    }
}

fn known(name: &Name) -> Result<Settings> {
    let settings = catalog::settings(&name.catalog)?;
    catalog::check(&name.catalog, &settings)?;
    Ok(settings)
}
