//! One account with all that its label was made of, scored again as the run did it.

use serde_json::{Value, json};

use crate::commands::explain::row::{changed, row_of, unit_of};
use crate::commands::explain::views::{FeatureDistance, FeatureView, Opinion, Rival, TeacherView};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::features::column::{Column, NULL, NonFinite};
use crate::relevance::fusion::fuse::Fused;
use crate::relevance::maths::probability::argmax;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::distance::{self, Distances};
use crate::relevance::profile::profiles::{FeatureProfile, Profiles};
use crate::relevance::profile::support::Support;
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::pooled::{NAME, Pooled};
use crate::sources::inputs::Inputs;
use crate::sources::pooled::Asked;
use crate::sources::support::{profiled, support_of};
use crate::stages::artifacts::{Fusion, Profile};
use crate::stages::scores::without;

/// Features that are named for and against a teacher.
const NAMED: usize = 3;

/// The account with all that its label was made of.
pub struct Case<'a> {
    pipeline: &'a Pipeline,
    inputs: Inputs,
    calculator: Calculator,
    profiles: Profiles,
    distances: Distances,
    support: Support,
    raw: Vec<f64>,
    s: Vec<f64>,
    pub fused: Fused,
    /// The label without each teacher `[K]` of `[C]`.
    without: Vec<Vec<f64>>,
    /// The value of each profiled feature, and its bin.
    values: Vec<(Value, usize)>,
}

impl<'a> Case<'a> {
    /// Scores the account in the batch in which the run scored it, since a model may round otherwise in
    /// another.
    pub fn read(
        pipeline: &'a Pipeline,
        inputs: Inputs,
        profile: Profile,
        calculator: Calculator,
        fusion: &Fusion,
        id: &str,
    ) -> Result<Case<'a>> {
        let accounts = inputs.accounts.clone().without_rows(profile.dropped.clone());
        let columns: Vec<String> = [pipeline.target.id.clone()].into_iter().chain(inputs.present()).collect();
        let gone = || {
            changed("the account is no longer among the target's".to_string())
                .column(&pipeline.target.id)
                .value(id)
        };
        let unit = unit_of(&accounts, &pipeline.target.id, id)?.ok_or_else(gone)?;
        let place = |name: &String| {
            inputs
                .teachers
                .iter()
                .position(|t| t.name() == name)
                .ok_or_else(|| Error::bug("a teacher is gone"))
        };
        let active = calculator.teachers.iter().map(|t| place(&t.name)).collect::<Result<Vec<usize>>>()?;
        let support = Support::new(&profile.profiles);
        let places = profiled(&profile.profiles, &inputs.features)?;
        let pooled = calculator.pooled.as_ref().map(Asked::new).transpose()?;
        let mut found = None;
        accounts.read(unit, &columns, |batch, _| {
            let Some(row) = row_of(&batch, id)? else { return Ok(()) };
            let mut odd = vec![NonFinite::default(); inputs.features.len()];
            let block = Block::decode(&batch, &inputs.features, &mut odd)?;
            let mut raw = score(&inputs, &active, &block, row)?;
            if let Some(pooled) = &pooled {
                let c = pipeline.classes.len();
                raw.extend(&pooled.score(&inputs.features, &block)?[row * c..(row + 1) * c]);
            }
            let s =
                support_of(&support, &places, &block)[row * active.len()..(row + 1) * active.len()].to_vec();
            let values = places.iter().map(|(j, bins)| value_of(&block.columns[*j], bins, row)).collect();
            found = Some((raw, s, values));
            Ok(())
        })?;
        let (raw, s, values) = found.ok_or_else(gone)?;
        let distances = Distances::new(&profile.profiles);
        let fuser = fusion.fuser(&calculator, &distances)?;
        let mut fused = fuser.scratch();
        fuser.row(&raw, &s, &mut fused);
        let (row, mut left_out) = ((raw, s), Vec::new());
        for (k, fuser) in fusion.fusers_without(&calculator, &distances)?.iter().enumerate() {
            let (raw, s) = without(&row, k, pipeline.classes.len());
            let mut room = fuser.scratch();
            fuser.row(&raw, &s, &mut room);
            left_out.push(room.label);
        }
        let (raw, s) = row;
        Ok(Case {
            pipeline,
            profiles: profile.profiles,
            inputs,
            calculator,
            distances,
            support,
            raw,
            s,
            fused,
            without: left_out,
            values,
        })
    }

    pub fn opinion(&self, p: &[f64]) -> Opinion {
        let classes = &self.pipeline.classes;
        Opinion {
            class: classes[argmax(p)].clone(),
            p: classes.iter().cloned().zip(p.iter().copied()).collect(),
        }
    }

    pub fn rivals(&self) -> Vec<Rival> {
        let of = |name, p: &[f64], agrees| Rival { name, agrees, said: self.opinion(p) };
        let [uniform, js, gate] = self.fused.agree.map(|agrees| agrees > 0.0);
        vec![
            of("uniform", &self.fused.uniform, uniform),
            of("js", &self.fused.js, js),
            of("gate", &self.fused.gate, gate),
        ]
    }

    pub fn teachers(&self) -> Vec<TeacherView> {
        let mut views: Vec<TeacherView> =
            (0..self.calculator.teachers.len()).map(|k| self.teacher(k)).collect();
        let repeats: Vec<TeacherView> = self
            .calculator
            .repeats
            .iter()
            .filter_map(|r| {
                let k = self.calculator.teachers.iter().position(|t| t.name == r.same_as)?;
                let own = TeacherView {
                    teacher: r.name.clone(),
                    same_as: Some(r.same_as.clone()),
                    weight: 0.0,
                    ..self.teacher(k)
                };
                Some(TeacherView {
                    scenario: self.scenario(&r.name),
                    without: self.opinion(&self.fused.label),
                    changes_class: false,
                    ..own
                })
            })
            .collect();
        views.extend(repeats);
        views.extend(self.calculator.pooled.iter().map(|pooled| self.pooled(pooled)));
        views.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.teacher.cmp(&b.teacher)));
        views
    }

    fn scenario(&self, teacher: &str) -> String {
        self.inputs
            .teachers
            .iter()
            .find(|t| t.name() == teacher)
            .map(|t| t.bundle.scenario.clone())
            .unwrap_or_default()
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
            support: Some(self.s[k]),
            like,
            unlike,
            target_js: Some(self.distances.js[k]),
            target_near: far.iter().rev().take(NAMED).cloned().collect(),
            target_far: far.iter().take(NAMED).cloned().collect(),
            changes_class: without.class != self.opinion(&self.fused.label).class,
            without,
        }
    }

    /// The teacher that the job trained itself has no history of its own to be like.
    fn pooled(&self, pooled: &Pooled) -> TeacherView {
        let k = self.calculator.teachers.len();
        let (said, without) = (self.opinion(&self.fused.pooled), self.opinion(&self.without[k]));
        TeacherView {
            teacher: NAME.to_string(),
            scenario: format!("{} rows of {} histories together", pooled.rows, pooled.histories),
            same_as: None,
            weight: self.fused.weights[k],
            raw: said.clone(),
            calibrated: said,
            support: None,
            like: Vec::new(),
            unlike: Vec::new(),
            target_js: None,
            target_near: Vec::new(),
            target_far: Vec::new(),
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
        let of = |(f, d): (&FeatureProfile, &Vec<distance::FeatureDistance>)| FeatureDistance {
            feature: f.name.clone(),
            js: d[source].js,
        };
        self.profiles.features.iter().zip(&self.distances.features).map(of).collect()
    }
}

/// Raw scores `[K, C]` of a row of a block.
fn score(inputs: &Inputs, active: &[usize], block: &Block, row: usize) -> Result<Vec<f64>> {
    let matrix = inputs.plan.encode(block);
    let mut raw = Vec::new();
    for &k in active {
        let classes = inputs.teachers[k].classes();
        let mut out = vec![0.0; block.rows * classes];
        inputs.teachers[k].score(&inputs.encoders[k], block, &matrix, &mut out)?;
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
