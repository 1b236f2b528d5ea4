//! Step 3 of 6: what each teacher is worth for this target.
//!
//! In: the profile, the target's scores, and a saved calculator or the histories to train one. Out:
//! `calculator.json`, the relevance calculator, `fusion.json`, all else that makes a soft label of an
//! account's scores, and what was found out about the teachers ([`tables`]).

pub mod base_rate;
pub mod domain_classifier;
pub mod tables;

use rayon::prelude::*;
use serde_json::json;

use crate::config::Method;
use crate::error::Result;
use crate::lake::scan::ids;
use crate::lake::store::files::write_json;
use crate::relevance::fusion::alignment::{MOST_ROWS, Sample};
use crate::relevance::fusion::fuse::{Blend, Fuser};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::profile::distance::{Distances, irrelevant};
use crate::relevance::training::calculator::{Calculator, Repeat};
use crate::run::context::Run;
use crate::sources::training;
use crate::stages::artifacts::{COUNTED_POOLED, COUNTED_PROFILE, Fusion, Profile, SCORED, Scored, Settled};
use crate::stages::relevance::base_rate::Known;
use crate::stages::scores::{Row, Scores, over_scores, without};

/// Accounts (at most) on which the label without each teacher is settled, those with the smallest hashes of
/// their ids.
const ROWS_WITHOUT: usize = 16_384;

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let scored = SCORED.load(run.directory)?;
    let profile = COUNTED_PROFILE.load(run.directory)?;
    let calculator = match run.inputs.calculator_for(&scored.active) {
        Some(saved) => saved.clone(),
        None => train(run, &scored, &profile)?,
    };
    let distances = Distances::new(&profile.profiles);
    if irrelevant(&distances.js) {
        run.log.warn(
            "relevance",
            "no teacher's history overlaps with the target: all teachers count evenly",
            json!({"js": distances.js}),
        );
    }
    let pooled_share = calculator.pooled_share(&distances);
    let blend = calculator.blend(&distances)?;
    let means = target_means(run, &scored, &blend)?;
    let reference = Fuser::new(blend, &means);
    let known = Known::of(run, &scored)?;
    let sample = sample(run, &scored)?;
    let fuser = match run.pipeline.fuse.method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, sample.clone(), known.ranges()),
    }
    .with_pooled(pooled_share);
    let constants = known.constants(run, &scored, &fuser)?;
    let mut rows = sample.finish();
    rows.truncate(ROWS_WITHOUT);
    let without = (0..calculator.names().len())
        .into_par_iter()
        .map(|k| {
            settle_without(
                k,
                run.pipeline.fuse.method,
                &calculator,
                calculator.blend_without(k, &distances)?,
                pooled_share.filter(|_| k < calculator.teachers.len()),
                &known,
                &rows,
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let fusion = Fusion {
        whole: Settled { means, alignment: fuser.alignment().cloned(), constants },
        without,
        domain_areas: domain_classifier::areas(run, &scored.active, &profile)?,
        base_rate: known.name().to_string(),
        pooled_share,
    };
    let folder = run.directory.stage("relevance");
    write_json(run.directory.store, &folder.join("calculator.json"), &calculator)?;
    write_json(run.directory.store, &folder.join("fusion.json"), &fusion)?;
    tables::write(run, &calculator, &distances, &fusion, &rows, &profile.known)
}

/// What the sampled accounts settle of the blend without teacher `k`.
fn settle_without(
    k: usize,
    method: Method,
    calculator: &Calculator,
    blend: Blend,
    pooled_share: Option<f64>,
    known: &Known,
    rows: &[Row],
) -> Result<Settled> {
    let rows: Vec<Row> = rows.iter().map(|row| without(row, k, blend.classes)).collect();
    let (mut means, mut scratch, mut sample) = (blend.means(), Vec::new(), Sample::default());
    for (key, (raw, s)) in (0..).zip(&rows) {
        blend.add(raw, &mut scratch, &mut means);
        sample.add(key, raw, s);
    }
    let reference = Fuser::new(blend, &means);
    let fuser = match method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, sample, known.ranges()),
    }
    .with_pooled(pooled_share);
    let constants = known.constants_without(k, &fuser, &rows)?;
    Ok(Settled { means, alignment: fuser.alignment().cloned(), constants })
}

/// The calculator of the teachers that count, trained in passing.
fn train(run: &Run, scored: &Scored, profile: &Profile) -> Result<Calculator> {
    let known = run.inputs.calculator.iter().flat_map(|c| c.repeats.clone());
    if run.inputs.calculator.is_some() {
        let why = "a teacher repeats another on the target that it did not repeat on the histories";
        run.log.warn(
            "relevance",
            "the saved calculator is not used, another is trained",
            json!({"why": why}),
        );
    }
    let (mut calculator, _) = training::train(
        run.inputs.panel(run.pipeline, run.log),
        &scored.active,
        profile.profiles.clone(),
        COUNTED_POOLED.load(run.directory)?,
    )?;
    let found = training::repeats(&run.inputs.teachers, &scored.copies)?;
    let last = |name: String| found.iter().find(|r| r.name == name).map_or(name, |r| r.same_as.clone());
    calculator.repeats =
        found.iter().cloned().chain(known.map(|r| Repeat { same_as: last(r.same_as), ..r })).collect();
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
    over_scores(run, scored, || blend.means(), add)
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
    over_scores(run, scored, Sample::default, add)
}
