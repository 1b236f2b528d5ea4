//! Publication: the partition `ds=<date>` of each table appears by one rename, or replaces its predecessor by one exchange.
//!
//! The tables' directories never hold anything but published partitions: parts are gathered as hard links in the run
//! directory, which lies on the same file system, and what an exchange displaces is removed from there.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::run::digest::{self, FileDigest};
use crate::run::directory::{cannot_create, remove, sync};

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

/// Whether every file of the table stands in its partition with the recorded digest, and nothing else does.
pub fn stands(output: &Path, table: &Table, date: &str) -> bool {
    let folder = partition(output, &table.name, date);
    let Ok(found) = digest::list(&folder) else { return false };
    found.len() == table.files.len() && table.files.iter().all(|f| digest::file(&folder, &f.path).is_ok_and(|d| d == *f))
}

/// A part of the partition that some other run published: its name does not carry `mark`.
pub fn foreign(output: &Path, table: &str, date: &str, mark: &str) -> Option<String> {
    let found = digest::list(&partition(output, table, date)).ok()?;
    found.into_iter().find(|f| f.ends_with(".parquet") && !f.contains(mark))
}

/// Refuses (73) a table's place that is no directory, before any work is done.
pub fn check_place(output: &Path, table: &str) -> Result<()> {
    let place = output.join(table);
    match std::fs::metadata(&place) {
        Ok(meta) if !meta.is_dir() => {
            Err(Error::new(Kind::CannotCreate, "a table's place is taken by something that is no directory").file(&place))
        }
        _ => Ok(()),
    }
}

/// Publishes the files below `source` as the table's partition; `staging` is a directory of the run for it alone.
pub fn publish(source: &Path, staging: &Path, output: &Path, table: &str, date: &str) -> Result<Table> {
    remove(staging)?;
    let mut files = Vec::new();
    for path in digest::list(source)? {
        let to = staging.join(&path);
        let folder = to.parent().unwrap_or(staging);
        fs::create_dir_all(folder).map_err(|e| cannot_create(&e, folder))?;
        fs::hard_link(source.join(&path), &to)
            .or_else(|_| fs::copy(source.join(&path), &to).map(|_| ()))
            .map_err(|e| cannot_create(&e, &to))?;
        sync(&to)?;
        sync(folder)?;
        files.push(digest::file(staging, &path)?);
    }
    sync(staging)?;
    let target = partition(output, table, date);
    let parent = output.join(table);
    fs::create_dir_all(&parent).map_err(|e| cannot_create(&e, &parent))?;
    let flags = if target.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    renameat_with(CWD, staging, CWD, &target, flags).map_err(|e| {
        Error::io(&std::io::Error::from(e), "cannot publish the partition", &target).with("from", staging.display().to_string())
    })?;
    sync(&parent)?;
    sync(output)?;
    remove(staging)?;
    Ok(Table { name: table.to_string(), files })
}
