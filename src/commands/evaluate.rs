//! `coldstart evaluate`: when labels arrive, how right the published tables were, beside what they said of
//! themselves.

use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use hashbrown::HashMap;
use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::drift::sketches::reliability;
use crate::error::{Error, Kind, Result};
use crate::job::remote;
use crate::lake::part;
use crate::lake::scan::ids;
use crate::lake::store::Real;
use crate::lake::store::files::write_json;
use crate::relevance::maths::probability::argmax;
use crate::report::{self, EVALUATION};
use crate::run::directory::{Directory, PUBLISHED};
use crate::sources::labels::read_labels;
use crate::stages::relevance::domain_classifier::roc_auc;

/// Probabilities at least this are taken into a logarithm.
const LEAST: f64 = 1e-6;

/// Labelled accounts of one table: class and probabilities `[C]` of each.
type Judged = Vec<Account>;
type Account = (u16, Vec<f64>);

/// Measures both tables of a date on the accounts that the file labels (id column and `label`). No published
/// partition: 66.
pub fn evaluate(pipeline: &Pipeline, date: &str, labels: &Path) -> Result<Value> {
    let tables = pipeline.tables();
    let parts = tables.parts("soft_labels", date)?;
    let place = tables.shown("soft_labels", date);
    let part = parts.first().ok_or_else(|| {
        Error::new(Kind::Missing, "nothing was published for this date").file(place.shown())
    })?;
    let labels = read_labels(pipeline, labels, &part::data_type(part, &pipeline.target.id)?)?;
    let mut out =
        json!({"status": "evaluated", "pipeline": pipeline.name, "date": date, "labels": labels.len()});
    for table in ["classification", "soft_labels"] {
        let judged = join(pipeline, &tables.parts(table, date)?, &labels)?;
        if judged.is_empty() {
            let place = tables.shown(table, date);
            return Err(Error::data("no labelled account is in the published table").file(place.shown()));
        }
        out[table] = measures(&judged, &pipeline.classes);
    }
    keep(pipeline, date, &mut out)?;
    Ok(out)
}

/// Keeps the measures in the run directory and makes its page anew, on which they stand beside what was said without labels.
fn keep(pipeline: &Pipeline, date: &str, out: &mut Value) -> Result<()> {
    remote::fetch_record(pipeline, date, &Real)?;
    let root = Directory::place(&pipeline.output_path(), &pipeline.name, date);
    if !root.join(PUBLISHED).exists() {
        return Ok(()); // another pipeline published the tables
    }
    write_json(&Real, &root.join(EVALUATION), out)?;
    remote::keep_file(pipeline, date, EVALUATION)?;
    out["report"] = json!(report::write(&Real, pipeline, date, None)?.display().to_string());
    Ok(())
}

fn join(pipeline: &Pipeline, parts: &[PathBuf], labels: &HashMap<String, u16>) -> Result<Judged> {
    let mut out = Vec::new();
    for file in parts {
        part::read(file, |batch| {
            let id = batch.column_by_name(&pipeline.target.id);
            let id = ids::as_text(id.ok_or_else(|| {
                Error::data("the id column is missing").file(file).column(&pipeline.target.id)
            })?)?;
            let p = pipeline
                .classes
                .iter()
                .map(|c| part::floats(&batch, &format!("p_{c}")))
                .collect::<Result<Vec<_>>>()?;
            for (i, id) in id.as_string::<i64>().iter().enumerate() {
                if let Some(class) = id.and_then(|id| labels.get(id)) {
                    out.push((*class, p.iter().map(|p| p[i]).collect()));
                }
            }
            Ok(())
        })?;
    }
    // In an order that does not depend on the files'.
    out.sort_by(|a: &Account, b| {
        a.0.cmp(&b.0).then_with(|| a.1.iter().map(|p| p.to_bits()).cmp(b.1.iter().map(|p| p.to_bits())))
    });
    Ok(out)
}

fn measures(judged: &Judged, classes: &[String]) -> Value {
    let n = judged.len() as f64;
    let mean = |of: &dyn Fn(&Account) -> f64| judged.iter().map(of).sum::<f64>() / n;
    let by_class: serde_json::Map<String, Value> = classes
        .iter()
        .enumerate()
        .map(|(c, name)| {
            let side = |wanted: bool| -> Vec<f64> {
                judged.iter().filter(|(y, _)| (usize::from(*y) == c) == wanted).map(|(_, p)| p[c]).collect()
            };
            let hit = |wanted: &dyn Fn(usize, usize) -> bool| {
                judged.iter().filter(|(y, p)| wanted(usize::from(*y), argmax(p))).count()
            };
            let of = json!({
                "labelled": side(true).len(),
                "share": mean(&|(y, _)| f64::from(u8::from(usize::from(*y) == c))),
                "mean_probability": mean(&|(_, p)| p[c]),
                "classified": hit(&|_, said| said == c),
                "right": hit(&|is, said| is == c && said == c),
                "auc": roc_auc(&side(false), &side(true)),
            });
            (name.clone(), of)
        })
        .collect();
    let rows: Vec<u16> = judged.iter().map(|(y, _)| *y).collect();
    let p: Vec<f64> = judged.iter().flat_map(|(_, p)| p).copied().collect();
    json!({
        "accounts": judged.len(),
        "accuracy": mean(&|(y, p)| f64::from(u8::from(argmax(p) == usize::from(*y)))),
        "estimated_accuracy": mean(&|(_, p)| p[argmax(p)]),
        "log_loss": mean(&|(y, p)| -p[usize::from(*y)].max(LEAST).ln()),
        "reliability": reliability([(rows.as_slice(), p.as_slice())].into_iter(), classes.len()),
        "classes": by_class,
    })
}
