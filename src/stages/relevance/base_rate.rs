//! What the user knows of the target's base rate, as constants that are added to the logits of every soft label.

use arrow::array::AsArray;
use hashbrown::HashMap;
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::part;
use crate::lake::scan::ids;
use crate::relevance::fusion::base_rate::{
    self, LABEL_RIDGE, LEAST_LABELS, ShareRange, ShareShift, shift_beyond_chance, shift_to_labels,
    wanted_shares,
};
use crate::relevance::fusion::columns::Columns;
use crate::relevance::fusion::fuse::Fuser;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::real::of_row;
use crate::run::context::Run;
use crate::sources::labels::read_labels;
use crate::stages::artifacts::{SCORES, Scored};
use crate::stages::scores::{Row, Scores, over_scores, without};

/// What the user knows of the target's base rate, as far as it can be used: known shares win over labels.
pub enum Known {
    Nothing,
    Shares(Vec<ShareRange>),
    Labels(Vec<Labelled>),
}

/// A labelled account of the target.
pub struct Labelled {
    class: u16,
    /// Raw scores `[K, C]` and support `[K]`.
    scores: (Vec<f64>, Vec<f64>),
}

impl Known {
    /// Reads what the pipeline names.
    pub fn of(run: &Run, scored: &Scored) -> Result<Known> {
        let ranges = ranges(run.pipeline)?;
        if !ranges.is_empty() {
            return Ok(Known::Shares(ranges));
        }
        let Some(file) = &run.pipeline.target.labels else { return Ok(Known::Nothing) };
        let file = run.pipeline.resolve(file);
        let id = run.inputs.accounts.field(&run.pipeline.target.id)?;
        let labels = read_labels(run.pipeline, &file, id.data_type())?;
        let mut usable = labels.len();
        if usable >= LEAST_LABELS {
            let example = labels.keys().min().cloned().unwrap_or_default();
            let labelled = labelled(run, scored, labels)?;
            usable = labelled.len();
            if usable == 0 {
                return Err(Error::data("no labelled account is in the target")
                    .file(&file)
                    .column(id.name())
                    .value(example)
                    .hint("the labels are of other accounts, or their ids are written in another way"));
            }
            if usable >= LEAST_LABELS {
                return Ok(Known::Labels(labelled));
            }
        }
        run.log.warn(
            "relevance",
            "too few labelled accounts of the target to move the base rate",
            json!({"labels": usable, "needed": LEAST_LABELS}),
        );
        Ok(Known::Nothing)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Known::Nothing => "none",
            Known::Shares(_) => "class_shares",
            Known::Labels(_) => "labels",
        }
    }

    pub fn ranges(&self) -> &[ShareRange] {
        if let Known::Shares(ranges) = self { ranges } else { &[] }
    }

    /// Constants `[C]` for every account of the target.
    pub fn constants(&self, run: &Run, scored: &Scored, fuser: &Fuser) -> Result<Vec<f64>> {
        match self {
            Known::Nothing => Ok(vec![0.0; fuser.blend().classes]),
            Known::Shares(ranges) => shift_to_shares(run, scored, fuser, ranges),
            Known::Labels(labelled) => {
                shift_labelled(fuser, labelled.iter().map(|l| (l.class, l.scores.clone())))
            }
        }
    }

    /// The same for a fuser without teacher `k`, whose shares are those of the sampled rows (already without
    /// it).
    pub fn constants_without(&self, k: usize, fuser: &Fuser, rows: &Columns) -> Result<Vec<f64>> {
        let classes = fuser.blend().classes;
        match self {
            Known::Nothing => Ok(vec![0.0; classes]),
            Known::Shares(ranges) => {
                let mut means = ExactMeans::new(classes);
                let mut z = Vec::with_capacity(rows.rows() * classes);
                fuser.each(rows, 0..rows.rows(), |_, count, fused| {
                    means.add_rows(&fused.label, count);
                    (0..count).for_each(|i| z.extend(of_row(&fused.z, i)));
                });
                Ok(base_rate::shift_to_shares(&z, &wanted_shares(&means.means(), ranges)))
            }
            Known::Labels(labelled) => {
                shift_labelled(fuser, labelled.iter().map(|l| (l.class, without(&l.scores, k, classes))))
            }
        }
    }
}

/// The class shares that the user named; none if no class was.
fn ranges(pipeline: &Pipeline) -> Result<Vec<ShareRange>> {
    let place = |class: &String| {
        pipeline
            .classes
            .iter()
            .position(|c| c == class)
            .ok_or_else(|| Error::bug("an unknown class").value(class))
    };
    let range = |(class, share): (&String, &crate::config::Share)| {
        let (low, high) = share.range();
        Ok(ShareRange { class: place(class)?, low, high })
    };
    pipeline.target.class_shares.iter().flatten().map(range).collect()
}

fn shift_to_shares(run: &Run, scored: &Scored, fuser: &Fuser, ranges: &[ShareRange]) -> Result<Vec<f64>> {
    let classes = run.pipeline.classes.len();
    let mean = over_scores(
        run,
        scored,
        || ExactMeans::new(classes),
        |scores, means: &mut ExactMeans| {
            let rows = 0..scores.columns.rows();
            fuser.each(&scores.columns, rows, |_, count, fused| means.add_rows(&fused.label, count));
            Ok(())
        },
    )?;
    let mut shift = ShareShift::new(wanted_shares(&mean.means(), ranges));
    while !shift.done() {
        let sums = over_scores(
            run,
            scored,
            || shift.sums(),
            |scores, sums| {
                let rows = 0..scores.columns.rows();
                fuser.each(&scores.columns, rows, |_, count, fused| sums.add(&fused.z, count));
                Ok(())
            },
        )?;
        shift.update(&sums);
    }
    Ok(shift.constants().to_vec())
}

/// The labelled accounts that the target holds, by id, so that the order of its rows does not reach the sums.
fn labelled(run: &Run, scored: &Scored, mut labels: HashMap<String, u16>) -> Result<Vec<Labelled>> {
    let mut found: Vec<(String, Labelled)> = Vec::new();
    for unit in run.pieces() {
        part::read(&SCORES.part(run, unit), |batch| {
            let text = ids::as_text(batch.column(0))?;
            let text = text.as_string::<i64>();
            let scores = Scores::of(&batch, scored.active.len(), run.pipeline.classes.len())?;
            for i in 0..batch.num_rows() {
                if let Some(class) = labels.remove(text.value(i)) {
                    found
                        .push((text.value(i).to_string(), Labelled { class, scores: scores.columns.row(i) }));
                }
            }
            Ok(())
        })?;
    }
    if !labels.is_empty() {
        run.log.warn(
            "relevance",
            "labelled accounts that are not in the target",
            json!({"accounts": labels.len(), "one of them": labels.keys().min()}),
        );
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().map(|(_, labelled)| labelled).collect())
}

fn shift_labelled(fuser: &Fuser, rows: impl Iterator<Item = (u16, Row)>) -> Result<Vec<f64>> {
    let (mut z, mut classes, mut fused) = (Vec::new(), Vec::new(), fuser.scratch());
    for (class, (raw, s)) in rows {
        fuser.row(&raw, &s, &mut fused);
        z.extend(&fused.z);
        classes.push(class);
    }
    let count = fuser.blend().classes;
    match fuser.alignment() {
        Some(_) => shift_beyond_chance(&z, &classes, count),
        None => shift_to_labels(&z, &classes, count, LABEL_RIDGE),
    }
}
