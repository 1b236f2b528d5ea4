//! The relevance calculator, trained on the teachers' bundles: on request before any target exists, or in passing by step 3.
//!
//! In: the bundles alone, or with the profiles that a target gave. Every teacher scores every history; the features of a history are read in blocks, a few columns
//! at a time where they are profiled, so that memory holds no history.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::histories::{self, History};
use super::score::{profiled, support_of};
use super::sketch_labels::model_digest;
use super::{calculator_file, shared, sketch_file};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::store::Real;
use crate::relevance::calculator::{Calculator, Repeat};
use crate::relevance::duplicates::Differences;
use crate::relevance::findings::{DropOne, Findings, Published, Seen};
use crate::relevance::profiles::{FeatureProfile, Profiles, Summary};
use crate::relevance::support::Support;
use crate::relevance::world::{self, World, pseudo_rows};
use crate::run::directory::write_json;
use crate::run::events::Log;
use crate::run::inputs::{Panel, load_teachers};
use crate::run::{cancel, memory};
use crate::teacher::encode::{Feature, Plan};
use crate::teacher::{Teacher, Workspace, named_features};

/// Features that are summarised at a time: a summary holds up to a megabyte.
pub const FEATURES_AT_ONCE: usize = 8;

/// `coldstart relevance train`: trains on the bundles that the pipeline names and writes the file. The target need not exist. Returns what it did.
pub fn command(pipeline: &Pipeline, out: &Path, log: &Log) -> Result<Value> {
    let teachers = load_teachers(pipeline)?;
    let features = named_features(&teachers)?;
    let mut plan = Plan::default();
    let encoders = teachers.iter().map(|t| plan.add(&t.bundle, &features)).collect::<Result<Vec<_>>>()?;
    let panel = Panel { pipeline, log, teachers: &teachers, features: &features, plan: &plan, encoders: &encoders };
    let everyone: Vec<usize> = (0..teachers.len()).collect();
    let profiles = profile_histories(panel, &everyone)?;
    memory::give_back();
    let (mut calculator, differences) = train(panel, &everyone, profiles)?;
    let copies = differences.copies();
    let active: Vec<usize> = everyone.iter().copied().filter(|k| copies[*k].is_none()).collect();
    if active.len() < 2 {
        return Err(Error::data("fewer than two different teachers are left: all give the same scores")
            .hint("name teachers of different scenarios"));
    }
    if active.len() < everyone.len() {
        (calculator, _) = train(panel, &active, profile_histories(panel, &active)?)?;
        calculator.repeats = repeats(&teachers, &copies)?;
        for repeat in &calculator.repeats {
            log.warn(
                "train",
                "a teacher says the same as an earlier one and is left out",
                json!({"teacher": repeat.name, "same as": repeat.same_as}),
            );
        }
    }
    if !calculator.trained {
        log.warn(
            "train",
            "the calculator could not be trained: it takes three teachers and labelled histories",
            json!({"teachers": active.len()}),
        );
    }
    write_json(&Real, out, &calculator)?;
    Ok(told(&calculator, out))
}

/// The teachers that repeat another, as a calculator keeps them.
pub fn repeats(teachers: &[Teacher], copies: &[Option<usize>]) -> Result<Vec<Repeat>> {
    let of = |(teacher, copy): (&Teacher, &Option<usize>)| {
        let original = teachers[(*copy)?].name().to_string();
        Some(calculator_file::member(teacher).map(|m| Repeat { name: m.name, digest: m.digest, same_as: original }))
    };
    teachers.iter().zip(copies).filter_map(of).collect()
}

/// The result line.
fn told(calculator: &Calculator, out: &Path) -> Value {
    let seen = Seen { accounts: 0, confidence: 0.0, entropy: 0.0, rivals_differ: [0.0; 3], diversity: Default::default() };
    let none: Vec<DropOne> = Vec::new();
    let findings = Findings::new(Published::Aligned, "none", calculator.trained, false, seen, none, &calculator.rehearsals);
    json!({
        "status": "trained",
        "calculator": out.display().to_string(),
        "teachers": calculator.teachers.iter().map(|t| &t.name).collect::<Vec<_>>(),
        "repeats": calculator.repeats.iter().map(|r| &r.name).collect::<Vec<_>>(),
        "features": calculator.profiles.features.len(),
        "trained": calculator.trained,
        "theta": calculator.theta,
        "theta_aligned": calculator.theta_aligned,
        "rehearsals": findings.rehearsals,
        "log_loss_against_uniform": {"js": findings.js, "gate": findings.gate, "default": findings.default, "aligned": findings.aligned},
    })
}

/// Profiles of the histories of the teachers in `active`, on bins of their own.
fn profile_histories(panel: Panel, active: &[usize]) -> Result<Profiles> {
    let mut profiles = Profiles { teachers: active.len(), ..Profiles::default() };
    for features in panel.features.chunks(FEATURES_AT_ONCE) {
        let (sources, summaries) = summaries(panel, active, features)?;
        profiles.sources = sources;
        let shared: Vec<FeatureProfile> = (0..features.len())
            .into_par_iter()
            .filter_map(|j| {
                let theirs: Vec<&Summary> = summaries.iter().filter_map(|h| h[j].as_ref()).collect();
                let held = !theirs.is_empty() && theirs.len() == summaries.len();
                held.then(|| FeatureProfile::new(&features[j].name, &theirs, None))
            })
            .collect::<Result<_>>()?;
        profiles.features.extend(shared);
    }
    Ok(profiles)
}

/// A summary of each feature of a history; none where it lacks the feature.
type Summaries = Vec<Option<Summary>>;

/// Which of the teachers in `active` have a history, and its summaries.
pub fn summaries(panel: Panel, active: &[usize], features: &[Feature]) -> Result<(Vec<usize>, Vec<Summaries>)> {
    let summarise = |k: &usize| -> Result<Option<Summaries>> {
        let teacher = &panel.teachers[*k];
        if let Some(path) = teacher.bundle.profile_path() {
            return Ok(Some(sketch_file::read(&path, features).map_err(|e| e.with("teacher", teacher.name()))?));
        }
        histories::open(teacher, features)?.map(|h| h.summaries(features)).transpose()
    };
    let all = active.par_iter().with_max_len(1).map(summarise).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().enumerate().filter_map(|(place, history)| history.map(|h| (place, h))).unzip())
}

/// Scores every history with every teacher in `active` and trains the calculator on them; also how different their scores are.
pub fn train(panel: Panel, active: &[usize], profiles: Profiles) -> Result<(Calculator, Differences)> {
    let support = Support::new(&profiles);
    let mut differences = Differences::new(active.len());
    let shared = active.iter().any(|k| panel.teachers[*k].bundle.profile_path().is_some());
    let models = active.iter().filter(|_| shared).map(|&k| model_digest(&panel.teachers[k])).collect::<Result<Vec<_>>>()?;
    // One history after the other: the pages of a wide one take a hundred megabytes while it is read. Its teachers score side by side.
    let worlds = active
        .iter()
        .enumerate()
        .map(|(place, &k)| {
            let teacher = &panel.teachers[k];
            let history = match histories::open(teacher, panel.features)? {
                Some(history) => {
                    Some(world::Known::Rows(history_of(panel, active, teacher, &history, &support, &profiles, &mut differences)?))
                }
                None => shared::tables(panel, active, &models, place)?.map(world::Known::Tables),
            };
            Ok(world::Teacher { name: teacher.name().to_string(), rows: teacher.bundle.training.rows, history })
        })
        .collect::<Result<Vec<_>>>()?;
    let members = active.par_iter().with_max_len(1).map(|&k| calculator_file::member(&panel.teachers[k])).collect::<Result<Vec<_>>>()?;
    let world = World::new(worlds, panel.pipeline.classes.len())?;
    Ok((Calculator::train(&world, profiles, members, panel.pipeline.classes.clone())?, differences))
}

fn history_of(
    panel: Panel,
    active: &[usize],
    teacher: &Teacher,
    history: &History,
    support: &Support,
    profiles: &Profiles,
    differences: &mut Differences,
) -> Result<world::History> {
    let (labels, held_out) = history.labels(teacher, panel.pipeline)?;
    let classes = panel.pipeline.classes.len();
    let mut scores = vec![Vec::with_capacity(history.rows() * classes); active.len()];
    let chosen = pseudo_rows(history.rows());
    let mut supports = Vec::with_capacity(chosen.len() * active.len());
    let places = profiled(profiles, panel.features)?;
    let mut work: Vec<Workspace> = active.iter().map(|_| Workspace::default()).collect();
    let mut first = 0;
    history.blocks(|block| {
        cancel::check()?;
        let matrix = panel.plan.encode(&block);
        let start = first * classes;
        active.par_iter().zip(&mut scores).zip(&mut work).with_max_len(1).try_for_each(|((&k, scores), work)| {
            scores.resize(start + block.rows * classes, 0.0);
            panel.teachers[k].score(&panel.encoders[k], &block, &matrix, work, &mut scores[start..])
        })?;
        differences.add(&scores.iter().map(|s| &s[start..]).collect::<Vec<_>>());
        let of_block: Vec<usize> = chosen.iter().filter(|row| (first..first + block.rows).contains(*row)).map(|row| row - first).collect();
        supports.extend(support_of(support, &places, &block.take(&of_block)));
        first += block.rows;
        Ok(())
    })?;
    Ok(world::History { labels, held_out, scores, support: supports })
}
