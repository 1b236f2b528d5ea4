//! `coldstart check`: what a run would do, without writing. A few accounts are scored with every teacher: what a
//! run would refuse after it has read everything is refused now, with the same words.

use serde_json::{Value, json};

use crate::commands::survey::survey;
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::lake::store::mount;
use crate::sources::inputs::{self, Inputs};
use crate::sources::{history, trial};

/// Accounts that are scored.
const ACCOUNTS: usize = 64;

/// Opens and checks every input: what was found, and the refusal where features do not fit the target.
pub fn check(pipeline: &Pipeline) -> Result<(Value, Option<Error>)> {
    let output = pipeline.output_path();
    let tables = pipeline.tables();
    tables.check_names(pipeline.class_folders())?;
    let accounts = inputs::open_accounts(pipeline)?;
    let loaded = inputs::load_teachers(pipeline)?;
    let (features, refused) = survey(pipeline, &accounts, &loaded)?;
    let teachers: Vec<Value> = loaded
        .iter()
        .zip(&features)
        .map(|(t, features)| {
            json!({
                "name": t.name(),
                "format": t.bundle.model.format,
                "training_rows": t.bundle.training.rows,
                "history": t.bundle.history_path().is_some(),
                "notes": t.notes,
                "features": features,
            })
        })
        .collect();
    let mut found = json!({
        "status": if refused.is_some() { "refused" } else { "ok" },
        "pipeline": pipeline.name,
        "accounts": accounts.stored_rows(),
        "files": accounts.files().count(),
        "teachers": teachers,
    });
    if refused.is_some() {
        return Ok((found, refused));
    }
    drop((accounts, loaded));
    let inputs = Inputs::open(pipeline)?;
    tables.check_id(inputs.accounts.field(&pipeline.target.id)?)?;
    let scored = score(pipeline, &inputs)?;
    let absent = inputs.features.iter().filter(|f| !f.present).map(|f| &f.name).collect::<Vec<_>>();
    found["features"] = json!(inputs.features.len());
    found["absent_features"] = json!(absent);
    found["ignored_label_columns"] = json!(inputs.ignored);
    found["scored"] = json!(scored);
    found["pooled"] = json!(
        pipeline.wants_pooled()
            && inputs.teachers.iter().filter(|t| t.bundle.history_path().is_some()).count() > 1
    );
    found["output"] = json!(tables.output.to_string());
    found["output_file_system"] = json!(mount::file_system(&output));
    Ok((found, None))
}

/// Opens every history and reads its labels, and scores a few accounts with every teacher; how many.
fn score(pipeline: &Pipeline, inputs: &Inputs) -> Result<usize> {
    let all = |block: &Block| {
        let mut pairs = inputs.teachers.iter().zip(&inputs.encoders);
        pairs.try_for_each(|(t, encoder)| trial::scores(t, &inputs.plan, encoder, block).map(|_| ()))
    };
    let batch = trial::sample(&inputs.accounts, &inputs.present(), ACCOUNTS)?;
    let block = batch.map(|batch| trial::decode(&inputs.accounts, &batch, &inputs.features)).transpose()?;
    block.iter().try_for_each(all)?;
    for teacher in &inputs.teachers {
        if let Some(history) = history::open(teacher, &inputs.features, pipeline.target.non_finite)? {
            history.labels(teacher, pipeline)?;
        }
    }
    Ok(block.map_or(0, |b| b.rows))
}
