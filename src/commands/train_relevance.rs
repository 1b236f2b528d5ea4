//! `coldstart relevance train`: the relevance calculator as a file of its own, before the target exists.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::store::Real;
use crate::lake::store::files::write_json;
use crate::process::log::Log;
use crate::process::memory;
use crate::relevance::findings::{DropOne, Findings, Published, Seen};
use crate::relevance::training::calculator::Calculator;
use crate::sources::inputs::{Panel, load_teachers};
use crate::sources::pooled;
use crate::sources::training::{profile_histories, repeats, train};
use crate::teacher::encode::Plan;
use crate::teacher::features::named_features;

/// `coldstart relevance train`: trains on the bundles that the pipeline names and writes the file. The target
/// need not exist. Returns what it did.
pub fn command(pipeline: &Pipeline, out: &Path, log: &Log) -> Result<Value> {
    let teachers = load_teachers(pipeline)?;
    let features = named_features(&teachers)?;
    let mut plan = Plan::default();
    let encoders = teachers.iter().map(|t| plan.add(&t.bundle, &features)).collect::<Result<Vec<_>>>()?;
    let panel =
        Panel { pipeline, log, teachers: &teachers, features: &features, plan: &plan, encoders: &encoders };
    let everyone: Vec<usize> = (0..teachers.len()).collect();
    let profiles = profile_histories(panel, &everyone)?;
    memory::give_back();
    let pooled = pooled::fit(panel, &everyone, &profiles)?;
    let (mut calculator, differences) = train(panel, &everyone, profiles, pooled)?;
    let copies = differences.copies();
    let active: Vec<usize> = everyone.iter().copied().filter(|k| copies[*k].is_none()).collect();
    if active.len() < 2 {
        return Err(Error::data("fewer than two different teachers are left: all give the same scores")
            .hint("name teachers of different scenarios"));
    }
    if active.len() < everyone.len() {
        let profiles = profile_histories(panel, &active)?;
        let pooled = pooled::fit(panel, &active, &profiles)?;
        (calculator, _) = train(panel, &active, profiles, pooled)?;
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

/// The result line.
fn told(calculator: &Calculator, out: &Path) -> Value {
    let seen = Seen {
        accounts: 0,
        confidence: 0.0,
        entropy: 0.0,
        rivals_differ: [0.0; 3],
        diversity: Default::default(),
    };
    let none: Vec<DropOne> = Vec::new();
    let findings = Findings::new(
        Published::Aligned,
        "none",
        calculator.trained,
        false,
        seen,
        none,
        &calculator.rehearsed(),
    );
    json!({
        "status": "trained",
        "calculator": out.display().to_string(),
        "teachers": calculator.teachers.iter().map(|t| &t.name).collect::<Vec<_>>(),
        "repeats": calculator.repeats.iter().map(|r| &r.name).collect::<Vec<_>>(),
        "features": calculator.profiles.features.len(),
        "trained": calculator.trained,
        "theta": calculator.theta,
        "theta_aligned": calculator.theta_aligned,
        "pooled_share": calculator.pooled.as_ref().map(|p| p.share),
        "rehearsals": findings.rehearsals,
        "log_loss_against_uniform": {"js": findings.js, "gate": findings.gate, "default": findings.default, "aligned": findings.aligned},
    })
}
