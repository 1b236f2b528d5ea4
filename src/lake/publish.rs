//! Publication: the partition `ds=<date>` of each table appears by one rename, or replaces its predecessor by
//! one exchange.
//!
//! The tables' directories never hold anything but published partitions: parts are gathered as hard links in
//! the run directory, which lies on the same file system, and what an exchange displaces is removed from
//! there.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::lake::store::Store;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{cannot_create, create_dir, sync};

/// One published table: its name and its files, relative to the partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub files: Vec<FileDigest>,
}

/// Where a table's partition stands.
pub fn partition(output: &Path, table: &str, date: &str) -> PathBuf {
    output.join(table).join(format!("ds={date}"))
}

/// Whether the partition holds these files with these digests, and nothing else.
pub fn stands(store: &dyn Store, partition: &Path, files: &[FileDigest]) -> bool {
    let Ok(found) = digest::list(store, partition) else { return false };
    found.len() == files.len()
        && files.iter().all(|f| digest::file(store, partition, &f.path).is_ok_and(|d| d == *f))
}

/// A part of the partition that some other run published: its name does not carry `mark`.
pub fn foreign(store: &dyn Store, partition: &Path, mark: &str) -> Option<String> {
    let found = digest::list(store, partition).ok()?;
    found.into_iter().find(|f| f.ends_with(".parquet") && !f.contains(mark))
}

/// Refuses (73) a table's place that is no directory, before any work is done.
pub fn check_place(output: &Path, table: &str) -> Result<()> {
    let place = output.join(table);
    match std::fs::metadata(&place) {
        Ok(meta) if !meta.is_dir() => {
            Err(Error::new(Kind::CannotCreate, "a table's place is taken by something that is no directory")
                .file(&place))
        }
        _ => Ok(()),
    }
}

/// Publishes the files below `source` as the table's partition and returns them; `staging` is a directory of
/// the run for it alone.
///
/// What stands there is replaced if its parts carry `mark`, and without a mark whatever it is. A run that was
/// overtaken between its look at the partition and its own step takes the step back and gives way (75).
pub fn publish(
    store: &dyn Store,
    source: &Path,
    staging: &Path,
    partition: &Path,
    mark: Option<&str>,
) -> Result<Vec<FileDigest>> {
    let place = || -> Result<Vec<FileDigest>> {
        let files = gather(store, source, staging)?;
        if let Some(table) = partition.parent() {
            create_dir(store, table)?;
        }
        put(store, staging, partition, &files, mark)?;
        Ok(files)
    };
    let files = place().inspect_err(|_| drop(store.remove(staging)))?;
    partition.parent().map_or(Ok(()), |table| sync(store, table))?;
    // what was displaced; if it cannot be removed now, the next run removes it
    let _ = store.remove(staging);
    Ok(files)
}

/// Links the files into `staging`, durable with their names, and digests what lies there.
fn gather(store: &dyn Store, source: &Path, staging: &Path) -> Result<Vec<FileDigest>> {
    create_dir(store, staging)?;
    let (mut files, mut folders) = (Vec::new(), BTreeSet::from([staging.to_path_buf()]));
    for path in digest::list(store, source)? {
        let (from, to) = (source.join(&path), staging.join(&path));
        let folder = to.parent().unwrap_or(staging);
        create_dir(store, folder)?;
        store.link(&from, &to).map_err(|e| cannot_create(&e, &to))?;
        // Once a sync has failed, the next one may succeed without the lost bytes: the stage has to write the
        // file anew.
        sync(store, &to).inspect_err(|_| drop(store.remove(&from)))?;
        files.push(digest::file(store, staging, &path)?);
        folders.insert(folder.to_path_buf());
    }
    folders.iter().try_for_each(|folder| sync(store, folder))?;
    Ok(files)
}

/// The one step that readers see.
fn put(
    store: &dyn Store,
    staging: &Path,
    partition: &Path,
    files: &[FileDigest],
    mark: Option<&str>,
) -> Result<()> {
    let failed = |e: io::Error| match e.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotFound => overtaken(partition),
        _ => Error::io(&e, "cannot publish the partition", partition)
            .with("from", staging.display().to_string()),
    };
    let over = store.exists(partition);
    let not_mine = |folder| over && mark.is_some_and(|mark| foreign(store, folder, mark).is_some());
    if not_mine(partition) {
        return Err(overtaken(partition));
    }
    let put = if over { store.exchange(staging, partition) } else { store.rename_new(staging, partition) };
    // The answer can be lost on its way: what counts is what stands there.
    put.or_else(|e| if stands(store, partition, files) { Ok(()) } else { Err(e) }).map_err(failed)?;
    match not_mine(staging) {
        true => store.exchange(staging, partition).map_err(failed).and(Err(overtaken(partition))),
        false => Ok(()),
    }
}

fn overtaken(partition: &Path) -> Error {
    Error::new(Kind::TryAgain, "another run published this partition meanwhile").file(partition)
}
