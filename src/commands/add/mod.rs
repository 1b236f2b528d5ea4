//! `coldstart teacher add`: a bundle from what a model file and a labelled history say. What neither says is asked
//! for by the flag that says it; the bundle proves itself by scoring rows of the history.

mod classes;
mod draft;
mod features;
mod history;
mod proof;
mod request;
mod write;

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::add::classes::Order;
use crate::commands::add::draft::Draft;
use crate::commands::add::history::History;
use crate::commands::add::proof::Proof;
pub use crate::commands::add::request::Request;
use crate::commands::add::request::ask;
use crate::commands::add::write::Folder;
use crate::error::{Error, Result};
use crate::teacher::Teacher;
use crate::teacher::bundle::{self, Bundle, ModelFile, Training};

/// Writes the bundle; what was found out, for the result line.
pub fn add(request: &Request) -> Result<Value> {
    let name = name(request)?;
    let history = History::open(request)?;
    let draft = Draft::read(request)?;
    let mut notes = draft.said.notes.clone();
    let features = features::features(&draft, history.as_ref(), request, &mut notes)?;
    let classes = classes::order(&draft, history.as_ref(), request)?;
    let training =
        Training { rows: training_rows(&draft, history.as_ref(), request)?, until: request.until.clone() };
    let folder = Folder::create(request)?;
    let mut bundle = Bundle {
        name,
        scenario: request.scenario.clone().unwrap_or_default(),
        model: ModelFile {
            missing: request.missing,
            ..ModelFile::new(&draft.file, draft.format, classes.names.clone())
        },
        history: history.as_ref().map(|h| bundle::History {
            accounts: Some(write::HISTORY.to_string()),
            label: Some(h.label.clone()),
            held_out: request.held_out.clone(),
            profile: None,
        }),
        training,
        features,
        folder: folder.path().to_path_buf(),
        order: None,
        producer: String::new(),
        outside: Vec::new(),
    };
    folder.fill(&draft, history.as_ref(), &bundle)?;
    let proof = prove(&folder, &mut bundle, history.as_ref(), &classes, &mut notes)
        .map_err(|e| about(e, folder.path(), request))?;
    folder.publish(&request.out)?;
    Ok(json!({
        "status": "added",
        "bundle": request.out.display().to_string(),
        "name": bundle.name,
        "format": bundle.model.format,
        "classes": bundle.model.classes,
        "features": bundle.features.iter().map(|f| &f.name).collect::<Vec<_>>(),
        "training_rows": bundle.training.rows,
        "proof": proof,
        "notes": notes,
    }))
}

/// An error of a file in the folder that is being made, which is gone, names the model file.
fn about(error: Error, made: &Path, request: &Request) -> Error {
    let (made, model) = (made.display().to_string(), request.model.display().to_string());
    let place = |name: &str, value: &String| name == "file" && value.starts_with(&made);
    let details =
        error.context().iter().map(|(name, value)| (*name, if place(name, value) { &model } else { value }));
    details.fold(Error::new(error.kind(), error.message()), |e, (name, value)| e.with(name, value))
}

/// Scores rows of the history; an order of the classes that nobody said is the one that goes with its labels.
fn prove(
    folder: &Folder,
    bundle: &mut Bundle,
    history: Option<&History>,
    order: &Order,
    notes: &mut Vec<String>,
) -> Result<Value> {
    if let Some(history) = history {
        let teacher = Teacher::alone(folder.path())?;
        let names = teacher.bundle.model.classes.clone();
        bundle.model.classes = Proof::score(teacher, history)?.settle(&names, order)?;
        if !order.is_known {
            let names = bundle.model.classes.join(", ");
            notes.push(format!("the classes are in the order that goes with the labels: {names}"));
        }
        folder.describe(bundle)?;
    }
    let teacher = Teacher::alone(folder.path())?;
    let said = |note: &&String| !notes.contains(note);
    let new: Vec<String> = teacher.notes.iter().filter(said).cloned().collect();
    notes.extend(new);
    match history {
        None => Ok(Value::Null),
        Some(history) => Ok(Proof::score(teacher, history)?.measures(notes)),
    }
}

/// The teacher's name: as typed, or made of the folder's.
fn name(request: &Request) -> Result<String> {
    let folder = request.out.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '_' };
    let name = request.name.clone().unwrap_or_else(|| folder.chars().map(plain).collect());
    match name.chars().any(|c| c.is_ascii_alphanumeric()) {
        true => Ok(name),
        false => Err(ask("the folder's name makes no name of a teacher", "--name", "--name april")),
    }
}

/// Rows that trained the model: as typed, as the file says, or those of the history that were not held out.
fn training_rows(draft: &Draft, history: Option<&History>, request: &Request) -> Result<u64> {
    let of_history = || Some(history?.training_rows);
    request.rows.or(draft.said.rows).or_else(of_history).ok_or_else(|| {
        ask(
            "the model file does not say how many labelled rows trained it",
            "--rows",
            "--rows 12000; or its labelled rows, which are counted: --history FILE --label COLUMN",
        )
    })
}
