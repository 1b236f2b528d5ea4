//! `coldstart check`: what a run would do, without scoring and without writing.

use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::Result;
use crate::lake::publish;
use crate::lake::store::mount;
use crate::sources::inputs::Inputs;

/// Opens and checks every input.
pub fn check(pipeline: &Pipeline) -> Result<Value> {
    let output = pipeline.output_path();
    publish::check_names(&output, pipeline.class_folders())?;
    let inputs = Inputs::open(pipeline)?;
    let teachers: Vec<Value> = inputs
        .teachers
        .iter()
        .map(|t| json!({"name": t.name(), "format": t.bundle.model.format, "training_rows": t.bundle.training.rows, "history": t.bundle.history_path().is_some()}))
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
        "output": output.display().to_string(),
        "output_file_system": mount::file_system(&output),
    }))
}
