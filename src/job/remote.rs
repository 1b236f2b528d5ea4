//! The run directory of an output that is an object store: work is done in a scratch directory of this machine,
//! and what a resume needs is copied to `_runs/` below the output, so that another machine can go on.
//!
//! A stage's completion record is uploaded after its files and counts only with their digests, here as there.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rayon::prelude::*;
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::job::kept;
use crate::lake::input;
use crate::lake::lease::Lease;
use crate::lake::location::{FileId, Location};
use crate::lake::objects;
use crate::lake::store::Store;
use crate::lake::store::digest;
use crate::lake::store::files::{cannot_create, create_dir, write_atomic};
use crate::process::log::Log;
use crate::run::directory::{Directory, PUBLISHED};
use crate::run::stage::Stage;

/// Records of earlier dates that are fetched, besides the first: those of which a page tells.
const EARLIER: usize = 60;
/// Folders that a resume makes anew.
const NOT_KEPT: [&str; 2] = ["drift/", "publish/"];

/// The copy of a run directory in an object store, and the lock of its date.
pub struct Remote {
    place: Location,
    _lease: Option<Lease>,
}

impl Remote {
    /// Takes the lock of the date and fetches what an earlier try left; none where the output is a directory.
    pub fn open(
        pipeline: &Pipeline,
        date: &str,
        directory: &Directory,
        locked: bool,
    ) -> Result<Option<Remote>> {
        let Some((runs, place)) = place(pipeline, date) else { return Ok(None) };
        objects::check_locking(&runs.to_string())?;
        let lease = if locked { Some(Lease::take(&runs.join(&format!("ds={date}.lock")))?) } else { None };
        let remote = Remote { place, _lease: lease };
        fetch(directory.store, &remote.place, directory.root())?;
        fetch_earlier(directory.store, &runs.join(&pipeline.name), date, directory.root())?;
        Ok(Some(remote))
    }

    /// Copies a stage that is done.
    pub fn keep_stage(&self, directory: &Directory, stage: &str) -> Result<()> {
        let files = digest::list(directory.store, &directory.stage(stage))?;
        self.send(directory, files.iter().map(|name| format!("{stage}/{name}")).collect())?;
        self.send(directory, vec![format!("{stage}.done")])
    }

    /// Copies what tells of the run, the record of what was published last.
    pub fn keep_record(&self, directory: &Directory) -> Result<()> {
        let mut kept = digest::list(directory.store, directory.root())?;
        kept.retain(|name| !of_stage(name) && !NOT_KEPT.iter().any(|folder| name.starts_with(folder)));
        let (record, others) = kept.into_iter().partition(|name| name == PUBLISHED);
        self.send(directory, others)?;
        self.send(directory, record)
    }

    /// Removes what only a resume needs, once everything is published; what stays is no failure.
    pub fn clear(&self, log: &Log) {
        let remove = |(name, _): &(String, FileId)| objects::remove(&self.place.join(name).to_string());
        let removed = input::list(&self.place, None)
            .and_then(|found| found.par_iter().filter(|(name, _)| of_stage(name)).try_for_each(remove));
        if let Err(e) = removed {
            log.warn("publish", "the run directory could not be cleared", json!({"error": e.to_string()}));
        }
    }

    fn send(&self, directory: &Directory, names: Vec<String>) -> Result<()> {
        names.par_iter().try_for_each(|name| {
            objects::upload(&directory.root().join(name), &self.place.join(name).to_string())
        })
    }
}

/// Whether a file of the run directory is a stage's.
fn of_stage(name: &str) -> bool {
    let own =
        |stage: Stage| name.strip_prefix(stage.name()).is_some_and(|r| r.starts_with('/') || r == ".done");
    Stage::ALL.into_iter().any(own)
}

/// Makes the scratch directory of an output that is an object store, for its owner alone. Somebody else's: 73.
pub fn prepare(pipeline: &Pipeline) -> Result<()> {
    let scratch = pipeline.output_path();
    if pipeline.tables().output.path().is_some() {
        return Ok(());
    }
    scratch.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(|e| cannot_create(&e, &scratch))?;
    match std::fs::DirBuilder::new().mode(0o700).create(&scratch) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(cannot_create(&e, &scratch)),
        Err(_) => {}
    }
    let meta = std::fs::symlink_metadata(&scratch).map_err(|e| cannot_create(&e, &scratch))?;
    match meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Error::new(Kind::CannotCreate, "the scratch directory is another user's, or none")
            .file(&scratch)
            .hint("COLDSTART_SCRATCH names the directory in which it is made")),
    }
}

/// Fetches the record of a published date for a command that reads it; where the output is a directory there is
/// nothing to do.
pub fn fetch_record(pipeline: &Pipeline, date: &str, store: &dyn Store) -> Result<()> {
    let Some((runs, remote)) = place(pipeline, date) else { return Ok(()) };
    prepare(pipeline)?;
    let here = Directory::place(&pipeline.output_path(), &pipeline.name, date);
    fetch(store, &remote, &here)?;
    fetch_earlier(store, &runs.join(&pipeline.name), date, &here)
}

/// Copies a file of the run directory that a command has written; where it lies then, if the output is an object
/// store.
pub fn keep_file(pipeline: &Pipeline, date: &str, name: &str) -> Result<Option<Location>> {
    let Some((_, remote)) = place(pipeline, date) else { return Ok(None) };
    let (here, there) =
        (Directory::place(&pipeline.output_path(), &pipeline.name, date).join(name), remote.join(name));
    objects::upload(&here, &there.to_string()).map(|()| Some(there))
}

/// Where the run directories of an object store stand, and that of the pipeline's date.
fn place(pipeline: &Pipeline, date: &str) -> Option<(Location, Location)> {
    let output = pipeline.tables().output;
    let runs = output.join("_runs");
    let own = runs.join(&pipeline.name).join(&format!("ds={date}"));
    output.path().is_none().then_some((runs, own))
}

/// Files that are not here, or not of that size, are fetched: their content is judged by the records' digests.
fn fetch(store: &dyn Store, from: &Location, to: &Path) -> Result<()> {
    let missing = |(name, id): &(String, FileId)| {
        // a record can change and keep its size
        let same = input::stat(&Location::Path(to.join(name))).ok().flatten().map(|here| here.bytes);
        same != Some(id.bytes) || name.ends_with(".json") || name.ends_with(".done")
    };
    let wanted: Vec<_> = input::list(from, None)?.into_iter().filter(missing).collect();
    wanted.par_iter().try_for_each(|(name, _)| fetch_file(store, &from.join(name), &to.join(name)))
}

fn fetch_file(store: &dyn Store, from: &Location, to: &Path) -> Result<()> {
    let bytes = input::read(from)?;
    let folder = to.parent().ok_or_else(|| Error::bug("a file without a directory").file(to))?;
    create_dir(store, folder)?;
    write_atomic(store, to, &bytes)
}

/// The records of earlier dates, and what is kept of the first and of the latest.
fn fetch_earlier(store: &dyn Store, runs: &Location, date: &str, own: &Path) -> Result<()> {
    let Some(folder) = own.parent() else { return Ok(()) };
    let found: Vec<String> = input::list(runs, None)?.into_iter().map(|(name, _)| name).collect();
    let of = |name: &String| Some(name.strip_prefix("ds=")?.split_once('/')?.0.to_string());
    let mut dates: Vec<String> = found
        .iter()
        .filter(|n| n.ends_with(PUBLISHED))
        .filter_map(of)
        .filter(|d| d.as_str() < date)
        .collect();
    dates.sort();
    let compared = [dates.first().cloned(), dates.last().cloned()];
    if dates.len() > EARLIER + 1 {
        dates.drain(1..dates.len() - EARLIER);
    }
    let wanted = |name: &&String| {
        let (day, kept) = (of(name), name.contains(&format!("/{}/", kept::FOLDER)));
        day.is_some()
            && ((name.ends_with(PUBLISHED) && dates.contains(&day.clone().unwrap_or_default()))
                || (kept && compared.contains(&day)))
    };
    let wanted: Vec<&String> = found.iter().filter(wanted).collect();
    wanted.par_iter().try_for_each(|name| fetch_file(store, &runs.join(name), &folder.join(name)))
}
