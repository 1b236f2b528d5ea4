//! Receipts: that a unit is done, and what it left.
//!
//! A receipt appears once and whole. Two attempts at a unit may both finish: they write equal bytes, the first
//! receipt stays, and a second one that says something else is a bug.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::job::units::plan::FORMAT;
use crate::lake::store::Store;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{create_dir, read_json, remove, sync, temporary, write_json};

const FOLDER: &str = "receipts";
pub const STATES: &str = "states";

/// That a unit is done.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub format: u32,
    /// Digest of the plan.
    pub plan: String,
    pub stage: String,
    pub unit: usize,
    /// What it learned, in the folder of the stage.
    pub state: FileDigest,
    /// The files that it wrote there.
    pub outputs: Vec<FileDigest>,
}

/// Whether a file in a stage's folder belongs to the units' bookkeeping.
pub fn is_bookkeeping(path: &str) -> bool {
    path.starts_with("receipts/") || path.starts_with("states/")
}

/// Name of a unit's state in the folder of its stage.
pub fn state_name(unit: usize) -> String {
    format!("{STATES}/{unit:05}")
}

fn place(stage: &Path, unit: usize) -> PathBuf {
    stage.join(FOLDER).join(format!("{unit:05}.json"))
}

impl Receipt {
    /// The receipt of a unit of this plan, if it is done.
    pub fn find(store: &dyn Store, stage: &Path, plan: &str, unit: usize) -> Result<Option<Receipt>> {
        let path = place(stage, unit);
        if !store.exists(&path) {
            return Ok(None);
        }
        let receipt: Receipt = read_json(store, &path)?;
        match receipt.format == FORMAT && receipt.plan == plan && receipt.unit == unit {
            true => Ok(Some(receipt)),
            false => Err(Error::data("the receipt is of another plan").file(&path)),
        }
    }

    /// The first file that does not have the recorded digest.
    pub fn damaged(&self, store: &dyn Store, stage: &Path) -> Option<PathBuf> {
        let wrong = |f: &&FileDigest| digest::file(store, stage, &f.path).ok().as_ref() != Some(*f);
        [&self.state].into_iter().chain(&self.outputs).find(wrong).map(|f| stage.join(&f.path))
    }

    /// The receipt anew, after the reduction has written the unit's files again.
    pub fn renewed(&self, store: &dyn Store, stage: &Path) -> Result<Receipt> {
        let outputs =
            self.outputs.iter().map(|o| digest::file(store, stage, &o.path)).collect::<Result<_>>()?;
        let receipt = Receipt {
            format: self.format,
            plan: self.plan.clone(),
            stage: self.stage.clone(),
            unit: self.unit,
            state: self.state.clone(),
            outputs,
        };
        write_json(store, &place(stage, self.unit), &receipt)?;
        Ok(receipt)
    }

    /// Puts the receipt unless one is there. It is durable, and so is what it names.
    pub fn put(&self, store: &dyn Store, stage: &Path) -> Result<()> {
        for file in [&self.state].into_iter().chain(&self.outputs) {
            sync(store, &stage.join(&file.path))?;
        }
        let path = place(stage, self.unit);
        create_dir(store, &stage.join(FOLDER))?;
        let beside = temporary(&path);
        write_json(store, &beside, self)?;
        let linked = store.link(&beside, &path);
        remove(store, &beside)?;
        match linked {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let first: Receipt = read_json(store, &path)?;
                match first == *self {
                    true => Ok(()),
                    false => Err(Error::bug("two attempts at a unit came to different ends").file(&path)),
                }
            }
            Err(e) => Err(Error::io(&e, "cannot write", &path)),
            Ok(()) => sync(store, &stage.join(FOLDER)),
        }
    }
}
