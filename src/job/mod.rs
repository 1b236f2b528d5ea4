//! The order of a run: key, lock, stages that are not yet done, verification, publication.

pub mod drift;
#[cfg(test)]
mod faults;
pub mod gates;
pub mod kept;
pub mod lineage;
pub mod metrics;
pub mod outputs;
pub mod published;
pub mod read_back;
pub mod remote;
pub mod told;
pub mod units;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::job::lineage::Lineage;
use crate::job::metrics::{Metrics, StageTime};
use crate::job::published::Published;
use crate::job::remote::Remote;
use crate::lake::publish::Table;
use crate::lake::store::Store;
use crate::lake::tables::{Publisher, Seen, Tables};
use crate::process::cancel::{self, Commit};
use crate::process::log::Log;
use crate::process::memory;
use crate::run::context::Run;
use crate::run::directory::Directory;
use crate::run::identity::Identity;
use crate::run::stage::Stage;
use crate::sources::inputs::Inputs;
use crate::stages;
use crate::stages::artifacts::{PROFILE, SUMMARY, VERDICT};

/// Where the tables lie that compare the date with earlier ones: they are made when all stages are done.
const DRIFT: &str = "drift";

/// The published tables and the folder of the run directory in which each lies, under its own name. The classification comes
/// last: with it the run is complete.
const TABLES: [(&str, &str); 13] = [
    ("relevance_known", "relevance"),
    ("relevance_rehearsal", "relevance"),
    ("relevance_drop_one", "relevance"),
    ("relevance_verdict", "relevance"),
    ("relevance", "fuse"),
    ("relevance_features", "fuse"),
    ("risk_coverage", "fuse"),
    ("feature_drift", DRIFT),
    ("score_drift", DRIFT),
    ("class_shares", DRIFT),
    ("soft_labels", "fuse"),
    ("student", "fit"),
    ("classification", "classify"),
];

/// What is asked for.
pub struct Job {
    pub pipeline: Pipeline,
    pub date: String,
    pub replace: bool,
    /// Without a lock, where the output's file system has none.
    pub no_lock: bool,
    /// One stage only, or all.
    pub only: Option<Stage>,
    /// A target without an account is a success of which nothing came.
    pub skip_if_empty: bool,
    /// Gates that may fail.
    pub accepted: gates::Accepted,
    /// The stages were done by units of a plan: nothing is left but to publish.
    pub planned: Option<Planned>,
}

/// What a plan knows already.
pub struct Planned {
    pub identity: Identity,
    /// Where the stages' outputs lie.
    pub work: PathBuf,
}

/// What came of it; the result line on stdout.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// `published`, `already_published`, `stage_done` or `empty`.
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
    /// The page that people read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub report: String,
    /// Directory of each published partition.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    #[serde(default)]
    pub warnings: usize,
    /// What to think of the labels, in a few sentences.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verdict: String,
}

/// What an attempt leaves for those who watch, and the lock under which it does: that is dropped last.
struct Attempt<'a> {
    lineage: Lineage<'a>,
    metrics: Metrics,
    remote: Option<Remote>,
    directory: Option<Directory<'a>>,
    published: Option<Published>,
}

/// Runs the job to its end, resuming what an earlier try under the same key finished.
pub fn run(job: &Job, log: &Log, store: &dyn Store) -> Result<Outcome> {
    let Job { pipeline, date, .. } = job;
    let name = job.only.map_or(pipeline.name.clone(), |stage| format!("{}.{}", pipeline.name, stage.name()));
    let lineage = Lineage::new(
        log,
        pipeline,
        date,
        &name,
        &Directory::place(&pipeline.output_path(), &pipeline.name, date),
    );
    let metrics = Metrics { run_id: lineage.run_id().to_string(), ..Metrics::default() };
    let mut attempt = Attempt { lineage, metrics, remote: None, directory: None, published: None };
    let mut result = remote::prepare(pipeline).and_then(|()| work(job, log, store, &mut attempt));
    if job.skip_if_empty && result.as_ref().is_err_and(|e| e.kind() == Kind::Empty) {
        result = Ok(outcome(job, "empty", &Published::default(), log));
    }
    let status = result.as_ref().map_or("failed", |o| o.status.as_str());
    if let Some(directory) = &attempt.directory
        && ["published", "stage_done", "failed"].contains(&status)
    {
        attempt.metrics.write(directory, status, result.as_ref().err(), log);
    }
    attempt.lineage.end(result.as_ref().err(), attempt.published.as_ref());
    if let (Some(remote), Some(directory)) = (&attempt.remote, &attempt.directory)
        && let Err(e) = remote.keep_record(directory)
    {
        log.warn("publish", "metrics and lineage could not be copied", json!({"error": e.to_string()}));
    }
    result
}

/// Refuses (73) a place of a table that is taken, before any work is done.
pub fn check_places(pipeline: &Pipeline) -> Result<()> {
    let tables = pipeline.tables();
    names().try_for_each(|table| tables.check_place(table))
}

fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(table, _)| *table)
}

fn work<'a>(job: &Job, log: &Log, store: &'a dyn Store, attempt: &mut Attempt<'a>) -> Result<Outcome> {
    let Job { pipeline, date, .. } = job;
    let (output, tables) = (pipeline.output_path(), pipeline.tables());
    check_places(pipeline)?;
    tables.check_names(pipeline.class_folders())?;
    let identity = match &job.planned {
        Some(planned) => planned.identity.clone(),
        None => Identity::of(pipeline, date)?,
    };
    let (key, pipeline) = (&identity.key, &identity.pinned(pipeline));
    attempt.metrics.key = key.clone();
    let mut opened = Directory::open(store, &output, &pipeline.name, date, key, !job.no_lock)?;
    if let Some(planned) = &job.planned {
        opened = opened.with_work(&planned.work);
    }
    let directory = &*attempt.directory.insert(opened);
    attempt.remote = Remote::open(pipeline, date, directory, !job.no_lock)?;
    let remote = attempt.remote.as_ref();
    if job.no_lock {
        log.warn("publish", "no lock is held: another run of this date may work at the same time", json!({}));
    }
    attempt.lineage.start();
    let before: Option<Published> = directory.published()?;
    if let Some(published) = &before
        && published.key == *key
        && published.tables.iter().all(|t| tables.stands(store, &t.name, date, &t.files))
    {
        log.info("publish", "already published", json!({"key": key}));
        clear(directory, log);
        let outcome = outcome(job, "already_published", published, log);
        attempt.published = before;
        return Ok(outcome);
    }
    refuse_conflict(job, &tables, before.as_ref(), &identity, store)?;
    tables.check_exchange(store, names(), date, &directory.staging("probe"))?;
    let seen = tables.look(names(), date)?;
    let done = Stage::ALL.into_iter().map(|s| directory.is_done(s.name())).collect::<Result<Vec<bool>>>()?;
    if job.planned.is_some()
        && let Some((stage, _)) = Stage::ALL.into_iter().zip(&done).find(|(_, done)| !**done)
    {
        return Err(not_reduced(stage));
    }
    let inputs =
        if done.iter().all(|d| *d) { None } else { Some(identity.unchanged(Inputs::open(pipeline))?) };
    if inputs.is_none() {
        attempt.metrics.stages.extend(Stage::ALL.map(|s| StageTime {
            stage: s.name(),
            seconds: 0.0,
            resumed: true,
        }));
    }
    if let Some(inputs) = &inputs {
        tables.check_id(inputs.accounts.field(&pipeline.target.id)?)?;
        let run = Run { pipeline, date, key, directory, log, inputs, identity: &identity };
        attempt.metrics.rows.stored = Some(inputs.accounts.stored_rows());
        attempt.metrics.rows.table = inputs.accounts.table().cloned();
        for column in &inputs.ignored {
            log.warn("profile", "a label column of the target is ignored", json!({"column": column}));
        }
        run_stages(&run, remote, job.only, &done, &mut attempt.metrics.stages)?;
    }
    if job.only.is_some_and(|s| s != Stage::Classify) {
        let nothing = Published { key: key.clone(), ..Published::default() };
        return Ok(outcome(job, "stage_done", &nothing, log));
    }
    attempt.metrics.collect(directory);
    // what stands there is this pipeline's own, or may be replaced, or carries this run's id
    let mark = (!job.replace && before.is_none()).then_some(&key[..12]);
    let again = before.as_ref().is_some_and(|b| b.key == *key);
    let publisher = Publisher { pipeline: &pipeline.name, date, key, mark, again };
    let published =
        publish_all(job, &identity, (&tables, &publisher, &seen), directory, log, &mut attempt.metrics)
            .inspect_err(|_| drop(directory.forget(DRIFT)))?;
    if let Some(remote) = remote {
        remote.keep_record(directory)?;
        remote.clear(log);
    }
    clear(directory, log);
    log.tell("verdict", &published.verdict);
    let outcome = outcome(job, "published", &published, log);
    attempt.published = Some(published);
    Ok(outcome)
}

/// The run is complete: what it leaves behind is no failure, and the next one tries again.
fn clear(directory: &Directory, log: &Log) {
    let folders = [Stage::ALL.map(Stage::name).as_slice(), &[DRIFT]].concat();
    if let Err(e) = directory.clear(&folders) {
        log.warn("publish", "the run directory could not be cleared", json!({"error": e.to_string()}));
    }
}

/// The same date with other inputs is not replaced unless that was asked for.
fn refuse_conflict(
    job: &Job,
    tables: &Tables,
    before: Option<&Published>,
    identity: &Identity,
    store: &dyn Store,
) -> Result<()> {
    let key = identity.key.as_str();
    if job.replace {
        return Ok(());
    }
    let refuse = |what: String| {
        Err(Error::data(what).with("date", job.date.clone()).hint("--replace publishes over it"))
    };
    if let Some(published) = before
        && published.key != key
    {
        let changed = published.changed(&identity.made_of);
        let refused =
            refuse("this date was already published with other inputs, models or settings".to_string());
        return if changed.is_empty() {
            refused
        } else {
            refused.map_err(|e| e.with("changed", changed.join(", ")))
        };
    }
    for table in before.iter().flat_map(|b| &b.tables) {
        if let Some(file) = tables.stranger(store, &table.name, &job.date, &table.files)? {
            return Err(Error::data("the published partition holds data that this run did not write")
                .file(file.shown())
                .with("date", job.date.clone())
                .hint("move it away, or hide it with a leading _ or .; --replace publishes over it"));
        }
    }
    for (table, _) in TABLES {
        if before.is_none()
            && let Some(file) = tables.foreign(store, table, &job.date, &key[..12])?
        {
            return refuse(format!(
                "the partition of table {table} was published by another pipeline: {file}"
            ));
        }
    }
    Ok(())
}

/// A stage of a plan that nobody reduced, or whose files changed since.
pub fn not_reduced(stage: Stage) -> Error {
    Error::new(Kind::Missing, "a stage is not reduced, or what it left has changed")
        .with("stage", stage.name())
        .hint(format!("coldstart reduce PLAN {}", stage.name()))
}

fn run_stages(
    run: &Run,
    remote: Option<&Remote>,
    only: Option<Stage>,
    done: &[bool],
    times: &mut Vec<StageTime>,
) -> Result<()> {
    let mut valid = true;
    let stages = if only.is_some() { 1 } else { Stage::ALL.len() };
    for (place, (stage, done)) in Stage::ALL.into_iter().zip(done).enumerate() {
        let wanted = only.is_none_or(|s| s == stage);
        if valid && *done {
            if wanted {
                run.log.info(stage.name(), "already done", json!({}));
                times.push(StageTime { stage: stage.name(), seconds: 0.0, resumed: true });
            }
        } else if wanted {
            if !valid {
                return Err(Error::new(Kind::Missing, "an earlier stage has not finished")
                    .with("stage", stage.name())
                    .hint("run the stages in their order"));
            }
            let clock = std::time::Instant::now();
            run.log.enter(stage.name(), (place % stages, stages));
            run_stage(run, stage).map_err(|e| e.with("stage", stage.name()))?;
            memory::give_back();
            remote.map_or(Ok(()), |remote| remote.keep_stage(run.directory, stage.name()))?;
            times.push(StageTime {
                stage: stage.name(),
                seconds: clock.elapsed().as_secs_f64(),
                resumed: false,
            });
            run.log.info(stage.name(), "done", json!({"ms": clock.elapsed().as_millis() as u64}));
        } else {
            valid = false;
        }
        if only == Some(stage) {
            break;
        }
    }
    run.log.enter("publish", (stages, stages));
    Ok(())
}

fn run_stage(run: &Run, stage: Stage) -> Result<()> {
    on_fewer_threads(run.log, stage, || {
        let work = || run.identity.unchanged(cancel::check().and_then(|()| stages::work(stage, run)));
        run.directory.finish(stage.name(), work)
    })
}

/// A stage that holds too much holds less on one thread, where fewer pieces of rows are in work at a time; its
/// output is the same.
pub fn on_fewer_threads<T: Send>(
    log: &Log,
    stage: Stage,
    work: impl Fn() -> Result<T> + Send + Sync,
) -> Result<T> {
    match work() {
        Err(e) if e.kind() == Kind::Memory && rayon::current_num_threads() > 1 => {
            log.warn(
                stage.name(),
                "over --max-memory, tried again on one thread",
                json!({"needed": e.context().first().map(|c| &c.1)}),
            );
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            pool.map_err(|e| Error::new(Kind::TryAgain, format!("cannot start a thread: {e}")))?
                .install(&work)
        }
        other => other,
    }
}

fn publish_all(
    job: &Job,
    identity: &Identity,
    (tables, publisher, seen): (&Tables, &Publisher, &Seen),
    directory: &Directory,
    log: &Log,
    metrics: &mut Metrics,
) -> Result<Published> {
    let key = identity.key.as_str();
    let summary = SUMMARY.load(directory)?;
    let counts = read_back::verify(&job.pipeline, directory)?;
    let dates = published::dates(directory.store, &job.pipeline, &job.date)?;
    let record = |date: &String| published::record(directory.store, &job.pipeline, date);
    let previous = dates.last().map(|date| record(date).map(|r| (date.clone(), r))).transpose()?;
    metrics.count(&counts);
    metrics.classes = summary.classes.clone();
    let profile = PROFILE.load(directory)?;
    metrics.gates = gates::judge(
        &job.pipeline.gates,
        (profile.rows, &summary.classes),
        &counts,
        previous.as_ref(),
        job.accepted,
    );
    gates::refuse(&metrics.gates, log)?;
    drift::write(
        &job.pipeline,
        directory,
        (&job.date, key),
        &summary.classes,
        &dates,
        &directory.stage(DRIFT),
    )?;
    cancel::check()?;
    let _commit = Commit::begin();
    let mut published = Vec::new();
    for (table, folder) in TABLES {
        let source = directory.stage(folder).join(table);
        let staging = directory.staging(table);
        let files = tables.publish(directory.store, table, (&source, &staging), publisher, seen)?;
        published.push(Table { name: table.to_string(), files });
        log.info("publish", "published", json!({"table": table}));
    }
    let kept = kept::keep(directory)?;
    let published = Published {
        key: key.to_string(),
        rows: summary.rows,
        classes: summary.classes,
        abstained: summary.abstained,
        tables: published,
        explanation: kept,
        made_of: identity.made_of.clone(),
        verdict: VERDICT.load(directory)?.sentences,
    };
    directory.record(&published)?;
    Ok(published)
}

fn outcome(job: &Job, status: &str, published: &Published, log: &Log) -> Outcome {
    let tables = job.pipeline.tables();
    let place = |t: &Table| tables.shown(&t.name, &job.date).to_string();
    Outcome {
        status: status.to_string(),
        pipeline: job.pipeline.name.clone(),
        date: job.date.clone(),
        key: published.key.clone(),
        rows: published.rows,
        classes: published.classes.clone(),
        abstained: published.abstained.clone(),
        report: String::new(),
        tables: published.tables.iter().map(|t| (t.name.clone(), place(t))).collect(),
        warnings: log.warnings().len(),
        verdict: published.verdict.join(" "),
    }
}
