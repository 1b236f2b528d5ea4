//! The student as a bundle: what the fit stage leaves for those who serve it, and for the pipelines in which it will
//! teach.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::features::block::{Block, Feature};
use crate::features::coded::CodedFeature;
use crate::features::column::{Column, Kind, NULL};
use crate::lake::store::files::{create_dir, write_atomic, write_json};
use crate::run::context::Run;
use crate::stages::artifacts::{Fit, Profile, WEIGHTS, Weights};
use crate::student::export::{Input, to_onnx};
use crate::student::{Student, to_json};
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec, Format, ModelFile, Training, read_limited};
use crate::teacher::encode::Plan;
use crate::teacher::onnx::Onnx;

/// Accounts on which the ONNX model is compared with the student.
const COMPARED: usize = 2000;
/// Largest difference of a probability that float32 outputs explain.
const TOLERANCE: f64 = 1e-6;

/// Writes `teacher.toml`, `model.json`, `model.onnx`, `fidelity.json` and the model card; `held_out` are the
/// columns of accounts for the comparison.
pub fn write(
    run: &Run,
    folder: &Path,
    student: &dyn Student,
    profile: &Profile,
    fit: &Fit,
    held_out: &[Vec<f32>],
) -> Result<()> {
    let store = run.directory.store;
    create_dir(store, folder)?;
    let bundle = bundle(run, folder, &profile.student, fit, Format::Coldstart);
    let text = toml::to_string(&bundle)
        .map_err(|e| Error::bug(format!("the student's bundle cannot be written: {e}")))?;
    write_atomic(store, &folder.join("teacher.toml"), text.as_bytes())?;
    write_atomic(store, &folder.join("model.json"), to_json(student)?.as_bytes())?;
    let inputs: Vec<Input> =
        profile.student.iter().map(|f| Input { name: &f.name, levels: &f.levels }).collect();
    write_atomic(store, &folder.join("model.onnx"), &to_onnx(student, &inputs)?)?;
    let verified = verify_onnx(run, folder, student, profile, fit, held_out)?;
    write_json(store, &folder.join("fidelity.json"), fit)?;
    let card = card(run, &profile.student, fit, verified, &WEIGHTS.load(run.directory)?);
    write_atomic(store, &folder.join("card.md"), markdown(&card)?.as_bytes())?;
    write_json(store, &folder.join("card.json"), &card)
}

fn bundle(run: &Run, folder: &Path, features: &[CodedFeature], fit: &Fit, format: Format) -> Bundle {
    let (file, category) = match format {
        Format::Onnx => ("model.onnx", Encode::Text),
        _ => ("model.json", Encode::Code),
    };
    let spec = |f: &CodedFeature| FeatureSpec {
        name: f.name.clone(),
        kind: f.kind,
        encode: (f.kind == Kind::Category).then_some(category),
        values: f.levels.clone(),
        missing: None,
        input: None,
    };
    Bundle {
        name: run.pipeline.name.clone(),
        scenario: format!("{}, distilled from {} teachers", run.pipeline.name, run.inputs.teachers.len()),
        model: ModelFile::new(file, format, run.pipeline.classes.clone()),
        history: None,
        training: Training { rows: fit.rows as u64, until: Some(run.date.to_string()) },
        features: features.iter().map(spec).collect(),
        folder: folder.to_path_buf(),
        order: None,
        producer: String::new(),
        outside: Vec::new(),
    }
}

/// Scores accounts through ONNX Runtime and compares; false where the runtime is not installed.
fn verify_onnx(
    run: &Run,
    folder: &Path,
    student: &dyn Student,
    profile: &Profile,
    fit: &Fit,
    held_out: &[Vec<f32>],
) -> Result<bool> {
    let bundle = bundle(run, folder, &profile.student, fit, Format::Onnx);
    let onnx = match Onnx::open(read_limited(&bundle.model_path())?, &bundle) {
        Err(e) if e.kind() == ErrorKind::Missing => {
            run.log.info("fit", "model.onnx was not verified: ONNX Runtime is not installed", json!({}));
            return Ok(false);
        }
        loaded => loaded?,
    };
    let rows = held_out.first().map_or(0, Vec::len).min(COMPARED);
    let columns: Vec<&[f32]> = held_out.iter().map(|c| &c[..rows]).collect();
    let features: Vec<Feature> = profile
        .student
        .iter()
        .map(|f| Feature { name: f.name.clone(), kind: f.kind, present: true })
        .collect();
    let block =
        Block { rows, columns: profile.student.iter().zip(&columns).map(|(f, c)| decoded(f, c)).collect() };
    let mut plan = Plan::default();
    let encoder = plan.add(&bundle, &features)?;
    let (mut ours, mut theirs) = (vec![0.0; rows * student.classes()], vec![0.0; rows * student.classes()]);
    student.predict(&columns, &mut ours);
    onnx.predict(&encoder, &block, &plan.encode(&block), &mut theirs)?;
    let gap = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    match gap <= TOLERANCE {
        true => Ok(true),
        false => Err(Error::bug("model.onnx does not say what the student says").value(gap)),
    }
}

/// The student's float32 column as an account's column.
fn decoded(feature: &CodedFeature, values: &[f32]) -> Column {
    match feature.kind {
        Kind::Number => Column::Number(values.iter().map(|v| f64::from(*v)).collect()),
        Kind::Category => {
            let codes = values.iter().map(|v| if v.is_nan() { NULL } else { *v as u32 }).collect();
            Column::Category { codes, levels: feature.levels.clone() }
        }
    }
}

fn card(run: &Run, features: &[CodedFeature], fit: &Fit, verified: bool, weights: &Weights) -> Value {
    let teachers: Vec<Value> = weights
        .teachers
        .iter()
        .zip(&weights.weights)
        .map(|(name, weight)| {
            let scenario = run
                .inputs
                .teachers
                .iter()
                .find(|t| t.name() == name)
                .map_or("", |t| t.bundle.scenario.as_str());
            json!({"name": name, "scenario": scenario, "mean_weight": weight})
        })
        .collect();
    json!({
        "name": run.pipeline.name,
        "classes": run.pipeline.classes,
        "family": fit.family,
        "date": run.date,
        "run": run.key,
        "distilled_from": teachers,
        "training": {"accounts": fit.rows, "held_out": fit.held_out_rows, "features": features.iter().map(|f| &f.name).collect::<Vec<_>>()},
        "fidelity": fit.fidelity,
        "passed_gate": fit.passed,
        "onnx_verified": verified,
        "not_known": [
            "Fidelity says how well the student keeps the soft labels, not how right they are: no account of this scenario was labelled.",
            "If the meaning of a feature for the class has changed against every teacher's scenario, no number here shows it.",
            "Accounts unlike those it was fitted to get a class all the same; look at `support` in soft_labels.",
        ],
    })
}

/// The card for people.
fn markdown(card: &Value) -> Result<String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let mut out = String::new();
    let mut build = || -> std::fmt::Result {
        writeln!(out, "# Student of {}\n", text(&card["name"]))?;
        writeln!(
            out,
            "A {} model for the classes {}, made on {} (run {}).\n",
            text(&card["family"]),
            card["classes"],
            text(&card["date"]),
            text(&card["run"])
        )?;
        writeln!(out, "## Distilled from\n\n| teacher | scenario | mean weight |\n|---|---|---|")?;
        for teacher in card["distilled_from"].as_array().into_iter().flatten() {
            writeln!(
                out,
                "| {} | {} | {:.3} |",
                text(&teacher["name"]),
                text(&teacher["scenario"]),
                teacher["mean_weight"].as_f64().unwrap_or(0.0)
            )?;
        }
        writeln!(
            out,
            "\n{} accounts, {} of them held out.\n",
            card["training"]["accounts"], card["training"]["held_out"]
        )?;
        writeln!(out, "## Fidelity on held-out accounts\n\n| measure | value |\n|---|---|")?;
        for (name, value) in card["fidelity"].as_object().into_iter().flatten() {
            writeln!(out, "| {name} | {:.4} |", value.as_f64().unwrap_or(f64::NAN))?;
        }
        writeln!(
            out,
            "\nGate passed: {}. model.onnx verified through ONNX Runtime: {}.\n",
            card["passed_gate"], card["onnx_verified"]
        )?;
        writeln!(out, "## What is not known\n")?;
        card["not_known"]
            .as_array()
            .into_iter()
            .flatten()
            .try_for_each(|line| writeln!(out, "- {}", text(line)))
    };
    build().map_err(|e| Error::bug(e.to_string()))?;
    Ok(out)
}
