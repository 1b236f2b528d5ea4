//! What names a run: the digest of all it is made of, and whether that is still what was digested.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::scan::relative_files;
use crate::lake::store::digest::{self, FileDigest};
use crate::sources::calculator_file;
use crate::sources::inputs::open_target;
use crate::teacher::bundle::Bundle;

/// What names a run: the digest of everything that decides a byte of its output.
#[derive(Clone)]
pub struct Identity {
    pub key: String,
    /// Every input file, as it was before it was digested.
    pub files: Vec<Pinned>,
}

/// An input file as it was: another one in its place differs in length or in time of change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub path: PathBuf,
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
}

impl Pinned {
    fn of(path: &Path) -> Pinned {
        let meta = std::fs::metadata(path).ok();
        let modified = meta.as_ref().and_then(|m| m.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        Pinned {
            path: path.to_path_buf(),
            // nothing there has a length that no file has
            bytes: meta.map_or(u64::MAX, |m| m.len()),
            modified: modified.map_or(0, |since| since.as_nanos() as u64),
        }
    }
}

/// What the key is the digest of.
#[derive(Serialize)]
struct Named<'a> {
    version: &'a str,
    date: &'a str,
    pipeline: &'a Pipeline,
    accounts: Vec<FileDigest>,
    teachers: Vec<Vec<FileDigest>>,
    others: Vec<FileDigest>,
}

impl Identity {
    /// Reads every input file once; needs no model to be loaded.
    pub fn of(pipeline: &Pipeline, date: &str) -> Result<Identity> {
        let place = pipeline.resolve(&pipeline.target.accounts);
        let accounts = relative_files(&open_target(&place)?, &place);
        let mut teachers = Vec::new();
        for reference in &pipeline.teachers {
            let folder = pipeline.resolve(&reference.bundle);
            let files = Bundle::read(&folder)?.files();
            teachers.push(files.into_iter().map(|f| (f.clone(), folder.join(f))).collect::<Vec<_>>());
        }
        pipeline
            .relevance
            .calculator
            .iter()
            .try_for_each(|f| calculator_file::check_size(&pipeline.resolve(f)))?;
        let others = pipeline.target.labels.iter().chain(&pipeline.relevance.calculator);
        let others: Vec<(String, PathBuf)> = others.map(|f| (f.clone(), pipeline.resolve(f))).collect();
        let all = accounts.iter().chain(teachers.iter().flatten()).chain(&others);
        let files = all.map(|(_, path)| Pinned::of(path)).collect();
        let digest_all = |files: &Vec<(String, PathBuf)>| -> Result<Vec<FileDigest>> {
            files.par_iter().map(|(name, path)| digest::named(name, path)).collect()
        };
        let named = Named {
            version: env!("CARGO_PKG_VERSION"),
            date,
            pipeline,
            accounts: digest_all(&accounts)?,
            teachers: teachers.iter().map(digest_all).collect::<Result<_>>()?,
            others: digest_all(&others)?,
        };
        let text = serde_json::to_string(&named).map_err(|e| Error::new(Kind::Bug, e.to_string()))?;
        Ok(Identity { key: digest::text(&text), files })
    }

    /// What was made of the input files, unless one of them is no longer the one that was digested (75): that
    /// comes first, since nothing that was made of it may be kept, and what is wrong with it may be right
    /// when it is whole.
    pub fn unchanged<T>(&self, made: Result<T>) -> Result<T> {
        match self.files.iter().find(|was| Pinned::of(&was.path) != **was) {
            Some(was) => {
                Err(Error::new(Kind::TryAgain, "the file was replaced while it was read").file(&was.path))
            }
            None => made,
        }
    }
}
