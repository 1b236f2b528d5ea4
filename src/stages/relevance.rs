//! Step 3 of 6: what each teacher is worth for this target.
//!
//! In: the profile, the histories, the target's scores. Out: `calculator.json`, the relevance calculator trained on the
//! histories (or a saved one), and `fusion.json`: all that makes a soft label of an account's scores.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use hashbrown::HashMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::profile::Profile;
use super::score::{Scored, profiled, score_names, support_of};
use super::{domain, histories};
use super::{fuse, part_name};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::accounts::{Accounts, read_all};
use crate::lake::{ids, part};
use crate::relevance::base_rate::{LEAST_LABELS, ShareRange, ShareShift, shift_to_labels, wanted_shares};
use crate::relevance::calculator::{Calculator, Member};
use crate::relevance::distance::Distances;
use crate::relevance::fuse::Fuser;
use crate::relevance::sum::ExactMeans;
use crate::relevance::support::Support;
use crate::relevance::world::{self, World};
use crate::run::digest;
use crate::run::directory::{read_json, write_json};
use crate::run::job::Run;
use crate::teacher::{Teacher, Workspace};

/// What the target's own scores add to the calculator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fusion {
    /// Means of the calibrated scores over the target.
    means: ExactMeans,
    /// Constants of the base-rate step, one a class.
    constants: Vec<f64>,
    /// For each teacher how well a linear classifier tells its history from the target: an area under the ROC curve.
    pub domain_areas: Vec<Option<f64>>,
    /// `none`, `class_shares` or `labels`: what moved the base rate.
    pub base_rate: String,
}

/// The scores of one batch of accounts.
pub struct Scores<'a> {
    columns: Vec<&'a [f64]>,
    supports: Vec<&'a [f64]>,
}

impl<'a> Scores<'a> {
    pub fn of(batch: &'a RecordBatch, teachers: usize, classes: usize) -> Result<Scores<'a>> {
        let (scores, supports) = score_names(teachers, classes);
        Ok(Scores {
            columns: scores.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
            supports: supports.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
        })
    }

    /// Raw scores `[K, C]` and support `[K]` of row `i`.
    pub fn row(&self, i: usize, raw: &mut Vec<f64>, s: &mut Vec<f64>) {
        raw.clear();
        raw.extend(self.columns.iter().map(|c| c[i]));
        s.clear();
        s.extend(self.supports.iter().map(|c| c[i]));
    }
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let scored = Scored::load(run)?;
    let profile = target_profile(run, &scored)?;
    let teachers: Vec<&Teacher> = scored.active.iter().map(|k| &run.inputs.teachers[*k]).collect();
    let calculator = train(run, &scored.active, &teachers, &profile)?;
    let distances = Distances::new(&profile.profiles);
    let blend = calculator.blend(&distances)?;
    let means = over_scores(
        run,
        &scored,
        || blend.means(),
        |scores, rows, means: &mut ExactMeans| {
            let (mut raw, mut s, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..rows {
                scores.row(i, &mut raw, &mut s);
                blend.add(&raw, &mut scratch, means);
            }
        },
    )?
    .into_iter()
    .fold(blend.means(), |mut all, part| {
        all.merge(&part);
        all
    });
    let fuser = Fuser::new(blend, &means);
    let (base_rate, constants) = base_rate(run, &scored, &fuser)?;
    let folder = run.directory.stage("relevance");
    write_json(&folder.join("calculator.json"), &calculator)?;
    let domain_areas = domain::areas(run, &scored.active, &profile, scored.units)?;
    write_json(&folder.join("fusion.json"), &Fusion { means, constants, domain_areas, base_rate: base_rate.to_string() })
}

/// The profile of the teachers that count.
pub fn target_profile(run: &Run, scored: &Scored) -> Result<Profile> {
    match &scored.reprofiled {
        None => Profile::load(run),
        Some(profile) => Ok(profile.clone()),
    }
}

/// What makes soft labels, as this stage left it.
pub fn load(run: &Run) -> Result<(Calculator, Distances, Fuser, Fusion)> {
    let folder = run.directory.stage("relevance");
    let calculator: Calculator = read_json(&folder.join("calculator.json"))?;
    let fusion: Fusion = read_json(&folder.join("fusion.json"))?;
    let profile = target_profile(run, &Scored::load(run)?)?;
    let distances = Distances::new(&profile.profiles);
    let fuser = Fuser::new(calculator.blend(&distances)?, &fusion.means).with_constants(&fusion.constants);
    Ok((calculator, distances, fuser, fusion))
}

/// Scores every history with every teacher and trains the calculator on them.
fn train(run: &Run, active: &[usize], teachers: &[&Teacher], profile: &Profile) -> Result<Calculator> {
    let support = Support::new(&profile.profiles);
    let worlds: Vec<world::Teacher> =
        teachers.par_iter().with_max_len(1).map(|teacher| history_of(run, active, teacher, &support, profile)).collect::<Result<_>>()?;
    let members = teachers.iter().map(|t| member(t)).collect::<Result<Vec<_>>>()?;
    let world = World::new(worlds, run.pipeline.classes.len())?;
    let calculator = Calculator::train(&world, profile.profiles.clone(), members, run.pipeline.classes.clone())?;
    if !calculator.trained {
        run.log.warn(
            "relevance",
            "the calculator could not be trained: it takes three labelled histories",
            json!({"teachers": teachers.len()}),
        );
    }
    Ok(calculator)
}

fn member(teacher: &Teacher) -> Result<Member> {
    let files = teacher.bundle.files().iter().map(|f| digest::file(&teacher.bundle.folder, f)).collect::<Result<Vec<_>>>()?;
    let text: Vec<String> = files.iter().map(|f| format!("{} {}", f.sha256, f.path)).collect();
    Ok(Member { name: teacher.name().to_string(), digest: digest::text(&text.join("\n")) })
}

fn history_of(run: &Run, active: &[usize], teacher: &Teacher, support: &Support, profile: &Profile) -> Result<world::Teacher> {
    let inputs = run.inputs;
    let mut out = world::Teacher { name: teacher.name().to_string(), rows: teacher.bundle.training.rows, history: None };
    let Some(history) = histories::open(teacher, &inputs.features)? else { return Ok(out) };
    let (labels, held_out) = history.labels(teacher, run.pipeline)?;
    let classes = run.pipeline.classes.len();
    let mut scores = vec![Vec::with_capacity(history.rows() * classes); active.len()];
    let mut supports = Vec::with_capacity(history.rows() * active.len());
    let places = profiled(profile, &inputs.features)?;
    let mut work = Workspace::default();
    history.blocks(|block| {
        crate::run::cancel::check()?;
        let matrix = inputs.plan.encode(&block);
        for (&k, scores) in active.iter().zip(&mut scores) {
            let start = scores.len();
            scores.resize(start + block.rows * classes, 0.0);
            inputs.teachers[k].score(&inputs.encoders[k], &block, &matrix, &mut work, &mut scores[start..])?;
        }
        supports.extend(support_of(support, &places, &block));
        Ok(())
    })?;
    out.history = Some(world::History { labels, held_out, scores, support: supports });
    Ok(out)
}

/// Folds the target's scores, unit by unit in parallel; one result for each unit, in order.
pub fn over_scores<T: Send>(
    run: &Run,
    scored: &Scored,
    empty: impl Fn() -> T + Sync,
    add: impl Fn(&Scores, usize, &mut T) + Sync,
) -> Result<Vec<T>> {
    let folder = run.directory.stage("score").join("scores");
    let (teachers, classes) = (scored.active.len(), run.pipeline.classes.len());
    let one = |unit: usize| -> Result<T> {
        let mut out = empty();
        part::read(&folder.join(part_name(unit, None)), |batch| {
            add(&Scores::of(&batch, teachers, classes)?, batch.num_rows(), &mut out);
            Ok(())
        })?;
        Ok(out)
    };
    (0..scored.units).into_par_iter().with_max_len(1).map(one).collect()
}

/// Constants from what the user knows of the target, and what that was.
fn base_rate(run: &Run, scored: &Scored, fuser: &Fuser) -> Result<(&'static str, Vec<f64>)> {
    let target = &run.pipeline.target;
    let none = vec![0.0; run.pipeline.classes.len()];
    if let Some(shares) = &target.class_shares {
        let place = |class: &String| {
            run.pipeline.classes.iter().position(|c| c == class).ok_or_else(|| Error::bug("an unknown class").value(class))
        };
        let ranges = shares.iter().map(|(class, share)| {
            let (low, high) = share.range();
            Ok(ShareRange { class: place(class)?, low, high })
        });
        return Ok(("class_shares", shift_to_shares(run, scored, fuser, &ranges.collect::<Result<Vec<_>>>()?)?));
    }
    let Some(file) = &target.labels else { return Ok(("none", none)) };
    let labels = read_labels(run.pipeline, &run.pipeline.resolve(file))?;
    if labels.len() < LEAST_LABELS {
        run.log.warn(
            "relevance",
            "too few labelled accounts to move the base rate",
            json!({"labels": labels.len(), "needed": LEAST_LABELS}),
        );
        return Ok(("none", none));
    }
    Ok(("labels", shift_labelled(run, scored, fuser, labels)?))
}

fn shift_to_shares(run: &Run, scored: &Scored, fuser: &Fuser, ranges: &[ShareRange]) -> Result<Vec<f64>> {
    let classes = run.pipeline.classes.len();
    let mean = over_scores(
        run,
        scored,
        || ExactMeans::new(classes),
        |scores, rows, means: &mut ExactMeans| {
            fuse::each_row(fuser, scores, rows, |_, fused| means.add(&fused.label));
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
            |scores, rows, sums| fuse::each_row(fuser, scores, rows, |_, fused| sums.add(&fused.z)),
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
    shift_to_labels(&z, &classes, run.pipeline.classes.len())
}
