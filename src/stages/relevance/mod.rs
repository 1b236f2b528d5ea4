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
use crate::relevance::fusion::columns::{Columns, OwnColumns};
use crate::relevance::fusion::fuse::{Blend, Fuser};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::profile::distance::{Distances, irrelevant};
use crate::relevance::training::calculator::{Calculator, Repeat};
use crate::run::context::Run;
use crate::sources::training;
use crate::stages::artifacts::{COUNTED_POOLED, COUNTED_PROFILE, Fusion, Profile, SCORED, Scored, Settled};
use crate::stages::relevance::base_rate::Known;
use crate::stages::scores::{Scores, over_scores};

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
    // neither keeps two threads busy
    let (areas, settled) = rayon::join(
        || domain_classifier::areas(run, &scored.active, &profile),
        || settle(run, &scored, &calculator, &distances),
    );
    let (fusion, rows) = settled?;
    let fusion = Fusion { domain_areas: areas?, ..fusion };
    let folder = run.directory.stage("relevance");
    write_json(run.directory.store, &folder.join("calculator.json"), &calculator)?;
    write_json(run.directory.store, &folder.join("fusion.json"), &fusion)?;
    tables::write(run, &calculator, &distances, &fusion, &rows.columns().first(ROWS_WITHOUT), &profile.known)
}

/// What makes a soft label, apart from the calculator and the domain classifier; also a sample of the target.
fn settle(
    run: &Run,
    scored: &Scored,
    calculator: &Calculator,
    distances: &Distances,
) -> Result<(Fusion, OwnColumns)> {
    let method = run.pipeline.fuse.method;
    let pooled_share = calculator.pooled_share(distances);
    let blend = calculator.blend(distances)?;
    let (means, sample) = look(run, scored, &blend)?;
    let reference = Fuser::new(blend, &means);
    let known = Known::of(run, scored)?;
    let sampled = sample.finish();
    let sample = sampled.columns();
    let fuser = match method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, &sample, known.ranges()),
    }
    .with_pooled(pooled_share);
    let constants = known.constants(run, scored, &fuser)?;
    let rows = sample.first(ROWS_WITHOUT);
    let without = |k: usize| {
        let blend = calculator.blend_without(k, distances)?;
        let pooled_share = pooled_share.filter(|_| k < calculator.teachers.len());
        settle_without(k, method, calculator, blend, pooled_share, &known, &rows)
    };
    let without = (0..calculator.names().len()).into_par_iter().map(without).collect::<Result<Vec<_>>>()?;
    let fusion = Fusion {
        whole: Settled { means, alignment: fuser.alignment().cloned(), constants },
        without,
        domain_areas: Vec::new(),
        base_rate: known.name().to_string(),
        pooled_share,
    };
    Ok((fusion, sampled))
}

/// What the sampled accounts settle of the blend without teacher `k`.
fn settle_without(
    k: usize,
    method: Method,
    calculator: &Calculator,
    blend: Blend,
    pooled_share: Option<f64>,
    known: &Known,
    rows: &Columns,
) -> Result<Settled> {
    let rows = rows.without(k, blend.classes);
    let mut means = blend.means();
    blend.add(&rows, &mut means);
    let reference = Fuser::new(blend, &means);
    let fuser = match method {
        Method::Reference => reference,
        Method::Aligned => calculator.align(&reference, &rows, known.ranges()),
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

/// Means of the calibrated scores over the target, and the accounts on which teachers are aligned: those with the
/// smallest hashes of their ids.
fn look(run: &Run, scored: &Scored, blend: &Blend) -> Result<(ExactMeans, Sample)> {
    let limit = (MOST_ROWS as f64 * 1.2 / scored.rows as f64 * u64::MAX as f64) as u64;
    let add = |scores: &Scores, (means, sample): &mut (ExactMeans, Sample)| {
        blend.add(&scores.columns, means);
        for (row, hash) in ids::hashes(scores.id)?.into_iter().enumerate().filter(|(_, h)| *h <= limit) {
            sample.add(hash, &scores.columns, row);
        }
        Ok(())
    };
    over_scores(run, scored, || (blend.means(), Sample::default()), add)
}
