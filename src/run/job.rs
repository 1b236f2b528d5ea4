//! The order of a run: key, lock, stages that are not yet done, verification, publication.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::directory::{Directory, read_json};
use super::events::Log;
use super::inputs::{Identity, Inputs};
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::publish::{self, Table};
use crate::lake::store::Store;
use crate::stages;

/// The stages in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    Profile,
    Score,
    Relevance,
    Fuse,
    Fit,
    Classify,
}

impl Stage {
    pub const ALL: [Stage; 6] = [Stage::Profile, Stage::Score, Stage::Relevance, Stage::Fuse, Stage::Fit, Stage::Classify];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Profile => "profile",
            Stage::Score => "score",
            Stage::Relevance => "relevance",
            Stage::Fuse => "fuse",
            Stage::Fit => "fit",
            Stage::Classify => "classify",
        }
    }

    fn work(self, run: &Run) -> Result<()> {
        match self {
            Stage::Profile => stages::profile::run(run),
            Stage::Score => stages::score::run(run),
            Stage::Relevance => stages::relevance::run(run),
            Stage::Fuse => stages::fuse::run(run),
            Stage::Fit => stages::fit::run(run),
            Stage::Classify => stages::classify::run(run),
        }
    }
}

/// The published tables and the stage in whose output each lies, under its own name. The classification comes last: with it the run is complete.
const TABLES: [(&str, Stage); 6] = [
    ("relevance", Stage::Fuse),
    ("relevance_features", Stage::Fuse),
    ("risk_coverage", Stage::Fuse),
    ("soft_labels", Stage::Fuse),
    ("student", Stage::Fit),
    ("classification", Stage::Classify),
];

/// What a stage sees.
pub struct Run<'a> {
    pub pipeline: &'a Pipeline,
    pub date: &'a str,
    pub key: &'a str,
    pub directory: &'a Directory<'a>,
    pub log: &'a Log,
    pub inputs: &'a Inputs,
    pub identity: &'a Identity,
}

impl Run<'_> {
    /// The run's name in tables and file names: short, and the same for the same key.
    pub fn id(&self) -> &str {
        &self.key[..12]
    }
}

/// What is asked for.
pub struct Job {
    pub pipeline: Pipeline,
    pub date: String,
    pub replace: bool,
    /// One stage only, or all.
    pub only: Option<Stage>,
}

/// What came of it; the result line on stdout.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// `published`, `already_published` or `stage_done`.
    pub status: String,
    pub pipeline: String,
    pub date: String,
    pub key: String,
    #[serde(default)]
    pub rows: u64,
    /// Accounts of each class.
    #[serde(default)]
    pub classes: BTreeMap<String, u64>,
    /// Accounts that were left undecided, for each reason; they count in `classes` too.
    #[serde(default)]
    pub abstained: BTreeMap<String, u64>,
    /// Directory of each published partition.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    #[serde(default)]
    pub warnings: usize,
}

/// What was published, in the run directory.
#[derive(Serialize, Deserialize)]
struct Published {
    key: String,
    rows: u64,
    classes: BTreeMap<String, u64>,
    #[serde(default)]
    abstained: BTreeMap<String, u64>,
    tables: Vec<Table>,
}

/// Runs the job to its end, resuming what an earlier try under the same key finished.
pub fn run(job: &Job, log: &Log, store: &dyn Store) -> Result<Outcome> {
    let Job { pipeline, date, .. } = job;
    let output = pipeline.output_path();
    TABLES.iter().try_for_each(|(table, _)| publish::check_place(&output, table))?;
    let identity = Identity::of(pipeline, date)?;
    let key = &identity.key;
    let directory = Directory::open(store, &output, &pipeline.name, date, key)?;
    let before: Option<Published> = directory.published()?;
    if let Some(published) = &before
        && published.key == *key
        && published.tables.iter().all(|t| publish::stands(store, &publish::partition(&output, &t.name, date), &t.files))
    {
        log.info("publish", "already published", json!({"key": key}));
        clear(&directory, log);
        return Ok(outcome(job, "already_published", published, log));
    }
    refuse_conflict(job, before.as_ref(), key, store)?;
    let done = Stage::ALL.into_iter().map(|s| directory.is_done(s.name())).collect::<Result<Vec<bool>>>()?;
    let inputs = if done.iter().all(|d| *d) { None } else { Some(identity.unchanged(Inputs::open(pipeline))?) };
    if let Some(inputs) = &inputs {
        let run = Run { pipeline, date, key, directory: &directory, log, inputs, identity: &identity };
        for column in &inputs.ignored {
            log.warn("profile", "a label column of the target is ignored", json!({"column": column}));
        }
        run_stages(&run, job.only, &done)?;
    }
    if job.only.is_some_and(|s| s != Stage::Classify) {
        let nothing = Published { key: key.clone(), rows: 0, classes: BTreeMap::new(), abstained: BTreeMap::new(), tables: Vec::new() };
        return Ok(outcome(job, "stage_done", &nothing, log));
    }
    // what stands there is this pipeline's own, or may be replaced, or carries this run's id
    let mark = (!job.replace && before.is_none()).then_some(&key[..12]);
    let published = publish_all(job, key, mark, &directory, log)?;
    directory.record(&published)?;
    clear(&directory, log);
    Ok(outcome(job, "published", &published, log))
}

/// The run is complete: what it leaves behind is no failure, and the next one tries again.
fn clear(directory: &Directory, log: &Log) {
    if let Err(e) = directory.clear(&Stage::ALL.map(Stage::name)) {
        log.warn("publish", "the run directory could not be cleared", json!({"error": e.to_string()}));
    }
}

/// The same date with other inputs is not replaced unless that was asked for.
fn refuse_conflict(job: &Job, before: Option<&Published>, key: &str, store: &dyn Store) -> Result<()> {
    if job.replace {
        return Ok(());
    }
    let refuse = |what: String| Err(Error::data(what).with("date", job.date.clone()).hint("--replace publishes over it"));
    if let Some(published) = before
        && published.key != key
    {
        return refuse("this date was already published with other inputs, models or settings".to_string());
    }
    let output = job.pipeline.output_path();
    for (table, _) in TABLES {
        if before.is_none()
            && let Some(file) = publish::foreign(store, &publish::partition(&output, table, &job.date), &key[..12])
        {
            return refuse(format!("the partition of table {table} was published by another pipeline: {file}"));
        }
    }
    Ok(())
}

fn run_stages(run: &Run, only: Option<Stage>, done: &[bool]) -> Result<()> {
    let mut valid = true;
    for (stage, done) in Stage::ALL.into_iter().zip(done) {
        let wanted = only.is_none_or(|s| s == stage);
        if valid && *done {
            if wanted {
                run.log.info(stage.name(), "already done", json!({}));
            }
        } else if wanted {
            if !valid {
                return Err(Error::new(Kind::Missing, "an earlier stage has not finished")
                    .with("stage", stage.name())
                    .hint("run the stages in their order"));
            }
            super::cancel::check()?;
            let clock = std::time::Instant::now();
            run.directory.finish(stage.name(), || run.identity.unchanged(stage.work(run)))?;
            give_back_memory();
            run.log.info(stage.name(), "done", json!({"ms": clock.elapsed().as_millis() as u64}));
        } else {
            valid = false;
        }
        if only == Some(stage) {
            break;
        }
    }
    Ok(())
}

/// Returns what a stage freed to the operating system, so that stages do not add up to the peak.
fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn publish_all(job: &Job, key: &str, mark: Option<&str>, directory: &Directory, log: &Log) -> Result<Published> {
    let output = job.pipeline.output_path();
    let summary: stages::classify::Summary = read_json(directory.store, &directory.stage("classify").join("summary.json"))?;
    stages::verify(&job.pipeline, directory, summary.rows)?;
    let mut tables = Vec::new();
    for (table, stage) in TABLES {
        let source = directory.stage(stage.name()).join(table);
        let partition = publish::partition(&output, table, &job.date);
        let files = publish::publish(directory.store, &source, &directory.staging(table), &partition, mark)?;
        tables.push(Table { name: table.to_string(), files });
        log.info("publish", "published", json!({"table": table}));
    }
    Ok(Published { key: key.to_string(), rows: summary.rows, classes: summary.classes, abstained: summary.abstained, tables })
}

fn outcome(job: &Job, status: &str, published: &Published, log: &Log) -> Outcome {
    let output = job.pipeline.output_path();
    let place = |t: &Table| publish::partition(&output, &t.name, &job.date).display().to_string();
    Outcome {
        status: status.to_string(),
        pipeline: job.pipeline.name.clone(),
        date: job.date.clone(),
        key: published.key.clone(),
        rows: published.rows,
        classes: published.classes.clone(),
        abstained: published.abstained.clone(),
        tables: published.tables.iter().map(|t| (t.name.clone(), place(t))).collect(),
        warnings: log.warnings().len(),
    }
}
