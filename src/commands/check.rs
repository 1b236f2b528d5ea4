//! `coldstart check`: what a run would do, without writing. A few accounts are scored with every teacher: what a
//! run would refuse after it has read everything is refused now, with the same words.

use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::Result;
use crate::features::block::Block;
use crate::lake::store::mount;
use crate::sources::inputs::Inputs;
use crate::sources::{history, trial};

/// Accounts that are scored.
const ACCOUNTS: usize = 64;

/// Opens and checks every input.
pub fn check(pipeline: &Pipeline) -> Result<Value> {
    let output = pipeline.output_path();
    let tables = pipeline.tables();
    tables.check_names(pipeline.class_folders())?;
    let inputs = Inputs::open(pipeline)?;
    tables.check_id(inputs.accounts.field(&pipeline.target.id)?)?;
    let scored = score(pipeline, &inputs)?;
    let teachers: Vec<Value> = inputs
        .teachers
        .iter()
        .map(|t| json!({"name": t.name(), "format": t.bundle.model.format, "training_rows": t.bundle.training.rows, "history": t.bundle.history_path().is_some(), "notes": t.notes}))
        .collect();
    Ok(json!({
        "status": "ok",
        "pipeline": pipeline.name,
        "accounts": inputs.accounts.stored_rows(),
        "files": inputs.accounts.files().count(),
        "features": inputs.features.len(),
        "absent_features": inputs.features.iter().filter(|f| !f.present).map(|f| &f.name).collect::<Vec<_>>(),
        "ignored_label_columns": inputs.ignored,
        "teachers": teachers,
        "scored": scored,
        "output": tables.output.to_string(),
        "output_file_system": mount::file_system(&output),
    }))
}

/// Opens every history, and scores a few accounts with every teacher; how many.
fn score(pipeline: &Pipeline, inputs: &Inputs) -> Result<usize> {
    let all = |block: &Block| {
        let mut pairs = inputs.teachers.iter().zip(&inputs.encoders);
        pairs.try_for_each(|(t, encoder)| trial::scores(t, &inputs.plan, encoder, block).map(|_| ()))
    };
    let batch = trial::sample(&inputs.accounts, &inputs.present(), ACCOUNTS)?;
    let block = batch.map(|batch| trial::decode(&inputs.accounts, &batch, &inputs.features)).transpose()?;
    block.iter().try_for_each(all)?;
    for teacher in &inputs.teachers {
        history::open(teacher, &inputs.features, pipeline.target.non_finite)?;
    }
    Ok(block.map_or(0, |b| b.rows))
}
