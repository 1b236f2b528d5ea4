//! Step 3 of 6: what each teacher is worth for this target.
//!
//! In: the profile, the target's scores, and a saved calculator or the histories to train one. Out: `calculator.json`, the relevance
//! calculator, `fusion.json`, all else that makes a soft label of an account's scores, and what was found out about the teachers ([`findings`]).

use arrow::array::{ArrayRef, RecordBatch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::base_rate::{self, Known, Row};
use super::profile::Profile;
use super::score::{Scored, score_names};
use super::{domain, findings, part_name, train};
use crate::config::Method;
use crate::error::Result;
use crate::lake::{ids, part};
use crate::relevance::alignment::{Alignment, MOST_ROWS, Sample};
use crate::relevance::calculator::{Calculator, Repeat};
use crate::relevance::distance::{Distances, irrelevant};
use crate::relevance::fuse::{Blend, Fuser};
use crate::relevance::sum::ExactMeans;
use crate::run::directory::{read_json, write_json};
use crate::run::job::Run;

/// Accounts (at most) on which the label without each teacher is settled, those with the smallest hashes of their ids.
const ROWS_WITHOUT: usize = 16_384;

/// What the target's own scores settle of a blend.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settled {
    /// Means of the calibrated scores over the target.
    means: ExactMeans,
    /// What moves the teachers to one level; none for the reference method.
    alignment: Option<Alignment>,
    /// Constants of the base-rate step, one a class.
    constants: Vec<f64>,
}

/// What makes soft labels of scores, beside the calculator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fusion {
    whole: Settled,
    /// The same for the label without each teacher.
    without: Vec<Settled>,
    /// For each teacher how well a linear classifier tells its history from the target: an area under the ROC curve.
    pub domain_areas: Vec<Option<f64>>,
    /// `none`, `class_shares` or `labels`: what moved the base rate.
    pub base_rate: String,
}

impl Settled {
    fn fuser(&self, blend: Blend) -> Fuser {
        let mut fuser = Fuser::new(blend, &self.means);
        if let Some(alignment) = &self.alignment {
            fuser = fuser.with_alignment(alignment.clone());
        }
        fuser.with_constants(&self.constants)
    }
}

impl Fusion {
    /// What made the published soft labels.
    pub fn fuser(&self, calculator: &Calculator, distances: &Distances) -> Result<Fuser> {
        Ok(self.whole.fuser(calculator.blend(distances)?))
    }

    /// What would have made them without each of the teachers in turn.
    pub fn fusers_without(&self, calculator: &Calculator, distances: &Distances) -> Result<Vec<Fuser>> {
        self.without.iter().enumerate().map(|(k, settled)| Ok(settled.fuser(calculator.blend_without(k, distances)?))).collect()
    }
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
    let calculator = match run.inputs.calculator_for(&scored.active) {
        Some(saved) => saved.clone(),
        None => train(run, &scored, &profile)?,
    };
    let distances = Distances::new(&profile.profiles);
    if irrelevant(&distances.js) {
        run.log.warn("relevance", "no teacher's history overlaps with the target: all teachers count evenly", json!({"js": distances.js}));
    }
    let blend = calculator.blend(&distances)?;
    let means = target_means(run, &scored, &blend)?;
    let reference = Fuser::new(blend, &means);
    let known = Known::of(run, &scored)?;
    let sample = sample(run, &scored)?;
    let fuser = match run.pipeline.fuse.method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, sample.clone(), known.ranges()),
    };
    let constants = known.constants(run, &scored, &fuser)?;
    let mut rows = sample.finish();
    rows.truncate(ROWS_WITHOUT);
    let without = (0..scored.active.len())
        .into_par_iter()
        .map(|k| settle_without(k, run.pipeline.fuse.method, &calculator, calculator.blend_without(k, &distances)?, &known, &rows))
        .collect::<Result<Vec<_>>>()?;
    let fusion = Fusion {
        whole: Settled { means, alignment: fuser.alignment().cloned(), constants },
        without,
        domain_areas: domain::areas(run, &scored.active, &profile, scored.units)?,
        base_rate: known.name().to_string(),
    };
    let folder = run.directory.stage("relevance");
    write_json(run.directory.store, &folder.join("calculator.json"), &calculator)?;
    write_json(run.directory.store, &folder.join("fusion.json"), &fusion)?;
    findings::write(run, &calculator, &distances, &fusion, &rows)
}

/// What the sampled accounts settle of the blend without teacher `k`.
fn settle_without(k: usize, method: Method, calculator: &Calculator, blend: Blend, known: &Known, rows: &[Row]) -> Result<Settled> {
    let rows: Vec<Row> = rows.iter().map(|row| base_rate::without(row, k, blend.classes)).collect();
    let (mut means, mut scratch, mut sample) = (blend.means(), Vec::new(), Sample::default());
    for (key, (raw, s)) in (0..).zip(&rows) {
        blend.add(raw, &mut scratch, &mut means);
        sample.add(key, raw, s);
    }
    let reference = Fuser::new(blend, &means);
    let fuser = match method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, sample, known.ranges()),
    };
    let constants = known.constants_without(k, &fuser, &rows)?;
    Ok(Settled { means, alignment: fuser.alignment().cloned(), constants })
}

/// The calculator of the teachers that count, trained in passing.
fn train(run: &Run, scored: &Scored, profile: &Profile) -> Result<Calculator> {
    let known = run.inputs.calculator.iter().flat_map(|c| c.repeats.clone());
    if run.inputs.calculator.is_some() {
        let why = "a teacher repeats another on the target that it did not repeat on the histories";
        run.log.warn("relevance", "the saved calculator is not used, another is trained", json!({"why": why}));
    }
    let (mut calculator, _) = train::train(run.inputs.panel(run.pipeline, run.log), &scored.active, profile.profiles.clone())?;
    let found = train::repeats(&run.inputs.teachers, &scored.copies)?;
    let last = |name: String| found.iter().find(|r| r.name == name).map_or(name, |r| r.same_as.clone());
    calculator.repeats = found.iter().cloned().chain(known.map(|r| Repeat { same_as: last(r.same_as), ..r })).collect();
    if !calculator.trained {
        run.log.warn(
            "relevance",
            "the calculator could not be trained: it takes three labelled histories",
            json!({"teachers": scored.active.len()}),
        );
    }
    Ok(calculator)
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
    let fuser = fusion.fuser(&calculator, &distances)?;
    Ok((calculator, distances, fuser, fusion))
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
