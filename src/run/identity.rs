//! What names a run: the digest of all it is made of, and whether that is still what was digested.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::Serialize;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::scan::relative_files;
use crate::lake::store::digest::{self, FileDigest};
use crate::sources::calculator_file;
use crate::sources::inputs::open_target;
use crate::teacher::bundle::Bundle;

/// What names a run: the digest of everything that decides a byte of its output.
pub struct Identity {
    pub key: String,
    /// Every input file, as it was before it was digested.
    files: Vec<(PathBuf, Option<State>)>,
}

/// A file's number, length and time of change: another file in its place differs in one of them.
type State = (u64, u64, Option<SystemTime>);

fn state(path: &Path) -> Option<State> {
    std::fs::metadata(path).ok().map(|meta| (meta.ino(), meta.len(), meta.modified().ok()))
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
        let accounts = relative_files(&open_target(pipeline)?, &place);
        let mut teachers = Vec::new();
        for reference in &pipeline.teachers {
            let folder = pipeline.resolve(&reference.bundle);
            let files = Bundle::read(&folder)?.files()?;
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
        let files = all.map(|(_, path)| (path.clone(), state(path))).collect();
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
        match self.files.iter().find(|(path, was)| state(path) != *was) {
            Some((path, _)) => {
                Err(Error::new(Kind::TryAgain, "the file was replaced while it was read").file(path))
            }
            None => made,
        }
    }
}
