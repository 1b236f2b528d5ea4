//! What the user knows of the target's base rate, as constants that step 3 adds to every soft label.

use std::path::Path;

use arrow::array::{Array, AsArray};
use hashbrown::HashMap;
use serde_json::json;

use super::relevance::{Scores, over_scores};
use super::score::Scored;
use super::{fuse, part_name};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::accounts::{Accounts, read_all};
use crate::lake::{ids, part};
use crate::relevance::base_rate::{ALIGNED_LABEL_RIDGE, LABEL_RIDGE, LEAST_LABELS, ShareRange, ShareShift, shift_to_labels, wanted_shares};
use crate::relevance::fuse::Fuser;
use crate::relevance::sum::ExactMeans;
use crate::run::job::Run;

/// The class shares that the user named; none if no class was.
pub fn ranges(pipeline: &Pipeline) -> Result<Vec<ShareRange>> {
    let place =
        |class: &String| pipeline.classes.iter().position(|c| c == class).ok_or_else(|| Error::bug("an unknown class").value(class));
    let range = |(class, share): (&String, &crate::config::Share)| {
        let (low, high) = share.range();
        Ok(ShareRange { class: place(class)?, low, high })
    };
    pipeline.target.class_shares.iter().flatten().map(range).collect()
}

/// Constants `[C]` from what the user knows of the target, and what that was: known shares win over labels.
pub fn constants(run: &Run, scored: &Scored, fuser: &Fuser, ranges: &[ShareRange]) -> Result<(&'static str, Vec<f64>)> {
    if !ranges.is_empty() {
        return Ok(("class_shares", shift_to_shares(run, scored, fuser, ranges)?));
    }
    let none = vec![0.0; run.pipeline.classes.len()];
    let Some(file) = &run.pipeline.target.labels else { return Ok(("none", none)) };
    let labels = read_labels(run.pipeline, &run.pipeline.resolve(file))?;
    if labels.len() < LEAST_LABELS {
        too_few(run, labels.len());
        return Ok(("none", none));
    }
    Ok(("labels", shift_labelled(run, scored, fuser, labels)?))
}

fn too_few(run: &Run, labels: usize) {
    run.log.warn(
        "relevance",
        "too few labelled accounts of the target to move the base rate",
        json!({"labels": labels, "needed": LEAST_LABELS}),
    );
}

fn shift_to_shares(run: &Run, scored: &Scored, fuser: &Fuser, ranges: &[ShareRange]) -> Result<Vec<f64>> {
    let classes = run.pipeline.classes.len();
    let mean = over_scores(
        run,
        scored,
        || ExactMeans::new(classes),
        |scores, rows, means: &mut ExactMeans| {
            fuse::each_row(fuser, scores, rows, |_, fused| means.add(&fused.label));
            Ok(())
        },
    )?;
    let mean = mean.into_iter().fold(ExactMeans::new(classes), |mut all, part| {
        all.merge(&part);
        all
    });
    let mut shift = ShareShift::new(wanted_shares(&mean.means(), ranges));
    while !shift.done() {
        let parts = over_scores(
            run,
            scored,
            || shift.sums(),
            |scores, rows, sums| {
                fuse::each_row(fuser, scores, rows, |_, fused| sums.add(&fused.z));
                Ok(())
            },
        )?;
        let mut sums = shift.sums();
        parts.iter().for_each(|p| sums.merge(p));
        shift.update(&sums);
    }
    Ok(shift.constants().to_vec())
}

/// The class of each labelled account, by the text of its id.
pub fn read_labels(pipeline: &Pipeline, path: &Path) -> Result<HashMap<String, u16>> {
    let id = &pipeline.target.id;
    let table = Accounts::open(path)?;
    for column in [id.as_str(), "label"] {
        table.field(column)?;
    }
    let batch = read_all(&table, &[id.clone(), "label".to_string()])?;
    let text = ids::as_text(batch.column(0)).map_err(|e| e.file(path).column(id))?;
    let label = ids::as_text(batch.column(1)).map_err(|e| e.file(path).column("label"))?;
    let (text, label) = (text.as_string::<i64>(), label.as_string::<i64>());
    let mut out = HashMap::new();
    for row in 0..text.len() {
        let refuse = |what: &str, column: &str, value: &str| Error::data(what).file(path).column(column).value(value);
        if text.is_null(row) || label.is_null(row) {
            return Err(refuse("a labelled account without id or label", id, "null"));
        }
        let class = pipeline.classes.iter().position(|c| c == label.value(row));
        let class = class.ok_or_else(|| refuse("a label is none of the classes", "label", label.value(row)))?;
        if out.insert(text.value(row).to_string(), class as u16).is_some() {
            return Err(refuse("an account is labelled twice", id, text.value(row)));
        }
    }
    Ok(out)
}

fn shift_labelled(run: &Run, scored: &Scored, fuser: &Fuser, mut labels: HashMap<String, u16>) -> Result<Vec<f64>> {
    let folder = run.directory.stage("score").join("scores");
    // Sorted by id, so that the order of the target's rows does not reach the sums.
    let mut found: Vec<(String, u16, Vec<f64>)> = Vec::new();
    for unit in 0..scored.units {
        part::read(&folder.join(part_name(unit, None)), |batch| {
            let text = ids::as_text(batch.column(0))?;
            let text = text.as_string::<i64>();
            let scores = Scores::of(&batch, scored.active.len(), run.pipeline.classes.len())?;
            let (mut raw, mut s, mut fused) = (Vec::new(), Vec::new(), fuser.room());
            for i in 0..batch.num_rows() {
                if let Some(class) = labels.remove(text.value(i)) {
                    scores.row(i, &mut raw, &mut s);
                    fuser.row(&raw, &s, &mut fused);
                    found.push((text.value(i).to_string(), class, fused.z.clone()));
                }
            }
            Ok(())
        })?;
    }
    if !labels.is_empty() {
        run.log.warn("relevance", "labelled accounts that are not in the target", json!({"accounts": labels.len()}));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let z: Vec<f64> = found.iter().flat_map(|(_, _, z)| z.clone()).collect();
    let classes: Vec<u16> = found.iter().map(|(_, c, _)| *c).collect();
    if classes.len() < LEAST_LABELS {
        too_few(run, classes.len());
        return Ok(vec![0.0; run.pipeline.classes.len()]);
    }
    let ridge = if fuser.alignment().is_some() { ALIGNED_LABEL_RIDGE } else { LABEL_RIDGE };
    shift_to_labels(&z, &classes, run.pipeline.classes.len(), ridge)
}
