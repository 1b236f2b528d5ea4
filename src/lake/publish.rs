//! Publication: the partition `ds=<date>` of each table appears by one rename, or replaces its predecessor by
//! one exchange.
//!
//! The tables' directories never hold anything but published partitions: parts are gathered as hard links in
//! the run directory, which lies on the same file system, and what an exchange displaces is removed from
//! there.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::lake::scan::format;
use crate::lake::scan::locate::escape;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{cannot_create, create_dir, remove, sync};
use crate::lake::store::{Store, mount};

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

/// Whether the partition holds these files with these digests, and no other data; what is hidden there is not.
pub fn stands(store: &dyn Store, partition: &Path, files: &[FileDigest]) -> bool {
    let Ok(found) = digest::list(store, partition) else { return false };
    found.iter().filter(|f| !is_hidden(f)).count() == files.len()
        && files.iter().all(|f| digest::file(store, partition, &f.path).is_ok_and(|d| d == *f))
}

fn is_hidden(file: &str) -> bool {
    format::hidden_after(Path::new(file), 0)
}

/// Data in the partition that is none of `files`, though all of these stand: somebody else put it there.
pub fn stranger(store: &dyn Store, partition: &Path, files: &[FileDigest]) -> Option<String> {
    let found = digest::list(store, partition).ok()?;
    let all = files.iter().all(|f| found.contains(&f.path));
    found.into_iter().find(|f| all && !is_hidden(f) && !files.iter().any(|own| own.path == *f))
}

/// Refuses (73), naming the file system, where no two directories can trade places below `folder`: what is
/// published there can then not be replaced in one step.
pub fn check_exchange(store: &dyn Store, folder: &Path) -> Result<()> {
    let places = [folder.join("a"), folder.join("b")];
    places.iter().try_for_each(|place| create_dir(store, place))?;
    let exchanged = store.exchange(&places[0], &places[1]);
    remove(store, folder)?;
    match exchanged {
        Err(e) if e.kind() == ErrorKind::Unsupported => Err(Error::new(
            Kind::CannotCreate,
            "the file system of the output cannot exchange two directories, so that what is published for \
             this date cannot be replaced in one step",
        )
        .file(folder)
        .with("file system", mount::file_system(folder))
        .hint("remove the date's partitions before the run, or name an output.path on another file system")),
        Err(e) => Err(Error::io(&e, "cannot exchange directories", folder)),
        Ok(()) => Ok(()),
    }
}

/// A part of the partition that some other run published: its name does not carry `mark`.
pub fn foreign(store: &dyn Store, partition: &Path, mark: &str) -> Option<String> {
    let found = digest::list(store, partition).ok()?;
    found.into_iter().find(|f| f.ends_with(".parquet") && !f.contains(mark))
}

/// Refuses (73) names that are longer than the output's file system takes: those of folders `class=<name>`,
/// and of our own files.
pub fn check_names<'a>(output: &Path, classes: impl Iterator<Item = &'a String>) -> Result<()> {
    const OWN: usize = 64;
    let longest = mount::longest_name(output);
    let folder = classes.map(|class| format!("class={}", escape(class))).max_by_key(String::len);
    match folder.filter(|f| f.len() > longest) {
        None if OWN <= longest => Ok(()),
        long => Err(Error::new(
            Kind::CannotCreate,
            format!("the file system of the output takes names of at most {longest} bytes"),
        )
        .file(output)
        .with("file system", mount::file_system(output))
        .value(long.unwrap_or_else(|| format!("{OWN} bytes are needed")))
        .hint("leave \"class\" out of output.partition_by, or name an output.path on another file system")),
    }
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
/// `again` says that what stands there was published from the same inputs: what is hidden in it stays.
/// What stands there is replaced if its parts carry `mark`, and without a mark whatever it is. A run that was
/// overtaken between its look at the partition and its own step takes the step back and gives way (75).
pub fn publish(
    store: &dyn Store,
    source: &Path,
    staging: &Path,
    partition: &Path,
    mark: Option<&str>,
    again: bool,
) -> Result<Vec<FileDigest>> {
    let place = || -> Result<Vec<FileDigest>> {
        let files = gather(store, source, staging)?;
        if again {
            keep_hidden(store, partition, staging)?;
        }
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

/// Links the hidden files of a partition into what replaces it: a reader's marker, say, is no part of the table.
fn keep_hidden(store: &dyn Store, partition: &Path, staging: &Path) -> Result<()> {
    let found = digest::list(store, partition).unwrap_or_default();
    for path in found.iter().filter(|f| is_hidden(f)) {
        let to = staging.join(path);
        create_dir(store, to.parent().unwrap_or(staging))?;
        store.link(&partition.join(path), &to).map_err(|e| cannot_create(&e, &to))?;
    }
    Ok(())
}

/// Links the files into `staging`, durable with their names, and digests what lies there.
fn gather(store: &dyn Store, source: &Path, staging: &Path) -> Result<Vec<FileDigest>> {
    create_dir(store, staging)?;
    let (paths, mut folders) = (digest::list(store, source)?, BTreeSet::from([staging.to_path_buf()]));
    for path in &paths {
        let (from, to) = (source.join(path), staging.join(path));
        let folder = to.parent().unwrap_or(staging);
        create_dir(store, folder)?;
        store.link(&from, &to).map_err(|e| cannot_create(&e, &to))?;
        // Once a sync has failed, the next one may succeed without the lost bytes: the stage has to write the
        // file anew.
        sync(store, &to).inspect_err(|_| drop(store.remove(&from)))?;
        folders.insert(folder.to_path_buf());
    }
    folders.iter().try_for_each(|folder| sync(store, folder))?;
    paths.par_iter().map(|path| digest::file(store, staging, path)).collect()
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
