//! SQL catalogs: the table `iceberg_tables` of a SQLite file, as pyiceberg's `SqlCatalog` and Iceberg's JDBC catalog
//! keep it. A commit writes the next metadata file and then puts its name in the place of the last one's, in one
//! statement that does so only where that still stands.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Error as SqlError, ErrorCode, OpenFlags, OptionalExtension, params};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::lake::catalog::{Name, Settings, sqlite_path};
use crate::lake::iceberg::changes::{self, Change, Found, NewTable, Outcome};
use crate::lake::iceberg::metadata::{self, parse};
use crate::lake::location::Location;
use crate::lake::store::Store;
use crate::lake::unique::uuid;
use crate::lake::write;

/// How long a statement waits for other writers of the file.
const PATIENCE: Duration = Duration::from_secs(60);
const OF_TABLE: &str = "catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3";

fn open(settings: &Settings) -> Result<Connection> {
    let path = Path::new(sqlite_path(&settings.uri).unwrap_or_default());
    if !path.is_file() {
        return Err(Error::new(Kind::Missing, "the file of the SQL catalog is not there").file(path));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    // one that may only be read is enough to read by
    let connection = opened.or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY));
    let connection = connection.and_then(|c| c.busy_timeout(PATIENCE).map(|()| c));
    connection.map_err(|e| failed(&e, settings))
}

/// What the catalog says of the table; none where it has none.
pub fn load(settings: &Settings, name: &Name) -> Result<Option<Found>> {
    let query = format!("SELECT metadata_location FROM iceberg_tables WHERE {OF_TABLE}");
    let found = open(settings)?.query_row(
        &query,
        params![name.catalog, name.namespace.join("."), name.table],
        |row| row.get::<_, Option<String>>(0),
    );
    let Some(at) = found.optional().map_err(|e| failed(&e, settings))?.flatten() else { return Ok(None) };
    let content = metadata::read(&parse(&at)?)?;
    Ok(Some(Found { at, content }))
}

/// Makes a table; one that is there stays as it is.
pub fn create(store: &dyn Store, settings: &Settings, name: &Name, new: &NewTable) -> Result<()> {
    let connection = open(settings)?;
    let content = changes::new_table(new);
    let at = format!("{}/metadata/00000-{}.metadata.json", new.location, uuid());
    let place = written(store, &at, &content)?;
    let namespace = name.namespace.join(".");
    let insert = || -> std::result::Result<usize, SqlError> {
        connection.execute(
            "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) \
             SELECT ?1, ?2, 'exists', 'true' WHERE NOT EXISTS (SELECT 1 FROM iceberg_namespace_properties \
             WHERE catalog_name = ?1 AND namespace = ?2)",
            params![name.catalog, namespace],
        )?;
        let typed: i64 = connection.query_row(
            "SELECT count(*) FROM pragma_table_info('iceberg_tables') WHERE name = 'iceberg_type'",
            [],
            |row| row.get(0),
        )?;
        let (column, value) = if typed > 0 { (", iceberg_type", ", 'TABLE'") } else { ("", "") };
        connection.execute(
            &format!(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location{column}) \
                 VALUES (?1, ?2, ?3, ?4{value})"
            ),
            params![name.catalog, namespace, name.table, at],
        )
    };
    match insert() {
        Ok(_) => Ok(()),
        Err(SqlError::SqliteFailure(e, _)) if e.code == ErrorCode::ConstraintViolation => {
            write::remove(store, &place)
        }
        Err(e) => Err(failed(&e, settings)),
    }
}

/// Puts the changed metadata in the place of that which was found, if that still counts.
pub fn commit(
    store: &dyn Store,
    settings: &Settings,
    name: &Name,
    (found, root): (&Found, &str),
    change: &Change,
) -> Result<Outcome> {
    let connection = open(settings)?;
    let content = changes::applied(&found.content, &found.at, &change.updates)
        .map_err(|e| Error::bug(e).value(&found.at))?;
    let at = format!("{root}/{}-{}.metadata.json", next_number(&found.at), uuid());
    let place = written(store, &at, &content)?;
    let update = connection.execute(
        &format!(
            "UPDATE iceberg_tables SET metadata_location = ?4, previous_metadata_location = ?5 \
             WHERE {OF_TABLE} AND metadata_location = ?5"
        ),
        params![name.catalog, name.namespace.join("."), name.table, at, found.at],
    );
    match update {
        Ok(0) => write::remove(store, &place).map(|()| Outcome::Lost),
        Ok(_) => Ok(Outcome::Done),
        Err(e) if busy(&e) || matches!(e.sqlite_error_code(), Some(ErrorCode::ReadOnly)) => {
            write::remove(store, &place)?;
            Err(failed(&e, settings))
        }
        Err(e) => Ok(Outcome::Unknown(failed(&e, settings))),
    }
}

/// Writes a metadata file under a name that nobody else has.
fn written(store: &dyn Store, at: &str, content: &Value) -> Result<Location> {
    let place = parse(at)?;
    let bytes = serde_json::to_vec(content).map_err(|e| Error::bug(e.to_string()))?;
    write::write_unique(store, &place, bytes.into()).map(|()| place)
}

/// The number of the metadata file after this one, in five digits as everybody writes it.
fn next_number(at: &str) -> String {
    let name = at.rsplit('/').next().unwrap_or_default();
    let digits: String = name.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    format!("{:05}", digits.parse::<u64>().map_or(0, |n| n.saturating_add(1)))
}

fn busy(error: &SqlError) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn failed(error: &SqlError, settings: &Settings) -> Error {
    let kind = match error.sqlite_error_code() {
        _ if busy(error) => Kind::TryAgain,
        Some(ErrorCode::DiskFull) => Kind::TryAgain,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Kind::CannotCreate,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown) => Kind::Data,
        _ => Kind::Io,
    };
    Error::new(kind, format!("the SQL catalog cannot be asked: {error}"))
        .file(Path::new(sqlite_path(&settings.uri).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn metadata_files_are_counted() {
        for (at, next) in [
            ("/t/metadata/00007-abc.metadata.json", "00008"),
            ("s3://b/t/metadata/v12.metadata.json", "00013"),
            ("odd", "00000"),
        ] {
            assert_eq!(super::next_number(at), next, "{at}");
        }
    }
}
