//! One run by many processes: a plan, units of work that any scheduler drives, a reduction of each stage, one
//! commit. `docs/cluster.md` says how to drive them.
//!
//! `coldstart run` does the same in one process: the same maps over pieces of rows, the same states, the same
//! reductions ([`crate::stages`]). What is added here is what processes need that know nothing of each other:
//! states as files, receipts, and digests that are looked at before something is used. All of it lies in a
//! folder of the plan's own below the run directory, so that no other run of the date is in its way.

pub mod command;
pub mod plan;
pub mod receipt;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::job::gates::Accepted;
use crate::job::published::Published;
use crate::job::units::plan::{Plan, Settings};
use crate::job::units::receipt::{Receipt, is_bookkeeping, state_name};
use crate::job::{self, Job, Outcome, Planned};
use crate::lake::store::Store;
use crate::lake::store::digest;
use crate::lake::store::files::{create_dir, read, write_atomic, write_json};
use crate::process::log::Log;
use crate::run::context::Run;
use crate::run::directory::Directory;
use crate::run::fold;
use crate::run::identity::Identity;
use crate::run::stage::Stage;
use crate::sources::inputs::Inputs;
use crate::stages;
use crate::stages::artifacts::{SCORED, names_of_pieces};

/// Plans a run in at most `units` units and writes the plan to `out`.
pub fn plan(
    pipeline: &Path,
    overrides: &[String],
    date: &str,
    units: usize,
    out: &Path,
    store: &dyn Store,
) -> Result<Value> {
    let (settings, pipeline) = Settings::new(pipeline, overrides)?;
    if pipeline.tables().output.path().is_none() {
        return Err(Error::config("the processes of a plan share a directory, and an object store is none")
            .with("key", "output.path")
            .value(&pipeline.output.path)
            .hint("coldstart run does it in one process"));
    }
    job::check_places(&pipeline)?;
    let identity = Identity::of(&pipeline, date)?;
    let mut inputs = identity.unchanged(Inputs::open(&identity.pinned(&pipeline)))?;
    inputs.accounts = inputs.accounts.cut_for(units);
    let plan = Plan::new(settings, date, &identity, &inputs.accounts, units);
    write_json(store, out, &plan)?;
    Ok(json!({
        "status": "planned",
        "pipeline": pipeline.name,
        "date": date,
        "key": plan.key,
        "plan": out.display().to_string(),
        "rows": plan.rows,
        "units": plan.units.len(),
        "unit_numbers": (0..plan.units.len()).collect::<Vec<_>>(),
        "stages": plan.stages.iter().map(|s| (s.stage.clone(), s.units)).collect::<Vec<_>>(),
    }))
}

/// A plan, as a process sees it that works on it.
struct Site<'a> {
    plan: Plan,
    /// Digest of the plan.
    id: String,
    pipeline: Pipeline,
    identity: Identity,
    directory: Directory<'a>,
    log: &'a Log,
}

impl<'a> Site<'a> {
    fn open(path: &Path, log: &'a Log, store: &'a dyn Store) -> Result<Site<'a>> {
        let (plan, pipeline, id) = Plan::read(path)?;
        let pipeline = plan.identity().pinned(&pipeline);
        let place = Directory::place(&pipeline.output_path(), &pipeline.name, &plan.date);
        let directory = Directory::shared(store, &place, &id, &plan.key);
        Ok(Site { identity: plan.identity(), plan, id, pipeline, directory, log })
    }

    fn store(&self) -> &'a dyn Store {
        self.directory.store
    }

    /// Whether the run is published, so that nothing is left to do.
    fn is_published(&self) -> Result<bool> {
        Ok(self.directory.published::<Published>()?.is_some_and(|p| p.key == self.plan.key))
    }

    /// Refuses to go on while an earlier stage is not reduced (66), or what it left has changed.
    fn check_before(&self, stage: Stage) -> Result<()> {
        for earlier in stage.before() {
            if !self.directory.is_done(earlier.name())? {
                return Err(job::not_reduced(earlier));
            }
        }
        Ok(())
    }

    /// Refuses to read what a unit of an earlier stage left if it is not what its receipt says.
    fn check_unit(&self, stage: Stage, unit: usize) -> Result<Receipt> {
        let receipt = self.receipt(stage, unit)?;
        match receipt.damaged(self.store(), &self.directory.stage(stage.name())) {
            Some(file) => Err(Error::data("a unit's file is not what its receipt says")
                .file(&file)
                .with("unit", unit.to_string())
                .hint("work on that unit again")),
            None => Ok(receipt),
        }
    }

    /// The same for all units of a stage.
    fn check_units(&self, stage: Stage) -> Result<()> {
        // all receipts before any digest: what is missing is known at once
        (0..self.plan.units.len()).try_for_each(|unit| self.receipt(stage, unit).map(|_| ()))?;
        fold::over(0..self.plan.units.len(), || (), |unit, ()| self.check_unit(stage, unit).map(|_| ()))
    }

    fn receipt(&self, stage: Stage, unit: usize) -> Result<Receipt> {
        let folder = self.directory.stage(stage.name());
        Receipt::find(self.store(), &folder, &self.id, unit)?.ok_or_else(|| {
            Error::new(Kind::TryAgain, "a unit is not done")
                .with("stage", stage.name())
                .with("unit", unit.to_string())
                .hint(format!("coldstart work PLAN {} {unit}", stage.name()))
        })
    }

    /// Opens the inputs and hands a stage what it sees; refuses whatever changed meanwhile (75).
    fn with_run<T>(&self, work: impl FnOnce(&Run) -> Result<T>) -> Result<T> {
        let mut inputs = self.identity.unchanged(Inputs::open(&self.pipeline))?;
        inputs.accounts = inputs.accounts.cut_for(self.plan.units.len());
        self.plan.check(&inputs.accounts)?;
        let run = Run {
            pipeline: &self.pipeline,
            date: &self.plan.date,
            key: &self.plan.key,
            directory: &self.directory,
            log: self.log,
            inputs: &inputs,
            identity: &self.identity,
        };
        self.identity.unchanged(work(&run))
    }

    fn result(&self, status: &str, stage: Stage, more: Value) -> Value {
        let mut line = json!({"status": status, "stage": stage.name()});
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        line
    }
}

/// Does a unit of a stage, unless that is done.
pub fn work(plan: &Path, stage: Stage, unit: usize, log: &Log, store: &dyn Store) -> Result<Value> {
    let site = Site::open(plan, log, store)?;
    let units = if stage.is_mapped() { site.plan.units.len() } else { 0 };
    let Some(cut) = site.plan.units.get(unit).filter(|_| unit < units) else {
        return Err(Error::new(Kind::Usage, format!("the stage has {units} units, counted from 0"))
            .with("stage", stage.name())
            .value(unit));
    };
    let folder = site.directory.stage(stage.name());
    let done = |status: &str| site.result(status, stage, json!({"unit": unit, "rows": cut.rows}));
    if site.is_published()? {
        return Ok(done("already_published"));
    }
    if let Some(receipt) = Receipt::find(store, &folder, &site.id, unit)?
        && receipt.damaged(store, &folder).is_none()
    {
        return Ok(done("already_done"));
    }
    site.check_before(stage)?;
    for earlier in stage.reads() {
        site.check_unit(*earlier, unit)?;
    }
    create_dir(store, &folder.join(receipt::STATES))?;
    log.enter(stage.name(), (0, 1));
    let (state, outputs) = site.with_run(|run| {
        let state = job::on_fewer_threads(log, stage, || stages::map(stage, run, cut.range()))?;
        Ok((state, outputs(run, stage, cut.range())?))
    })?;
    write_atomic(store, &folder.join(state_name(unit)), &state)?;
    let digests = |path: &String| digest::file(store, &folder, path);
    let receipt = Receipt {
        format: plan::FORMAT,
        plan: site.id.clone(),
        stage: stage.name().to_string(),
        unit,
        state: digests(&state_name(unit))?,
        outputs: outputs.par_iter().map(digests).collect::<Result<_>>()?,
    };
    receipt.put(store, &folder)?;
    Ok(done("unit_done"))
}

/// The files of a stage that belong to some pieces of rows, relative to its folder.
fn outputs(run: &Run, stage: Stage, pieces: Range<usize>) -> Result<Vec<String>> {
    let names = names_of_pieces(run, pieces);
    let mut files = digest::list(run.directory.store, &run.directory.stage(stage.name()))?;
    files.retain(|path| path.rsplit('/').next().is_some_and(|name| names.contains(name)));
    Ok(files)
}

/// Merges what the units of a stage learned and does the rest of the stage, unless that is done.
pub fn reduce(plan: &Path, stage: Stage, log: &Log, store: &dyn Store) -> Result<Value> {
    let site = Site::open(plan, log, store)?;
    if site.is_published()? {
        return Ok(site.result("already_published", stage, json!({})));
    }
    let _lock = site.directory.lock_work()?;
    if site.directory.is_done(stage.name())? {
        return Ok(site.result("already_done", stage, json!({})));
    }
    site.check_before(stage)?;
    let units = if stage.is_mapped() { site.plan.units.len() } else { 0 };
    let folder = site.directory.stage(stage.name());
    let mut receipts = (0..units).map(|unit| site.receipt(stage, unit)).collect::<Result<Vec<_>>>()?;
    if !stage.is_mapped() {
        // it reads what all units of stages before it left
        stage.reads().iter().try_for_each(|earlier| site.check_units(*earlier))?;
    } else if stage == Stage::Profile || (stage != Stage::Score && site.plan.is_cut_finer()) {
        // and here what its own left: hashes of ids, pieces of the table's files
        site.check_units(stage)?;
    }
    let state = |receipt: &Receipt| -> Result<Vec<u8>> {
        let path = folder.join(&receipt.state.path);
        let bytes = read(store, &path).map_err(|e| Error::io(&e, "cannot read", &path))?;
        match digest::bytes(&bytes) == receipt.state.sha256 {
            true => Ok(bytes),
            false => Err(Error::data("a unit's state is not what its receipt says")
                .file(&path)
                .with("unit", receipt.unit.to_string())
                .hint("work on that unit again")),
        }
    };
    create_dir(store, &folder)?;
    log.enter(stage.name(), (0, 1));
    site.with_run(|run| {
        job::on_fewer_threads(log, stage, || stages::reduce(stage, run, receipts.iter().map(state)))
    })
    .map_err(|e| e.with("stage", stage.name()))?;
    if stage == Stage::Score && SCORED.load(&site.directory)?.again {
        receipts = receipts.iter().map(|r| r.renewed(store, &folder)).collect::<Result<_>>()?;
    }
    let of_units: HashSet<&str> =
        receipts.iter().flat_map(|r| r.outputs.iter().map(|o| o.path.as_str())).collect();
    site.directory.write_record(stage.name(), |path| !is_bookkeeping(path) && !of_units.contains(path))?;
    Ok(site.result("stage_done", stage, json!({"units": units})))
}

/// Reads back what the stages left, judges the gates and publishes, as the end of a run does.
pub fn commit(
    plan: &Path,
    replace: bool,
    accepted: Accepted,
    log: &Log,
    store: &dyn Store,
) -> Result<Outcome> {
    let site = Site::open(plan, log, store)?;
    if !site.is_published()? {
        for stage in Stage::ALL.into_iter().filter(|s| s.is_mapped()) {
            site.check_units(stage)?;
        }
    }
    let planned = Planned { identity: site.identity, work: site.directory.work().to_path_buf() };
    let job = Job {
        pipeline: site.pipeline,
        date: site.plan.date,
        replace,
        only: None,
        skip_if_empty: false,
        no_lock: false,
        accepted,
        planned: Some(planned),
    };
    job::run(&job, log, store)
}
