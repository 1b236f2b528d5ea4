//! Everything a run reads, opened and checked, and the key that names the run.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::digest::{self, FileDigest};
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::accounts::{Accounts, relative_files};
use crate::lake::ids;
use crate::lake::locate::locate;
use crate::teacher::bundle::Bundle;
use crate::teacher::encode::{Encoder, Feature, Plan};
use crate::teacher::{self, Teacher};

/// The opened inputs of a pipeline.
pub struct Inputs {
    pub accounts: Accounts,
    pub teachers: Vec<Teacher>,
    pub features: Vec<Feature>,
    /// The float32 columns that the teachers take, and for each teacher which.
    pub plan: Plan,
    pub encoders: Vec<Encoder>,
    /// Columns of the target that are labels of some history; never read.
    pub ignored: Vec<String>,
}

impl Inputs {
    /// Opens the target and loads every teacher; nothing is scored.
    pub fn open(pipeline: &Pipeline) -> Result<Inputs> {
        let place = pipeline.resolve(&pipeline.target.accounts);
        let mut accounts = open_target(&place)?;
        if let Some(filter) = &pipeline.target.filter {
            accounts = accounts.with_filter(filter)?;
        }
        let id = accounts.field(&pipeline.target.id)?;
        if !ids::can_be_id(id.data_type()) {
            return Err(Error::data(format!("an account id is an integer or a string, the column is {}", id.data_type()))
                .file(&place)
                .column(id.name()));
        }
        let mut teachers = pipeline.teachers.par_iter().map(|t| Teacher::load(pipeline, t)).collect::<Result<Vec<_>>>()?;
        // By name, so that the order in the pipeline file does not reach the sums over teachers.
        teachers.sort_by(|a, b| a.name().cmp(b.name()));
        refuse_same_names(&teachers)?;
        let features = teacher::features(&teachers, accounts.schema(), accounts.place())?;
        if let Some(f) = features.iter().find(|f| f.name == pipeline.target.id) {
            return Err(Error::data("a teacher takes the account id as a feature").column(&f.name));
        }
        let mut plan = Plan::default();
        let encoders = teachers.iter().map(|t| plan.add(&t.bundle, &features)).collect::<Result<Vec<_>>>()?;
        let ignored = label_columns(&accounts, &teachers, &features);
        refuse_reserved(pipeline, &accounts)?;
        Ok(Inputs { accounts, teachers, features, plan, encoders, ignored })
    }

    /// Names of the features that the target holds.
    pub fn present(&self) -> Vec<String> {
        self.features.iter().filter(|f| f.present).map(|f| f.name.clone()).collect()
    }
}

/// The target's files; without a file or a row the target is empty.
fn open_target(place: &Path) -> Result<Accounts> {
    let empty = |what: &str| Err(Error::new(Kind::Empty, what).file(place));
    if locate(place)?.is_empty() {
        return empty("the directory holds no Parquet file");
    }
    let accounts = Accounts::open(place)?;
    if accounts.stored_rows() == 0 { empty("the target has no account") } else { Ok(accounts) }
}

fn refuse_same_names(teachers: &[Teacher]) -> Result<()> {
    for (i, teacher) in teachers.iter().enumerate() {
        if teachers[..i].iter().any(|t| t.name() == teacher.name()) {
            return Err(Error::data("two teachers have the same name").file(&teacher.bundle.folder).value(teacher.name()));
        }
    }
    Ok(())
}

/// The output's own columns cannot be the id.
fn refuse_reserved(pipeline: &Pipeline, accounts: &Accounts) -> Result<()> {
    let id = pipeline.target.id.as_str();
    let reserved = ["class", "confidence", "decision", "reason", "student", "run_id", "ds", "support", "disagreement"];
    match reserved.contains(&id) || id.starts_with("p_") || id.starts_with("w_") {
        true => Err(Error::data("the id column has the name of a column of the output").file(accounts.place()).column(id)),
        false => Ok(()),
    }
}

fn label_columns(accounts: &Accounts, teachers: &[Teacher], features: &[Feature]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for label in teachers.iter().filter_map(|t| t.bundle.history.as_ref()?.label.clone()) {
        let is_feature = features.iter().any(|f| f.name == label);
        if accounts.schema().field_with_name(&label).is_ok() && !is_feature && !found.contains(&label) {
            found.push(label);
        }
    }
    found
}

/// What decides every byte of a run's output.
#[derive(Serialize)]
struct Identity<'a> {
    version: &'a str,
    date: &'a str,
    pipeline: &'a Pipeline,
    accounts: Vec<FileDigest>,
    teachers: Vec<Vec<FileDigest>>,
    others: Vec<FileDigest>,
}

/// The run's key: the digest of its identity. Reads every input file once; needs no model to be loaded.
pub fn key(pipeline: &Pipeline, date: &str) -> Result<String> {
    let place = pipeline.resolve(&pipeline.target.accounts);
    let accounts = open_target(&place)?;
    let digest_all = |files: Vec<(String, std::path::PathBuf)>| -> Result<Vec<FileDigest>> {
        files.into_par_iter().map(|(name, path)| digest::named(&name, &path)).collect()
    };
    let mut teachers = Vec::new();
    for reference in &pipeline.teachers {
        let folder = pipeline.resolve(&reference.bundle);
        let bundle = Bundle::read(&folder)?;
        teachers.push(digest_all(bundle.files().into_iter().map(|f| (f.clone(), folder.join(f))).collect())?);
    }
    let others = pipeline.target.labels.iter().map(|f| (f.clone(), pipeline.resolve(f))).collect();
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION"),
        date,
        pipeline,
        accounts: digest_all(relative_files(&accounts, &place))?,
        teachers,
        others: digest_all(others)?,
    };
    let text = serde_json::to_string(&identity).map_err(|e| Error::new(Kind::Bug, e.to_string()))?;
    Ok(digest::text(&text))
}
