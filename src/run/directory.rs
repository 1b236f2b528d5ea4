//! The run directory: `<output>/_runs/<pipeline>/ds=<date>/`, where stages leave their outputs until all is
//! published.
//!
//! A stage's completion record is written last and by rename. It counts only if its key is the run's and
//! every file that it names has the recorded digest: that something lies there proves nothing.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{cannot_create, create_dir, read, read_json, remove, sync, write_json};
use crate::lake::store::{Store, is_temporary, mount};

/// Version of the records; a newer one is refused.
const FORMAT: u32 = 1;
pub const PUBLISHED: &str = "published.json";
const RUNS: &str = "_runs";
const STAGING: &str = "publish";
/// What the folder of a plan is called, before its digest.
const UNITS: &str = "units-";

/// What a finished stage left behind.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    stage: String,
    /// The run's key: configuration, date, inputs, models, version.
    key: String,
    outputs: Vec<FileDigest>,
}

/// An open, locked run directory.
pub struct Directory<'a> {
    pub store: &'a dyn Store,
    root: PathBuf,
    key: String,
    /// Where the stages leave their outputs: here, or in a folder of a plan's own below.
    work: PathBuf,
    /// Held as long as the directory is open; the kernel frees it with the process.
    _lock: Option<File>,
}

impl<'a> Directory<'a> {
    /// Where the run directory of a pipeline and date stands.
    pub fn place(output: &Path, pipeline: &str, date: &str) -> PathBuf {
        output.join(RUNS).join(pipeline).join(format!("ds={date}"))
    }

    /// Creates the directory and takes the lock of its output and date, whatever the pipeline; held by
    /// another process: 75. Without a lock only what stands there at publication is looked at.
    pub fn open(
        store: &'a dyn Store,
        output: &Path,
        pipeline: &str,
        date: &str,
        key: &str,
        locked: bool,
    ) -> Result<Directory<'a>> {
        let runs = output.join(RUNS);
        create_dir(store, &runs)?;
        let lock = if locked { Some(lock(&runs.join(format!("ds={date}.lock")))?) } else { None };
        Directory::at(store, Directory::place(output, pipeline, date), key, lock)
    }

    /// Creates the directory and removes what a killed run left there half-made.
    pub(crate) fn at(
        store: &'a dyn Store,
        root: PathBuf,
        key: &str,
        lock: Option<File>,
    ) -> Result<Directory<'a>> {
        create_dir(store, &root)?;
        remove(store, &root.join(STAGING))?;
        let names = store.list(&root).map_err(|e| Error::io(&e, "cannot list", &root))?;
        for (name, _) in names.iter().filter(|(name, _)| is_temporary(name)) {
            remove(store, &root.join(name))?;
        }
        let work = root.clone();
        Ok(Directory { store, root, key: key.to_string(), work, _lock: lock })
    }

    /// The run directory as processes see it that work on one plan together. Nothing is created, and nothing is
    /// locked: each writes what is its own, and whole.
    pub fn shared(store: &'a dyn Store, root: &Path, plan: &str, key: &str) -> Directory<'a> {
        let work = root.join(format!("{UNITS}{}", &plan[..12]));
        Directory { store, root: root.to_path_buf(), key: key.to_string(), work, _lock: None }
    }

    /// The same directory with the stages' outputs in another place.
    pub fn with_work(mut self, work: &Path) -> Directory<'a> {
        self.work = work.to_path_buf();
        self
    }

    /// Where all stages' outputs lie.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Holds what only one process at a time may do to the stages' outputs; another holds it: 75.
    pub fn lock_work(&self) -> Result<File> {
        create_dir(self.store, &self.work)?;
        lock(&self.work.join("lock"))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a stage's outputs lie.
    pub fn stage(&self, stage: &str) -> PathBuf {
        self.work.join(stage)
    }

    /// Where a table's files are gathered before they are published.
    pub fn staging(&self, table: &str) -> PathBuf {
        self.root.join(STAGING).join(table)
    }

    /// The record of what was published; `None` if nothing was. It is durable, even if the run that wrote it
    /// was killed before it could know.
    pub fn published<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.root.join(PUBLISHED);
        if !self.store.exists(&path) {
            return Ok(None);
        }
        sync(self.store, &self.root)?;
        read_json(self.store, &path).map(Some)
    }

    /// Records what was published: from here on the run is complete.
    pub fn record<T: Serialize>(&self, published: &T) -> Result<()> {
        write_json(self.store, &self.root.join(PUBLISHED), published)
    }

    /// Whether the stage finished under this run's key and its outputs are unchanged.
    pub fn is_done(&self, stage: &str) -> Result<bool> {
        let path = self.work.join(format!("{stage}.done"));
        let Ok(text) = read(self.store, &path) else { return Ok(false) };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(false) };
        if record.format > FORMAT {
            return Err(Error::data("the run directory was written by a newer coldstart")
                .file(&path)
                .value(record.format));
        }
        if record.key != self.key || record.stage != stage {
            return Ok(false);
        }
        let folder = self.stage(stage);
        Ok(record
            .outputs
            .iter()
            .all(|o| digest::file(self.store, &folder, &o.path).is_ok_and(|found| found == *o)))
    }

    /// Does a stage's work from an empty directory and records it. A stage that fails leaves nothing, not
    /// even on a full disk.
    pub fn finish(&self, stage: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.forget(stage)?;
        create_dir(self.store, &self.stage(stage))?;
        work().and_then(|()| self.write_record(stage, |_| true)).inspect_err(|_| drop(self.forget(stage)))
    }

    /// The stage's files digested, those of which `own` is true, then the record, by rename. After a loss of
    /// power the digests tell what was lost.
    pub fn write_record(&self, stage: &str, own: impl Fn(&str) -> bool) -> Result<()> {
        let folder = self.stage(stage);
        let mut files = digest::list(self.store, &folder)?;
        files.retain(|path| own(path));
        let outputs = files
            .par_iter()
            .map(|path| digest::file(self.store, &folder, path))
            .collect::<Result<Vec<_>>>()?;
        let record = Record { format: FORMAT, stage: stage.to_string(), key: self.key.clone(), outputs };
        write_json(self.store, &self.work.join(format!("{stage}.done")), &record)
    }

    /// Removes a stage's record and its outputs.
    pub fn forget(&self, stage: &str) -> Result<()> {
        remove(self.store, &self.work.join(format!("{stage}.done")))?;
        remove(self.store, &self.stage(stage))
    }

    /// Removes whatever is not needed once everything is published. What cannot be removed now, the next run
    /// removes.
    pub fn clear(&self, stages: &[&str]) -> Result<()> {
        let staging = remove(self.store, &self.root.join(STAGING));
        if self.work != self.root {
            return staging.and(remove(self.store, &self.work));
        }
        stages.iter().map(|stage| self.forget(stage)).fold(staging, Result::and)
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path).map_err(|e| cannot_create(&e, path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::TryAgain, "another run of this date holds the lock").file(path))
        }
        Err(TryLockError::Error(e)) => Err(Error::new(Kind::Io, format!("cannot lock: {e}"))
            .file(path)
            .with("file system", mount::file_system(path))
            .hint("--no-lock runs without a lock where no other run of this date can work at the same time")),
    }
}
