//! What names a run: the digest of all it is made of, and whether that is still what was digested.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::delta;
use crate::lake::iceberg;
use crate::lake::input;
use crate::lake::location::{FileId, Location, Version};
use crate::lake::scan::relative_files;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::table::TableRead;
use crate::process::secrets::redact;
use crate::sources::calculator_file;
use crate::sources::inputs::open_target;
use crate::teacher::bundle::Bundle;

/// How what a key is made of names the version of the target's table.
pub const TABLE_VERSION: &str = "the version of ";

/// What names a run: the digest of everything that decides a byte of its output.
#[derive(Clone)]
pub struct Identity {
    pub key: String,
    /// A digest of each thing that the key is made of, by its name: settings by their keys. Values from the
    /// environment count by the variable's name.
    pub made_of: BTreeMap<String, String>,
    /// Every input file, as it was before it was digested.
    pub files: Vec<Pinned>,
    /// Of a target that is a table: which version was read.
    pub table: Option<TableRead>,
}

/// An input file as it was: another one in its place differs in length or in time of change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub path: PathBuf,
    pub bytes: u64,
    /// Nanoseconds since 1970, or of an object 64 bits of the digest of its ETag.
    pub modified: u64,
}

impl Pinned {
    fn of(path: &Path) -> Pinned {
        let id = match Location::from(path) {
            // of a table in a catalog what changes with each commit
            table @ Location::Table(_) => iceberg::metadata_place(&table)
                .map(|at| at.map(|at| FileId { bytes: 0, version: Version::ETag(at) })),
            place => input::stat(&place),
        };
        let id = id.ok().flatten();
        let version = match id.as_ref().map(|id| &id.version) {
            Some(Version::Modified(time)) => time
                .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |since| since.as_nanos() as u64),
            Some(Version::ETag(tag)) => u64::from_str_radix(&digest::text(tag)[..16], 16).unwrap_or(0),
            None => 0,
        };
        // nothing there has a length that no file has
        Pinned { path: path.to_path_buf(), bytes: id.map_or(u64::MAX, |id| id.bytes), modified: version }
    }
}

/// The parts of what was named and their digests: settings one by one, the files of the accounts and of each
/// teacher together.
fn made_of(named: &Value) -> BTreeMap<String, String> {
    fn settings(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| {
                settings(v, &if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, out)
            }),
            Value::Null => {}
            leaf => drop(out.insert(path.to_string(), short(leaf))),
        }
    }
    let mut out = BTreeMap::new();
    settings(&named["pipeline"], "", &mut out);
    out.insert("the version of coldstart".to_string(), short(&named["version"]));
    out.insert("the files of target.accounts".to_string(), short(&named["accounts"]));
    for (i, files) in named["teachers"].as_array().into_iter().flatten().enumerate() {
        let bundle = named["pipeline"]["teachers"][i]["bundle"].as_str().unwrap_or_default();
        out.insert(format!("the files of {}", redact(bundle)), short(files));
    }
    out.insert("the files of target.labels and relevance.calculator".to_string(), short(&named["others"]));
    out
}

fn short(value: &Value) -> String {
    digest::text(&redact(&value.to_string())).chars().take(12).collect()
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
        let target = open_target(pipeline)?;
        let accounts = relative_files(&target, &place);
        let (mut teachers, mut commits) = (Vec::new(), Vec::new());
        for reference in &pipeline.teachers {
            let folder = pipeline.resolve(&reference.bundle);
            let bundle = Bundle::read(&folder)?;
            // a history that is a table is opened by each stage: that no commit comes meanwhile is looked at in the end
            if let Some(history) = bundle.history_path() {
                commits.extend(match Location::from(history.as_path()) {
                    // its catalog says another metadata file after a commit
                    table @ Location::Table(_) => Some(table),
                    place => delta::next_commit(&place)?,
                });
            }
            let files = bundle.files()?;
            let place = |f: &String| Ok(Location::parse(f, &folder)?.shown().to_path_buf());
            teachers.push(files.iter().map(|f| Ok((f.clone(), place(f)?))).collect::<Result<Vec<_>>>()?);
        }
        pipeline
            .relevance
            .calculator
            .iter()
            .try_for_each(|f| calculator_file::check_size(&pipeline.resolve(f)))?;
        let others = pipeline.target.labels.iter().chain(&pipeline.relevance.calculator);
        let others: Vec<(String, PathBuf)> = others.map(|f| (f.clone(), pipeline.resolve(f))).collect();
        let all = accounts.iter().chain(teachers.iter().flatten()).chain(&others);
        let mut files: Vec<Pinned> = all.map(|(_, path)| Pinned::of(path)).collect();
        files.extend(commits.iter().map(|place| Pinned::of(place.shown())));
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
        let mut made_of = made_of(&serde_json::to_value(&named).map_err(|e| Error::bug(e.to_string()))?);
        if let Some(table) = target.table() {
            made_of.insert(
                format!("{TABLE_VERSION}{} table {}", table.format, table.table),
                table.version.clone(),
            );
        }
        Ok(Identity { key: digest::text(&text), made_of, files, table: target.table().cloned() })
    }

    /// The pipeline with the target's table at the version that was read: whoever opens it again reads no other.
    pub fn pinned(&self, pipeline: &Pipeline) -> Pipeline {
        pipeline.at_version(self.table.as_ref().and_then(|t| t.version.parse().ok()))
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
