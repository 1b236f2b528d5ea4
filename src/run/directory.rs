//! The run directory: `<output>/_runs/<pipeline>/ds=<date>/`, where stages leave their outputs until all is published.
//!
//! A stage's completion record is written last and by rename. It counts only if its key is the run's and every file that it
//! names has the recorded digest: that something lies there proves nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::{self, FileDigest};
use crate::error::{Error, Kind, Result};

/// Version of the records; a newer one is refused.
const FORMAT: u32 = 1;

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
pub struct Directory {
    root: PathBuf,
    key: String,
    _lock: File,
}

impl Directory {
    /// Where the run directory of a pipeline and date stands.
    pub fn place(output: &Path, pipeline: &str, date: &str) -> PathBuf {
        output.join("_runs").join(pipeline).join(format!("ds={date}"))
    }

    /// Creates the directory and takes its lock; held by another process: 75.
    pub fn open(output: &Path, pipeline: &str, date: &str, key: &str) -> Result<Directory> {
        let root = Directory::place(output, pipeline, date);
        fs::create_dir_all(&root).map_err(|e| cannot_create(&e, &root))?;
        let path = root.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(|e| cannot_create(&e, &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::TryAgain, "another run of this pipeline and date holds the lock").file(&path));
            }
            Err(fs::TryLockError::Error(e)) => return Err(Error::new(Kind::Io, format!("cannot lock: {e}")).file(&path)),
        }
        Ok(Directory { root, key: key.to_string(), _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a stage's outputs lie.
    pub fn stage(&self, stage: &str) -> PathBuf {
        self.root.join(stage)
    }

    /// Whether the stage finished under this run's key and its outputs are unchanged.
    pub fn is_done(&self, stage: &str) -> Result<bool> {
        let path = self.root.join(format!("{stage}.done"));
        let Ok(text) = fs::read_to_string(&path) else { return Ok(false) };
        let Ok(record) = serde_json::from_str::<Record>(&text) else { return Ok(false) };
        if record.format > FORMAT {
            return Err(Error::data("the run directory was written by a newer coldstart").file(&path).value(record.format));
        }
        if record.key != self.key || record.stage != stage {
            return Ok(false);
        }
        let folder = self.stage(stage);
        Ok(record.outputs.iter().all(|o| digest::file(&folder, &o.path).is_ok_and(|found| found == *o)))
    }

    /// An empty directory for a stage that starts.
    pub fn start(&self, stage: &str) -> Result<PathBuf> {
        let record = self.root.join(format!("{stage}.done"));
        remove(&record)?;
        let folder = self.stage(stage);
        remove(&folder)?;
        fs::create_dir_all(&folder).map_err(|e| cannot_create(&e, &folder))?;
        Ok(folder)
    }

    /// Records that a stage finished: its files digested, then the record, by rename. After a loss of power the digests tell what was lost.
    pub fn finish(&self, stage: &str) -> Result<()> {
        let folder = self.stage(stage);
        let mut outputs = Vec::new();
        for path in digest::list(&folder)? {
            outputs.push(digest::file(&folder, &path)?);
        }
        let record = Record { format: FORMAT, stage: stage.to_string(), key: self.key.clone(), outputs };
        write_json(&self.root.join(format!("{stage}.done")), &record)
    }

    /// Removes stage outputs and records once everything is published.
    pub fn clear(&self, stages: &[&str]) -> Result<()> {
        for stage in stages {
            remove(&self.root.join(format!("{stage}.done")))?;
            remove(&self.stage(stage))?;
        }
        Ok(())
    }
}

/// Writes JSON beside `path`, synced, and renames it into place; the directory is synced too.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::bug(format!("cannot write JSON: {e}")))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// Writes bytes beside `path`, synced, and renames them into place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |beside| fs::write(beside, bytes).map_err(|e| cannot_create(&e, path)))
}

/// `write` fills a file beside `path`, which is then synced and renamed into place; the directory is synced too.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    write(&beside)?;
    sync(&beside)?;
    fs::rename(&beside, path).map_err(|e| cannot_create(&e, path))?;
    sync(folder)
}

/// Reads what [`write_json`] wrote.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(&e, "cannot read", path))?;
    serde_json::from_str(&text).map_err(|e| Error::data(format!("damaged: {e}")).file(path))
}

/// fsync of a file or directory. A failure ends the run: after one, nothing is known of what reached the disk.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::new(Kind::Io, format!("cannot sync: {e}")).file(path))
}

/// Removes a file or a directory with all it holds; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&e, "cannot remove", path)),
        _ => Ok(()),
    }
}

/// A failure to create output: a path that cannot be made is 73, never "missing input".
pub fn cannot_create(e: &std::io::Error, path: &Path) -> Error {
    match Error::io(e, "cannot write", path) {
        error if error.kind() == Kind::Missing || e.kind() == std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::CannotCreate, format!("cannot write: {e}")).file(path)
        }
        error => error,
    }
}
