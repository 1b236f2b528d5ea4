//! `coldstart explain`: why one account got its class.
//!
//! The account is read from the target and scored again as the run did it, with what the run kept ([`crate::run::explanation`]); the label must come out as it
//! was published. What the class would be without each teacher follows from the same scores.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::profile::Profile;
use super::relevance::Fusion;
use super::score::{Scored, profiled, support_of};
use super::{base_rate, calculator_file};
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::accounts::{Accounts, Unit};
use crate::lake::column::{Column, NULL, NonFinite};
use crate::lake::store::Real;
use crate::lake::{ids, part, publish};
use crate::relevance::bins::Bins;
use crate::relevance::calculator::Calculator;
use crate::relevance::distance::Distances;
use crate::relevance::fuse::Fused;
use crate::relevance::profiles::Profiles;
use crate::relevance::simplex::first_largest;
use crate::relevance::support::Support;
use crate::run::directory::{Directory, PUBLISHED, read_json};
use crate::run::explanation;
use crate::run::inputs::Inputs;
use crate::run::published::Published;
use crate::teacher::Workspace;
use crate::teacher::encode::Block;

/// Features that are named for and against a teacher.
const NAMED: usize = 3;
/// The published label and the one made again are the same up to this.
const SAME: f64 = 1e-12;

/// Why an account got its class.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub status: &'static str,
    pub pipeline: String,
    pub date: String,
    pub run_id: String,
    pub account: Value,
    /// The soft label.
    pub label: Opinion,
    /// What `classification` says.
    pub decision: Decision,
    pub support: f64,
    /// Bits by which the teachers are apart.
    pub disagreement: f64,
    /// What moved the base rate.
    pub base_rate: String,
    pub rivals: Vec<Rival>,
    /// By weight.
    pub teachers: Vec<TeacherView>,
}

/// Probabilities, and the class of the largest.
#[derive(Debug, Clone, Serialize)]
pub struct Opinion {
    pub class: String,
    pub p: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
pub struct Decision {
    pub decision: String,
    pub reason: Option<String>,
    /// The student, or `fused` where the soft label decided.
    pub by: String,
    pub confidence: f64,
    #[serde(flatten)]
    pub said: Opinion,
}

#[derive(Debug, Serialize)]
pub struct Rival {
    pub name: &'static str,
    pub agrees: bool,
    #[serde(flatten)]
    pub said: Opinion,
}

/// What one teacher said, what that counted, and why.
#[derive(Debug, Serialize)]
pub struct TeacherView {
    pub teacher: String,
    pub scenario: String,
    /// The teacher that this one repeats; it was not asked then.
    pub same_as: Option<String>,
    pub weight: f64,
    pub raw: Opinion,
    /// As it entered the gate: calibrated, and moved to the common level where teachers are aligned.
    pub calibrated: Opinion,
    /// s_k(x): how much the account looks like the teacher's history, beside all scenarios.
    pub support: f64,
    /// Features that make the account like the teacher's history, and unlike it, with what each adds to the support.
    pub like: Vec<FeatureView>,
    pub unlike: Vec<FeatureView>,
    /// Mean distance of the history from the target in bits, and the features that are closest and furthest.
    pub target_js: f64,
    pub target_near: Vec<FeatureDistance>,
    pub target_far: Vec<FeatureDistance>,
    /// The soft label had this teacher never been asked.
    pub without: Opinion,
    pub changes_class: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureView {
    pub feature: String,
    pub value: Value,
    /// Its bin in words.
    pub bin: String,
    pub adds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureDistance {
    pub feature: String,
    pub js: f64,
}

/// Explains the account with this id (its text) as it was published for the date.
///
/// Nothing published, or no such account in what was: 66. Teachers or the account's features changed since: 65.
pub fn explain(pipeline: &Pipeline, date: &str, id: &str) -> Result<Explanation> {
    let root = Directory::place(&pipeline.output_path(), &pipeline.name, date);
    let record = root.join(PUBLISHED);
    if !record.exists() {
        return Err(Error::new(Kind::Missing, "nothing was published for this date").file(&record).with("date", date));
    }
    let published: Published = read_json(&Real, &record)?;
    let folder = explanation::open(&root, &published.explanation)?;
    let calculator: Calculator = read_json(&Real, &folder.join("calculator.json"))?;
    let inputs = Inputs::open(pipeline)?;
    if let Some((what, _)) = calculator.stale(&calculator_file::members(&inputs.teachers)?, &pipeline.classes) {
        return Err(changed(format!("the teachers are not those of the published run: {what}")));
    }
    let soft = published_row(pipeline, "soft_labels", date, id)?;
    let class = published_row(pipeline, "classification", date, id)?;
    let run_id = text_of(&class, "run_id")?.unwrap_or_default();
    if !published.key.starts_with(&run_id) || run_id.is_empty() {
        return Err(changed("the table was published by another run since".to_string()).with("run_id", run_id));
    }
    let scored: Scored = read_json(&Real, &folder.join("score.json"))?;
    let profile = match scored.reprofiled {
        Some(profile) => profile,
        None => read_json(&Real, &folder.join("profile.json"))?,
    };
    let fusion: Fusion = read_json(&Real, &folder.join("fusion.json"))?;
    let case = Case::read(pipeline, inputs, profile, calculator, &fusion, id)?;
    for (class, p) in pipeline.classes.iter().zip(&case.fused.label) {
        let then = part::floats(&soft, &format!("p_{class}"))?[0];
        if (p - then).abs() > SAME {
            return Err(changed("the account is not as it was when the run was published: its label comes out otherwise".to_string())
                .column(format!("p_{class}"))
                .value(format!("{p}, published {then}")));
        }
    }
    Ok(Explanation {
        status: "explained",
        pipeline: pipeline.name.clone(),
        date: date.to_string(),
        account: account_id(&soft, id),
        label: case.opinion(&case.fused.label),
        decision: decision(pipeline, &class)?,
        support: case.fused.support,
        disagreement: case.fused.disagreement,
        base_rate: fusion.base_rate.clone(),
        rivals: case.rivals(),
        teachers: case.teachers(),
        run_id,
    })
}

fn changed(what: String) -> Error {
    Error::data(what).hint("run again with --replace, then explain")
}

fn account_id(row: &RecordBatch, id: &str) -> Value {
    let integer = row.column(0).data_type().is_integer();
    id.parse::<i128>().ok().filter(|_| integer).and_then(|n| serde_json::from_str(&n.to_string()).ok()).unwrap_or_else(|| json!(id))
}

/// The account's row of a published table, the id first.
fn published_row(pipeline: &Pipeline, table: &str, date: &str, id: &str) -> Result<RecordBatch> {
    let folder = publish::partition(&pipeline.output_path(), table, date);
    if !folder.is_dir() {
        return Err(Error::new(Kind::Missing, "nothing was published for this date").file(&folder));
    }
    let accounts = Accounts::open(&folder)?;
    let key = &pipeline.target.id;
    let names = accounts.schema().fields().iter().map(|f| f.name().clone()).filter(|n| n != key);
    let columns: Vec<String> = [key.clone()].into_iter().chain(names).collect();
    let mut found = None;
    if let Some(unit) = unit_of(&accounts, key, id)? {
        accounts.read(unit, &columns, |batch, _| {
            if let Some(row) = row_of(&batch, id)? {
                found = Some(batch.slice(row, 1));
            }
            Ok(())
        })?;
    }
    found.ok_or_else(|| Error::new(Kind::Missing, "no account of the published table has this id").file(&folder).column(key).value(id))
}

/// The unit that holds the account, if any does.
fn unit_of<'a>(accounts: &'a Accounts, key: &str, id: &str) -> Result<Option<&'a Unit>> {
    let columns = [key.to_string()];
    accounts.field(key)?;
    let holds = |unit: &'a Unit| -> Result<Option<&'a Unit>> {
        let mut found = false;
        accounts.read(unit, &columns, |batch, _| {
            found |= row_of(&batch, id)?.is_some();
            Ok(())
        })?;
        Ok(found.then_some(unit))
    };
    accounts.units().par_iter().find_map_any(|unit| holds(unit).transpose()).transpose()
}

/// The row of the account in a batch whose first column is the id.
fn row_of(batch: &RecordBatch, id: &str) -> Result<Option<usize>> {
    let text = ids::as_text(batch.column(0))?;
    Ok(text.as_string::<i64>().iter().position(|found| found == Some(id)))
}

/// A text of the first row; none for null.
fn text_of(row: &RecordBatch, column: &str) -> Result<Option<String>> {
    let array = row.column_by_name(column).ok_or_else(|| Error::data("the column is missing from the published table").column(column))?;
    let text = ids::as_text(array)?;
    let text = text.as_string::<i64>();
    Ok((!text.is_null(0)).then(|| text.value(0).to_string()))
}

fn decision(pipeline: &Pipeline, row: &RecordBatch) -> Result<Decision> {
    let p = pipeline.classes.iter().map(|c| Ok((c.clone(), part::floats(row, &format!("p_{c}"))?[0]))).collect::<Result<_>>()?;
    Ok(Decision {
        decision: text_of(row, "decision")?.unwrap_or_default(),
        reason: text_of(row, "reason")?,
        by: text_of(row, "student")?.unwrap_or_default(),
        confidence: part::floats(row, "confidence")?[0],
        said: Opinion { class: text_of(row, "class")?.unwrap_or_default(), p },
    })
}

/// The account with all that its label was made of.
struct Case<'a> {
    pipeline: &'a Pipeline,
    inputs: Inputs,
    calculator: Calculator,
    profiles: Profiles,
    distances: Distances,
    support: Support,
    raw: Vec<f64>,
    s: Vec<f64>,
    fused: Fused,
    /// The label without each teacher `[K]` of `[C]`.
    without: Vec<Vec<f64>>,
    /// The value of each profiled feature, and its bin.
    values: Vec<(Value, usize)>,
}

impl<'a> Case<'a> {
    /// Scores the account in the batch in which the run scored it, since a model may round otherwise in another.
    fn read(
        pipeline: &'a Pipeline,
        inputs: Inputs,
        profile: Profile,
        calculator: Calculator,
        fusion: &Fusion,
        id: &str,
    ) -> Result<Case<'a>> {
        let accounts = inputs.accounts.clone().without_rows(profile.dropped.clone());
        let columns: Vec<String> = [pipeline.target.id.clone()].into_iter().chain(inputs.present()).collect();
        let gone = || changed("the account is no longer among the target's".to_string()).column(&pipeline.target.id).value(id);
        let unit = unit_of(&accounts, &pipeline.target.id, id)?.ok_or_else(gone)?;
        let place = |name: &String| inputs.teachers.iter().position(|t| t.name() == name).ok_or_else(|| Error::bug("a teacher is gone"));
        let active = calculator.teachers.iter().map(|t| place(&t.name)).collect::<Result<Vec<usize>>>()?;
        let support = Support::new(&profile.profiles);
        let places = profiled(&profile.profiles, &inputs.features)?;
        let mut found = None;
        accounts.read(unit, &columns, |batch, _| {
            let Some(row) = row_of(&batch, id)? else { return Ok(()) };
            let mut odd = vec![NonFinite::default(); inputs.features.len()];
            let block = Block::decode(&batch, &inputs.features, &mut odd)?;
            let raw = score(&inputs, &active, &block, row)?;
            let s = support_of(&support, &places, &block)[row * active.len()..(row + 1) * active.len()].to_vec();
            let values = places.iter().map(|(j, bins)| value_of(&block.columns[*j], bins, row)).collect();
            found = Some((raw, s, values));
            Ok(())
        })?;
        let (raw, s, values) = found.ok_or_else(gone)?;
        let distances = Distances::new(&profile.profiles);
        let fuser = fusion.fuser(&calculator, &distances)?;
        let mut fused = fuser.room();
        fuser.row(&raw, &s, &mut fused);
        let (row, mut without) = ((raw, s), Vec::new());
        for (k, fuser) in fusion.fusers_without(&calculator, &distances)?.iter().enumerate() {
            let (raw, s) = base_rate::without(&row, k, pipeline.classes.len());
            let mut room = fuser.room();
            fuser.row(&raw, &s, &mut room);
            without.push(room.label);
        }
        let (raw, s) = row;
        Ok(Case { pipeline, profiles: profile.profiles, inputs, calculator, distances, support, raw, s, fused, without, values })
    }

    fn opinion(&self, p: &[f64]) -> Opinion {
        let classes = &self.pipeline.classes;
        Opinion { class: classes[first_largest(p)].clone(), p: classes.iter().cloned().zip(p.iter().copied()).collect() }
    }

    fn rivals(&self) -> Vec<Rival> {
        let of = |name, p: &[f64], agrees| Rival { name, agrees, said: self.opinion(p) };
        let [uniform, js, gate] = self.fused.agree;
        vec![of("uniform", &self.fused.uniform, uniform), of("js", &self.fused.js, js), of("gate", &self.fused.gate, gate)]
    }

    fn teachers(&self) -> Vec<TeacherView> {
        let mut views: Vec<TeacherView> = (0..self.calculator.teachers.len()).map(|k| self.teacher(k)).collect();
        let repeats: Vec<TeacherView> = self
            .calculator
            .repeats
            .iter()
            .filter_map(|r| {
                let k = self.calculator.teachers.iter().position(|t| t.name == r.same_as)?;
                let own = TeacherView { teacher: r.name.clone(), same_as: Some(r.same_as.clone()), weight: 0.0, ..self.teacher(k) };
                Some(TeacherView {
                    scenario: self.scenario(&r.name),
                    without: self.opinion(&self.fused.label),
                    changes_class: false,
                    ..own
                })
            })
            .collect();
        views.extend(repeats);
        views.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.teacher.cmp(&b.teacher)));
        views
    }

    fn scenario(&self, teacher: &str) -> String {
        self.inputs.teachers.iter().find(|t| t.name() == teacher).map(|t| t.bundle.scenario.clone()).unwrap_or_default()
    }

    fn teacher(&self, k: usize) -> TeacherView {
        let c = self.pipeline.classes.len();
        let name = &self.calculator.teachers[k].name;
        let mut adds = self.features(k);
        adds.sort_by(|a, b| b.adds.total_cmp(&a.adds));
        let like = adds.iter().filter(|f| f.adds > 0.0).take(NAMED).cloned().collect();
        let unlike = adds.iter().rev().filter(|f| f.adds < 0.0).take(NAMED).cloned().collect();
        let mut far = self.feature_distances(k);
        far.sort_by(|a, b| b.js.total_cmp(&a.js));
        let without = self.opinion(&self.without[k]);
        TeacherView {
            teacher: name.clone(),
            scenario: self.scenario(name),
            same_as: None,
            weight: self.fused.weights[k],
            raw: self.opinion(&self.raw[k * c..(k + 1) * c]),
            calibrated: self.opinion(&self.fused.p[k * c..(k + 1) * c]),
            support: self.s[k],
            like,
            unlike,
            target_js: self.distances.js[k],
            target_near: far.iter().rev().take(NAMED).cloned().collect(),
            target_far: far.iter().take(NAMED).cloned().collect(),
            changes_class: without.class != self.opinion(&self.fused.label).class,
            without,
        }
    }

    /// What each feature adds to the support of teacher `k`; none without history.
    fn features(&self, k: usize) -> Vec<FeatureView> {
        let Some(source) = self.profiles.sources.iter().position(|s| *s == k) else { return Vec::new() };
        let scale = (self.profiles.features.len() as f64).sqrt();
        let view = |(j, (value, bin)): (usize, &(Value, usize))| FeatureView {
            feature: self.profiles.features[j].name.clone(),
            value: value.clone(),
            bin: self.profiles.features[j].bins.describe(*bin),
            adds: self.support.contribution(j, *bin).get(source).map_or(0.0, |adds| adds / scale),
        };
        self.values.iter().enumerate().map(view).collect()
    }

    fn feature_distances(&self, k: usize) -> Vec<FeatureDistance> {
        let Some(source) = self.profiles.sources.iter().position(|s| *s == k) else { return Vec::new() };
        let of = |(f, d): (&crate::relevance::profiles::FeatureProfile, &Vec<crate::relevance::distance::FeatureDistance>)| {
            FeatureDistance { feature: f.name.clone(), js: d[source].js }
        };
        self.profiles.features.iter().zip(&self.distances.features).map(of).collect()
    }
}

/// Raw scores `[K, C]` of a row of a block.
fn score(inputs: &Inputs, active: &[usize], block: &Block, row: usize) -> Result<Vec<f64>> {
    let matrix = inputs.plan.encode(block);
    let mut work = Workspace::default();
    let mut raw = Vec::new();
    for &k in active {
        let classes = inputs.teachers[k].classes();
        let mut out = vec![0.0; block.rows * classes];
        inputs.teachers[k].score(&inputs.encoders[k], block, &matrix, &mut work, &mut out)?;
        raw.extend_from_slice(&out[row * classes..(row + 1) * classes]);
    }
    Ok(raw)
}

/// A row's value of a feature, and its bin.
fn value_of(column: &Column, bins: &Bins, row: usize) -> (Value, usize) {
    match column {
        Column::Number(values) if values[row].is_nan() => (Value::Null, bins.of_null()),
        Column::Number(values) => (json!(values[row]), bins.of_number(values[row])),
        Column::Category { codes, .. } if codes[row] == NULL => (Value::Null, bins.of_null()),
        Column::Category { codes, levels } => {
            let level = levels[codes[row] as usize].as_str();
            (json!(level), bins.of_levels([level]).first().map_or(bins.of_null(), |b| usize::from(*b)))
        }
    }
}
