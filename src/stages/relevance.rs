//! Step 3 of 6: what each teacher is worth for this target.
//!
//! In: the profile, the histories, the target's scores. Out: `calculator.json`, the relevance calculator trained on the
//! histories, and `fusion.json`: all that makes a soft label of an account's scores.

use arrow::array::{ArrayRef, RecordBatch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::profile::Profile;
use super::score::{Scored, profiled, score_names, support_of};
use super::{base_rate, domain, histories, part_name};
use crate::config::Method;
use crate::error::Result;
use crate::lake::{ids, part};
use crate::relevance::alignment::{Alignment, MOST_ROWS, Sample};
use crate::relevance::calculator::{Calculator, Member};
use crate::relevance::distance::Distances;
use crate::relevance::fuse::{Blend, Fuser};
use crate::relevance::sum::ExactMeans;
use crate::relevance::support::Support;
use crate::relevance::world::{self, World};
use crate::run::digest;
use crate::run::directory::{read_json, write_json};
use crate::run::job::Run;
use crate::teacher::{Teacher, Workspace};

/// What the target's own scores add to the calculator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fusion {
    /// Means of the calibrated scores over the target.
    means: ExactMeans,
    /// What moves the teachers to one level; none for the reference method.
    alignment: Option<Alignment>,
    /// Constants of the base-rate step, one a class.
    constants: Vec<f64>,
    /// For each teacher how well a linear classifier tells its history from the target: an area under the ROC curve.
    pub domain_areas: Vec<Option<f64>>,
    /// `none`, `class_shares` or `labels`: what moved the base rate.
    pub base_rate: String,
}

/// The scores of one batch of accounts.
pub struct Scores<'a> {
    pub id: &'a ArrayRef,
    columns: Vec<&'a [f64]>,
    supports: Vec<&'a [f64]>,
}

impl<'a> Scores<'a> {
    pub fn of(batch: &'a RecordBatch, teachers: usize, classes: usize) -> Result<Scores<'a>> {
        let (scores, supports) = score_names(teachers, classes);
        Ok(Scores {
            id: batch.column(0),
            columns: scores.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
            supports: supports.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
        })
    }

    /// Raw scores `[K, C]` and support `[K]` of row `i`.
    pub fn row(&self, i: usize, raw: &mut Vec<f64>, s: &mut Vec<f64>) {
        raw.clear();
        raw.extend(self.columns.iter().map(|c| c[i]));
        s.clear();
        s.extend(self.supports.iter().map(|c| c[i]));
    }
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let scored = Scored::load(run)?;
    let profile = target_profile(run, &scored)?;
    let teachers: Vec<&Teacher> = scored.active.iter().map(|k| &run.inputs.teachers[*k]).collect();
    let calculator = train(run, &scored.active, &teachers, &profile)?;
    let blend = calculator.blend(&Distances::new(&profile.profiles))?;
    let means = target_means(run, &scored, &blend)?;
    let reference = Fuser::new(blend, &means);
    let ranges = base_rate::ranges(run.pipeline)?;
    let fuser = match run.pipeline.fuse.method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, sample(run, &scored)?, &ranges),
    };
    let (moved_by, constants) = base_rate::constants(run, &scored, &fuser, &ranges)?;
    let domain_areas = domain::areas(run, &scored.active, &profile, scored.units)?;
    let folder = run.directory.stage("relevance");
    write_json(run.directory.store, &folder.join("calculator.json"), &calculator)?;
    let alignment = fuser.alignment().cloned();
    write_json(
        run.directory.store,
        &folder.join("fusion.json"),
        &Fusion { means, alignment, constants, domain_areas, base_rate: moved_by.to_string() },
    )
}

/// Means of the calibrated scores over the target.
fn target_means(run: &Run, scored: &Scored, blend: &Blend) -> Result<ExactMeans> {
    let add = |scores: &Scores, rows: usize, means: &mut ExactMeans| {
        let (mut raw, mut s, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..rows {
            scores.row(i, &mut raw, &mut s);
            blend.add(&raw, &mut scratch, means);
        }
        Ok(())
    };
    let parts = over_scores(run, scored, || blend.means(), add)?;
    Ok(parts.into_iter().fold(blend.means(), |mut all, part| {
        all.merge(&part);
        all
    }))
}

/// Accounts by the hash of their id, on which teachers are aligned.
fn sample(run: &Run, scored: &Scored) -> Result<Sample> {
    let limit = (MOST_ROWS as f64 * 1.2 / scored.rows as f64 * u64::MAX as f64) as u64;
    let add = |scores: &Scores, rows: usize, sample: &mut Sample| {
        let (mut raw, mut s) = (Vec::new(), Vec::new());
        let hashes = ids::hashes(scores.id)?;
        for i in (0..rows).filter(|i| hashes[*i] <= limit) {
            scores.row(i, &mut raw, &mut s);
            sample.add(hashes[i], &raw, &s);
        }
        Ok(())
    };
    let parts = over_scores(run, scored, Sample::default, add)?;
    Ok(parts.into_iter().fold(Sample::default(), |mut all, part| {
        all.merge(part);
        all
    }))
}

/// The profile of the teachers that count.
pub fn target_profile(run: &Run, scored: &Scored) -> Result<Profile> {
    match &scored.reprofiled {
        None => Profile::load(run),
        Some(profile) => Ok(profile.clone()),
    }
}

/// What makes soft labels, as this stage left it.
pub fn load(run: &Run) -> Result<(Calculator, Distances, Fuser, Fusion)> {
    let folder = run.directory.stage("relevance");
    let calculator: Calculator = read_json(run.directory.store, &folder.join("calculator.json"))?;
    let fusion: Fusion = read_json(run.directory.store, &folder.join("fusion.json"))?;
    let profile = target_profile(run, &Scored::load(run)?)?;
    let distances = Distances::new(&profile.profiles);
    let mut fuser = Fuser::new(calculator.blend(&distances)?, &fusion.means);
    if let Some(alignment) = &fusion.alignment {
        fuser = fuser.with_alignment(alignment.clone());
    }
    let fuser = fuser.with_constants(&fusion.constants);
    Ok((calculator, distances, fuser, fusion))
}

/// Scores every history with every teacher and trains the calculator on them.
fn train(run: &Run, active: &[usize], teachers: &[&Teacher], profile: &Profile) -> Result<Calculator> {
    let support = Support::new(&profile.profiles);
    let worlds: Vec<world::Teacher> =
        teachers.par_iter().with_max_len(1).map(|teacher| history_of(run, active, teacher, &support, profile)).collect::<Result<_>>()?;
    let members = teachers.iter().map(|t| member(t)).collect::<Result<Vec<_>>>()?;
    let world = World::new(worlds, run.pipeline.classes.len())?;
    let calculator = Calculator::train(&world, profile.profiles.clone(), members, run.pipeline.classes.clone())?;
    if !calculator.trained {
        run.log.warn(
            "relevance",
            "the calculator could not be trained: it takes three labelled histories",
            json!({"teachers": teachers.len()}),
        );
    }
    Ok(calculator)
}

fn member(teacher: &Teacher) -> Result<Member> {
    let files = teacher.bundle.files().iter().map(|f| digest::named(f, &teacher.bundle.folder.join(f))).collect::<Result<Vec<_>>>()?;
    let text: Vec<String> = files.iter().map(|f| format!("{} {}", f.sha256, f.path)).collect();
    Ok(Member { name: teacher.name().to_string(), digest: digest::text(&text.join("\n")) })
}

fn history_of(run: &Run, active: &[usize], teacher: &Teacher, support: &Support, profile: &Profile) -> Result<world::Teacher> {
    let inputs = run.inputs;
    let mut out = world::Teacher { name: teacher.name().to_string(), rows: teacher.bundle.training.rows, history: None };
    let Some(history) = histories::open(teacher, &inputs.features)? else { return Ok(out) };
    let (labels, held_out) = history.labels(teacher, run.pipeline)?;
    let classes = run.pipeline.classes.len();
    let mut scores = vec![Vec::with_capacity(history.rows() * classes); active.len()];
    let mut supports = Vec::with_capacity(history.rows() * active.len());
    let places = profiled(profile, &inputs.features)?;
    let mut work = Workspace::default();
    history.blocks(|block| {
        crate::run::cancel::check()?;
        let matrix = inputs.plan.encode(&block);
        for (&k, scores) in active.iter().zip(&mut scores) {
            let start = scores.len();
            scores.resize(start + block.rows * classes, 0.0);
            inputs.teachers[k].score(&inputs.encoders[k], &block, &matrix, &mut work, &mut scores[start..])?;
        }
        supports.extend(support_of(support, &places, &block));
        Ok(())
    })?;
    out.history = Some(world::History { labels, held_out, scores, support: supports });
    Ok(out)
}

/// Folds the target's scores, unit by unit in parallel; one result for each unit, in order.
pub fn over_scores<T: Send>(
    run: &Run,
    scored: &Scored,
    empty: impl Fn() -> T + Sync,
    add: impl Fn(&Scores, usize, &mut T) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    let folder = run.directory.stage("score").join("scores");
    let (teachers, classes) = (scored.active.len(), run.pipeline.classes.len());
    let one = |unit: usize| -> Result<T> {
        let mut out = empty();
        part::read(&folder.join(part_name(unit, None)), |batch| add(&Scores::of(&batch, teachers, classes)?, batch.num_rows(), &mut out))?;
        Ok(out)
    };
    (0..scored.units).into_par_iter().with_max_len(1).map(one).collect()
}
