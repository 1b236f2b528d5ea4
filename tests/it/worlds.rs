//! Small worlds of teachers, histories and a target, for the tests of relevance: those of the committed
//! reference, and made ones.

use coldstart::relevance::fusion::base_rate::{ShareShift, shift};
use coldstart::relevance::fusion::columns::OwnColumns;
use coldstart::relevance::fusion::fuse::{Fused, Fuser};
use coldstart::relevance::maths::real::{LANES, Lanes};
use coldstart::relevance::profile::categories::CategorySketch;
use coldstart::relevance::profile::distance::Distances;
use coldstart::relevance::profile::numbers::NumberSketch;
use coldstart::relevance::profile::profiles::{FeatureProfile, Profiles, Summary};
use coldstart::relevance::profile::support::{Column, Support};
use coldstart::relevance::training::calculator::{Calculator, Member};
use coldstart::relevance::transfer::sources::{History, Known, SourceScores, Teacher, pseudo_rows};
use serde_json::Value;

/// A scenario: columns of numbers (NaN for null), one of text, labels, every teacher's raw scores `[K]` of
/// `[n, C]`.
#[derive(Clone)]
pub struct Scenario {
    pub numbers: Vec<Vec<f64>>,
    pub text: Vec<Option<String>>,
    pub labels: Vec<u16>,
    pub scores: Vec<Vec<f64>>,
    pub held: Option<Vec<bool>>,
    pub known: bool,
}

/// Histories, and the target last.
#[derive(Clone)]
pub struct Case {
    pub classes: usize,
    pub rows: Vec<u64>,
    pub scenarios: Vec<Scenario>,
}

pub struct Outcome {
    pub support: Vec<Vec<f64>>,
    pub profiles: Profiles,
    pub distances: Distances,
    pub calculator: Calculator,
    pub fused: Vec<Fused>,
}

impl Case {
    pub fn teachers(&self) -> usize {
        self.scenarios.len() - 1
    }

    pub fn run(&self) -> Outcome {
        let (k, c) = (self.teachers(), self.classes);
        let profiles = self.profiles(true);
        let support: Vec<Vec<f64>> = self.scenarios.iter().map(|s| s.support(&profiles)).collect();
        let distances = Distances::new(&profiles);
        let teachers = (0..k).map(|q| self.teacher(q, &support[q])).collect();
        let members = (0..k).map(|q| Member { name: format!("t{q}"), digest: format!("d{q}") }).collect();
        let world = SourceScores::new(teachers, c).expect("a world");
        let classes = (0..c).map(|c| format!("c{c}")).collect();
        let calculator =
            Calculator::train(&world, profiles.clone(), members, classes, None).expect("a calculator");
        let blend = calculator.blend(&distances).expect("a blend");
        let target = &self.scenarios[k];
        let rows: Vec<Vec<f64>> = (0..target.labels.len())
            .map(|i| target.scores.iter().flat_map(|s| &s[i * c..(i + 1) * c]).copied().collect())
            .collect();
        let own = columns_of(rows.iter().cloned().zip(support[k].chunks_exact(k)));
        let mut means = blend.means();
        blend.add(&own.columns(), &mut means);
        let fuser = Fuser::new(blend, &means);
        let mut room = fuser.scratch();
        let fuse = |(i, raw): (usize, &Vec<f64>)| {
            fuser.row(raw, &support[k][i * k..(i + 1) * k], &mut room);
            room.clone()
        };
        let fused = rows.iter().enumerate().map(fuse).collect();
        Outcome { support, profiles, distances, calculator, fused }
    }

    pub fn profiles(&self, with_target: bool) -> Profiles {
        let k = self.teachers();
        let sources: Vec<usize> = (0..k).filter(|q| self.scenarios[*q].known).collect();
        let summaries: Vec<Vec<Summary>> = self.scenarios.iter().map(Scenario::summaries).collect();
        let feature = |j: usize| {
            let histories: Vec<&Summary> = sources.iter().map(|q| &summaries[*q][j]).collect();
            FeatureProfile::new(&format!("f{j}"), &histories, with_target.then(|| &summaries[k][j]))
                .expect("one kind")
        };
        let features = (0..summaries[k].len()).map(feature).collect();
        Profiles { teachers: k, sources, features }
    }

    pub fn teacher(&self, q: usize, support: &[f64]) -> Teacher {
        let s = &self.scenarios[q];
        let k = self.teachers();
        let support =
            pseudo_rows(s.labels.len()).iter().flat_map(|r| &support[r * k..(r + 1) * k]).copied().collect();
        let history =
            History { labels: s.labels.clone(), held_out: s.held.clone(), scores: s.scores.clone(), support };
        Teacher {
            name: format!("t{q}"),
            rows: self.rows[q],
            history: s.known.then_some(Known::Rows(history)),
        }
    }

    /// The teachers in another order.
    pub fn reordered(&self, order: &[usize]) -> Case {
        let mut scenarios: Vec<Scenario> = order.iter().map(|&k| self.scenarios[k].clone()).collect();
        scenarios.push(self.scenarios[self.teachers()].clone());
        for s in &mut scenarios {
            s.scores = order.iter().map(|&k| s.scores[k].clone()).collect();
        }
        Case { classes: self.classes, rows: order.iter().map(|&k| self.rows[k]).collect(), scenarios }
    }
}

impl Scenario {
    pub fn summaries(&self) -> Vec<Summary> {
        let number = |v: &Vec<f64>| {
            let mut sketch = NumberSketch::default();
            sketch.add_all(v);
            Summary::Number(sketch.summary())
        };
        let mut text = CategorySketch::default();
        self.text.iter().flatten().for_each(|v| text.add(v, 1));
        text.add_nulls(self.text.iter().filter(|v| v.is_none()).count() as u64);
        self.numbers.iter().map(number).chain([Summary::Category(text.summary())]).collect()
    }

    pub fn support(&self, profiles: &Profiles) -> Vec<f64> {
        let codes: Vec<u32> =
            self.text.iter().zip(0u32..).map(|(v, i)| if v.is_some() { i } else { u32::MAX }).collect();
        let levels = self.text.iter().map(|v| v.as_deref().unwrap_or(""));
        let bin_of = profiles.features.last().map(|f| f.bins.of_levels(levels)).unwrap_or_default();
        let columns: Vec<Column> = self
            .numbers
            .iter()
            .map(|v| Column::Number(v))
            .chain([Column::Category { codes: &codes, bin_of: &bin_of }])
            .collect();
        Support::new(profiles).rows(&columns, self.labels.len())
    }
}

pub fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(a) => a.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap_or(f64::NAN)],
    }
}

pub fn scenario(v: &Value) -> Scenario {
    let by_row: Vec<Vec<f64>> = v["numbers"].as_array().expect("rows").iter().map(numbers).collect();
    let held: Vec<bool> = v["held"].as_array().expect("flags").iter().map(|b| b == true).collect();
    Scenario {
        numbers: (0..by_row[0].len()).map(|j| by_row.iter().map(|r| r[j]).collect()).collect(),
        text: v["text"].as_array().expect("texts").iter().map(|t| t.as_str().map(str::to_owned)).collect(),
        labels: numbers(&v["y"]).iter().map(|y| *y as u16).collect(),
        scores: v["scores"].as_array().expect("scores").iter().map(numbers).collect(),
        held: Some(held),
        known: v["known"] == true,
    }
}

pub fn cases() -> Vec<(String, Case, Value)> {
    let text = include_str!("../../fixtures/relevance/cases.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let case = |v: &Value| {
        let scenarios: Vec<Scenario> =
            v["scenarios"].as_array().expect("scenarios").iter().map(scenario).collect();
        let classes = scenarios[0].scores[0].len() / scenarios[0].labels.len();
        let rows = numbers(&v["rows"]).iter().map(|r| *r as u64).collect();
        (
            v["name"].as_str().unwrap_or_default().to_owned(),
            Case { classes, rows, scenarios },
            v["expected"].clone(),
        )
    };
    all.as_array().expect("cases").iter().map(case).collect()
}

/// Raw scores and support of rows, by columns.
pub fn columns_of<'a>(rows: impl Iterator<Item = (Vec<f64>, &'a [f64])>) -> OwnColumns {
    let mut own = OwnColumns { raw: Vec::new(), support: Vec::new() };
    for (raw, support) in rows {
        own.raw.resize(raw.len(), Vec::new());
        own.support.resize(support.len(), Vec::new());
        own.raw.iter_mut().zip(&raw).for_each(|(column, v)| column.push(*v));
        own.support.iter_mut().zip(support).for_each(|(column, v)| column.push(*v));
    }
    own
}

pub fn search(fused: &[Fused], shares: Vec<f64>) -> Vec<f64> {
    let mut search = ShareShift::new(shares);
    while !search.done() {
        let mut sums = search.sums();
        for rows in fused.chunks(LANES) {
            let mut z = vec![Lanes::default(); rows[0].z.len()];
            rows.iter().enumerate().for_each(|(i, f)| z.iter_mut().zip(&f.z).for_each(|(z, v)| z.0[i] = *v));
            sums.add(&z, rows.len());
        }
        search.update(&sums);
    }
    search.constants().to_vec()
}

pub fn moved(fused: &[Fused], constants: &[f64]) -> Vec<f64> {
    let mut z = flat(fused, |f| &f.z);
    z.chunks_exact_mut(constants.len()).for_each(|z| shift(z, constants));
    z
}

/// A generator of numbers in [0, 1); the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.roll()).sum::<f64>() - 6.0
    }
}

/// `teachers` scenarios around different centres, each with its own slope of one feature, and a target that
/// repeats the features and the law of scenario `like`.
pub fn made_world(seed: u64, teachers: usize, n: usize, like: usize) -> Case {
    related_world(seed, teachers, n, like, 0.8)
}

/// The same with laws that differ by `variety`; 0 for the same law everywhere.
pub fn related_world(seed: u64, teachers: usize, n: usize, like: usize, variety: f64) -> Case {
    let mut dice = Dice(seed);
    let centre: Vec<f64> = (0..teachers).map(|k| k as f64 - teachers as f64 / 2.0).collect();
    let slope: Vec<f64> = (0..teachers).map(|k| 0.4 + if k % 2 == 0 { variety } else { -variety }).collect();
    let logit = |k: usize, a: f64, b: f64| 1.5 * b + slope[k] * (a - centre[k] * variety.min(1.0));
    let scenarios = (0..=teachers).map(|s| {
        let own = if s == teachers { like } else { s };
        let a: Vec<f64> = (0..n).map(|_| centre[own] + dice.bell()).collect();
        let b: Vec<f64> = (0..n).map(|_| dice.bell()).collect();
        let labels =
            (0..n).map(|i| u16::from(dice.roll() < 1.0 / (1.0 + (-logit(own, a[i], b[i])).exp()))).collect();
        let score = |k: usize| {
            (0..n)
                .flat_map(|i| {
                    [1.0 / (1.0 + logit(k, a[i], b[i]).exp()), 1.0 / (1.0 + (-logit(k, a[i], b[i])).exp())]
                })
                .collect()
        };
        let scores = (0..teachers).map(score).collect();
        Scenario {
            text: vec![Some("x".into()); n],
            numbers: vec![a, b],
            labels,
            scores,
            held: Some((0..n).map(|i| i % 4 == 0).collect()),
            known: true,
        }
    });
    Case { classes: 2, rows: vec![2000; teachers], scenarios: scenarios.collect() }
}

/// One part of every row, row after row.
pub fn flat(rows: &[Fused], part: impl Fn(&Fused) -> &Vec<f64>) -> Vec<f64> {
    rows.iter().flat_map(|r| part(r).clone()).collect()
}
