//! The relevance method against committed reference values, and what must hold for any world.

use coldstart::relevance::alignment::{MOST_ROWS, Sample};
use coldstart::relevance::base_rate::{ShareRange, ShareShift, shift, shift_to_labels, wanted_shares};
use coldstart::relevance::bins::Bins;
use coldstart::relevance::calculator::{Calculator, Member};
use coldstart::relevance::distance::Distances;
use coldstart::relevance::duplicates::Differences;
use coldstart::relevance::fuse::{Fused, Fuser};
use coldstart::relevance::levels::CategorySketch;
use coldstart::relevance::profiles::{FeatureProfile, Profiles, Summary};
use coldstart::relevance::rehearsal::{Rehearsal, tilt};
use coldstart::relevance::sketch::NumberSketch;
use coldstart::relevance::sum::ExactMeans;
use coldstart::relevance::support::{Column, Support};
use coldstart::relevance::world::{History, Teacher, World};
use serde_json::Value;

/// A scenario: columns of numbers (NaN for null), one of text, labels, every teacher's raw scores `[K]` of `[n, C]`.
#[derive(Clone)]
struct Scenario {
    numbers: Vec<Vec<f64>>,
    text: Vec<Option<String>>,
    labels: Vec<u16>,
    scores: Vec<Vec<f64>>,
    held: Option<Vec<bool>>,
    known: bool,
}

/// Histories, and the target last.
#[derive(Clone)]
struct Case {
    classes: usize,
    rows: Vec<u64>,
    scenarios: Vec<Scenario>,
}

struct Outcome {
    support: Vec<Vec<f64>>,
    profiles: Profiles,
    distances: Distances,
    calculator: Calculator,
    fused: Vec<Fused>,
}

impl Case {
    fn teachers(&self) -> usize {
        self.scenarios.len() - 1
    }

    fn run(&self) -> Outcome {
        let (k, c) = (self.teachers(), self.classes);
        let profiles = self.profiles(true);
        let support: Vec<Vec<f64>> = self.scenarios.iter().map(|s| s.support(&profiles)).collect();
        let distances = Distances::new(&profiles);
        let teachers = (0..k).map(|q| self.teacher(q, &support[q])).collect();
        let members = (0..k).map(|q| Member { name: format!("t{q}"), digest: format!("d{q}") }).collect();
        let world = World::new(teachers, c).expect("a world");
        let classes = (0..c).map(|c| format!("c{c}")).collect();
        let calculator = Calculator::train(&world, profiles.clone(), members, classes).expect("a calculator");
        let blend = calculator.blend(&distances).expect("a blend");
        let target = &self.scenarios[k];
        let rows: Vec<Vec<f64>> =
            (0..target.labels.len()).map(|i| target.scores.iter().flat_map(|s| &s[i * c..(i + 1) * c]).copied().collect()).collect();
        let (mut means, mut scratch) = (blend.means(), Vec::new());
        rows.iter().for_each(|r| blend.add(r, &mut scratch, &mut means));
        let fuser = Fuser::new(blend, &means);
        let mut room = fuser.room();
        let fuse = |(i, raw): (usize, &Vec<f64>)| {
            fuser.row(raw, &support[k][i * k..(i + 1) * k], &mut room);
            room.clone()
        };
        let fused = rows.iter().enumerate().map(fuse).collect();
        Outcome { support, profiles, distances, calculator, fused }
    }

    fn profiles(&self, with_target: bool) -> Profiles {
        let k = self.teachers();
        let sources: Vec<usize> = (0..k).filter(|q| self.scenarios[*q].known).collect();
        let summaries: Vec<Vec<Summary>> = self.scenarios.iter().map(Scenario::summaries).collect();
        let feature = |j: usize| {
            let histories: Vec<&Summary> = sources.iter().map(|q| &summaries[*q][j]).collect();
            FeatureProfile::new(&format!("f{j}"), &histories, with_target.then(|| &summaries[k][j])).expect("one kind")
        };
        let features = (0..summaries[k].len()).map(feature).collect();
        Profiles { teachers: k, sources, features }
    }

    fn teacher(&self, q: usize, support: &[f64]) -> Teacher {
        let s = &self.scenarios[q];
        let history = History { labels: s.labels.clone(), held_out: s.held.clone(), scores: s.scores.clone(), support: support.to_vec() };
        Teacher { name: format!("t{q}"), rows: self.rows[q], history: s.known.then_some(history) }
    }

    /// The teachers in another order.
    fn reordered(&self, order: &[usize]) -> Case {
        let mut scenarios: Vec<Scenario> = order.iter().map(|&k| self.scenarios[k].clone()).collect();
        scenarios.push(self.scenarios[self.teachers()].clone());
        for s in &mut scenarios {
            s.scores = order.iter().map(|&k| s.scores[k].clone()).collect();
        }
        Case { classes: self.classes, rows: order.iter().map(|&k| self.rows[k]).collect(), scenarios }
    }
}

impl Scenario {
    fn summaries(&self) -> Vec<Summary> {
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

    fn support(&self, profiles: &Profiles) -> Vec<f64> {
        let codes: Vec<u32> = self.text.iter().zip(0u32..).map(|(v, i)| if v.is_some() { i } else { u32::MAX }).collect();
        let levels = self.text.iter().map(|v| v.as_deref().unwrap_or(""));
        let bin_of = profiles.features.last().map(|f| f.bins.of_levels(levels)).unwrap_or_default();
        let columns: Vec<Column> =
            self.numbers.iter().map(|v| Column::Number(v)).chain([Column::Category { codes: &codes, bin_of: &bin_of }]).collect();
        Support::new(profiles).rows(&columns, self.labels.len())
    }
}

// ---------------------------------------------------------------- reference values

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(a) => a.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap_or(f64::NAN)],
    }
}

fn scenario(v: &Value) -> Scenario {
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

fn cases() -> Vec<(String, Case, Value)> {
    let text = include_str!("../../fixtures/relevance/cases.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let case = |v: &Value| {
        let scenarios: Vec<Scenario> = v["scenarios"].as_array().expect("scenarios").iter().map(scenario).collect();
        let classes = scenarios[0].scores[0].len() / scenarios[0].labels.len();
        let rows = numbers(&v["rows"]).iter().map(|r| *r as u64).collect();
        (v["name"].as_str().unwrap_or_default().to_owned(), Case { classes, rows, scenarios }, v["expected"].clone())
    };
    all.as_array().expect("cases").iter().map(case).collect()
}

fn close(what: &str, ours: &[f64], theirs: &Value) {
    let theirs = numbers(theirs);
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= 1e-6 || a.is_nan() && b.is_nan(), "{what}[{i}]: {a} is not {b}");
    }
}

fn flat(rows: &[Fused], part: impl Fn(&Fused) -> &Vec<f64>) -> Vec<f64> {
    rows.iter().flat_map(|r| part(r).clone()).collect()
}

#[test]
fn features_give_the_reference_bins_support_and_distances() {
    for (name, case, expected) in cases() {
        let outcome = case.run();
        for (feature, edges) in outcome.profiles.features.iter().zip(expected["edges"].as_array().expect("edges")) {
            match &feature.bins {
                Bins::Number(ours) => close(&name, ours, edges),
                Bins::Category(levels) => assert_eq!(serde_json::json!(levels), *edges, "{name}"),
            }
        }
        close(&name, &outcome.distances.js, &expected["js"]);
        let known = (0..case.scenarios.len()).filter(|a| case.scenarios[*a].known || *a == case.teachers());
        known.for_each(|a| close(&name, &outcome.support[a], &expected["s"][a]));
    }
}

#[test]
fn training_gives_the_reference_calibration_cross_loss_and_theta() {
    for (name, case, expected) in cases() {
        let Outcome { calculator, .. } = case.run();
        let calibrations: Vec<f64> = calculator.calibrations.iter().flat_map(|c| std::iter::once(c.slope).chain(c.bias.clone())).collect();
        close(&format!("{name}: calibration"), &calibrations, &expected["calibration"]);
        close(&format!("{name}: slope"), &calculator.judgement.slopes, &expected["slope"]);
        let losses: Vec<f64> = calculator.judgement.cross_loss.concat().iter().map(|m| m.unwrap_or(f64::NAN)).collect();
        close(&format!("{name}: M"), &losses, &expected["cross_loss"]);
        close(&format!("{name}: V"), &calculator.judgement.relative.concat(), &expected["relative"]);
        close(&format!("{name}: theta"), &calculator.theta.to_array(), &expected["theta"]);
        let table = expected["rehearsals"].as_array().expect("a table");
        assert_eq!(calculator.rehearsals.len(), table.len());
        assert_eq!(calculator.trained, !table.is_empty());
        for (ours, theirs) in calculator.rehearsals.iter().zip(table) {
            close(
                &name,
                &[ours.own_uniform, ours.theta0, ours.theta],
                &serde_json::json!([theirs["uniform"], theirs["theta0"], theirs["theta"]]),
            );
        }
    }
}

#[test]
fn soft_labels_and_rivals_are_those_of_the_reference() {
    for (name, case, expected) in cases() {
        let Outcome { fused, .. } = case.run();
        close(&format!("{name}: uniform"), &flat(&fused, |f| &f.uniform), &expected["uniform"]);
        close(&format!("{name}: js"), &flat(&fused, |f| &f.js), &expected["by_js"]);
        close(&format!("{name}: gate"), &flat(&fused, |f| &f.gate), &expected["gate"]);
        close(&format!("{name}: default"), &flat(&fused, |f| &f.label), &expected["default"]);
        close(&format!("{name}: weights"), &flat(&fused, |f| &f.weights), &expected["weights"]);
    }
}

#[test]
fn known_shares_and_labels_move_the_base_rate_as_the_reference_does() {
    for (name, case, expected) in cases() {
        let Outcome { fused, .. } = case.run();
        let c = case.classes;
        let mut means = ExactMeans::new(c);
        fused.iter().for_each(|f| means.add(&f.label));
        let share = numbers(&expected["share_of_first"])[0];
        let shares = wanted_shares(&means.means(), &[ShareRange { class: 0, low: share, high: share }]);
        let constants = search(&fused, shares);
        close(&format!("{name}: shares"), &moved(&fused, &constants), &expected["with_shares"]);
        let few: Vec<usize> = numbers(&expected["few"]).iter().map(|i| *i as usize).collect();
        let z: Vec<f64> = few.iter().flat_map(|i| fused[*i].z.clone()).collect();
        let y: Vec<u16> = few.iter().map(|i| case.scenarios[case.teachers()].labels[*i]).collect();
        let constants = shift_to_labels(&z, &y, c).expect("enough labels");
        close(&format!("{name}: labels"), &moved(&fused, &constants), &expected["with_labels"]);
    }
}

fn search(fused: &[Fused], shares: Vec<f64>) -> Vec<f64> {
    let mut search = ShareShift::new(shares);
    while !search.done() {
        let mut sums = search.sums();
        fused.iter().for_each(|f| sums.add(&f.z));
        search.update(&sums);
    }
    search.constants().to_vec()
}

fn moved(fused: &[Fused], constants: &[f64]) -> Vec<f64> {
    let mut z = flat(fused, |f| &f.z);
    z.chunks_exact_mut(constants.len()).for_each(|z| shift(z, constants));
    z
}

// ---------------------------------------------------------------- what holds in any world

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

/// `teachers` scenarios around different centres, each with its own slope of one feature, and a target that repeats the features and the law of scenario `like`.
fn made_world(seed: u64, teachers: usize, n: usize, like: usize) -> Case {
    related_world(seed, teachers, n, like, 0.8)
}

/// The same with laws that differ by `variety`; 0 for the same law everywhere.
fn related_world(seed: u64, teachers: usize, n: usize, like: usize, variety: f64) -> Case {
    let mut dice = Dice(seed);
    let centre: Vec<f64> = (0..teachers).map(|k| k as f64 - teachers as f64 / 2.0).collect();
    let slope: Vec<f64> = (0..teachers).map(|k| 0.4 + if k % 2 == 0 { variety } else { -variety }).collect();
    let logit = |k: usize, a: f64, b: f64| 1.5 * b + slope[k] * (a - centre[k] * variety.min(1.0));
    let scenarios = (0..=teachers).map(|s| {
        let own = if s == teachers { like } else { s };
        let a: Vec<f64> = (0..n).map(|_| centre[own] + dice.bell()).collect();
        let b: Vec<f64> = (0..n).map(|_| dice.bell()).collect();
        let labels = (0..n).map(|i| u16::from(dice.roll() < 1.0 / (1.0 + (-logit(own, a[i], b[i])).exp()))).collect();
        let score = |k: usize| {
            (0..n).flat_map(|i| [1.0 / (1.0 + logit(k, a[i], b[i]).exp()), 1.0 / (1.0 + (-logit(k, a[i], b[i])).exp())]).collect()
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

fn mean_weight(outcome: &Outcome, k: usize) -> f64 {
    outcome.fused.iter().map(|f| f.weights[k]).sum::<f64>() / outcome.fused.len() as f64
}

#[test]
fn labels_and_weights_are_distributions() {
    for case in cases().into_iter().map(|(_, case, _)| case).chain([made_world(1, 5, 200, 2)]) {
        for f in case.run().fused {
            for p in [&f.label, &f.weights, &f.uniform, &f.js, &f.gate] {
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| (0.0..=1.0).contains(p)), "{p:?}");
            }
            assert!(f.disagreement >= 0.0 && f.disagreement <= (case.teachers() as f64).log2());
        }
    }
}

#[test]
fn the_order_of_teachers_changes_nothing() {
    for (name, case, _) in cases() {
        let order: Vec<usize> = (0..case.teachers()).rev().collect();
        let (ours, other) = (case.run().fused, case.reordered(&order).run().fused);
        for (a, b) in ours.iter().zip(&other) {
            a.label.iter().zip(&b.label).for_each(|(a, b)| assert!((a - b).abs() < 1e-8, "{name}: {a} {b}"));
            order.iter().enumerate().for_each(|(i, &k)| assert!((a.weights[k] - b.weights[i]).abs() < 1e-8, "{name}"));
        }
    }
}

#[test]
fn the_order_of_target_rows_changes_no_bit() {
    for (_, case, _) in cases() {
        let (k, c) = (case.teachers(), case.classes);
        let mut turned = case.clone();
        let t = &mut turned.scenarios[k];
        t.numbers.iter_mut().for_each(|v| v.reverse());
        t.text.reverse();
        t.labels.reverse();
        t.scores.iter_mut().for_each(|s| *s = s.chunks_exact(c).rev().flatten().copied().collect());
        let (ours, other) = (case.run(), turned.run());
        for (a, b) in ours.fused.iter().zip(other.fused.iter().rev()) {
            assert_eq!((&a.label, &a.weights), (&b.label, &b.weights));
        }
        let shares = vec![1.0 / c as f64; c];
        assert_eq!(search(&ours.fused, shares.clone()), search(&other.fused, shares));
    }
}

#[test]
fn a_copy_of_a_teacher_is_found_and_the_earlier_one_stays() {
    let case = made_world(2, 4, 150, 1);
    let mut differences = Differences::new(6);
    assert_eq!(differences.copies(), [None; 6]);
    let scores = &case.scenarios[4].scores;
    let nearly: Vec<f64> = scores[1].iter().map(|p| p + 5e-7).collect();
    for half in [0..150, 150..300] {
        differences.add(
            &[0, 1, 2, 3]
                .map(|k| &scores[k][half.clone()])
                .into_iter()
                .chain([&scores[0][half.clone()], &nearly[half.clone()]])
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(differences.copies(), [None, None, None, None, Some(0), Some(1)]);
}

#[test]
fn a_teacher_whose_labels_are_shuffled_loses_most_of_its_weight() {
    for seed in 3..6 {
        let case = related_world(seed, 5, 600, 0, 0.1);
        let mut shuffled = case.clone();
        let mut dice = Dice(99);
        // A model fitted to labels that tell nothing: noise around the base rate, on every scenario.
        for s in &mut shuffled.scenarios {
            s.scores[2] = (0..s.labels.len()).map(|_| 0.3 + 0.4 * dice.roll()).flat_map(|p| [1.0 - p, p]).collect();
        }
        shuffled.scenarios[2].labels.iter_mut().for_each(|y| *y = u16::from(dice.roll() < 0.5));
        let gate = |o: &Outcome| o.fused.iter().map(|f| f.parts.weights[2]).sum::<f64>() / o.fused.len() as f64;
        let (before, after) = (gate(&case.run()), gate(&shuffled.run()));
        assert!(after < 0.5 * before, "from {before} to {after}");
    }
}

#[test]
fn a_target_like_one_scenario_prefers_its_teacher() {
    for like in 0..4 {
        let outcome = made_world(7, 4, 500, like).run();
        let weights: Vec<f64> = (0..4).map(|k| mean_weight(&outcome, k)).collect();
        assert!((0..4).all(|k| k == like || weights[k] < weights[like]), "{like}: {weights:?}");
    }
}

#[test]
fn disjoint_supports_stay_finite() {
    let mut case = made_world(8, 3, 200, 0);
    case.scenarios[3].numbers.iter_mut().flatten().for_each(|v| *v += 1e9);
    case.scenarios[3].text.fill(Some("never seen".into()));
    case.scenarios[3].numbers[1][0] = f64::INFINITY;
    case.scenarios[3].numbers[1][1] = f64::NEG_INFINITY;
    let outcome = case.run();
    assert!(outcome.fused.iter().all(|f| f.label.iter().chain(&f.weights).chain([&f.support]).all(|v| v.is_finite())));
    assert!(outcome.distances.js.iter().all(|d| d.is_finite() && *d > 0.5));
}

#[test]
fn without_any_history_relevance_is_equal_and_untrained() {
    let mut case = made_world(9, 3, 100, 0);
    case.scenarios.iter_mut().take(3).for_each(|s| s.known = false);
    let outcome = case.run();
    assert!(!outcome.calculator.trained);
    assert!(outcome.fused.iter().all(|f| f.support == 0.0 && f.weights.iter().all(|w| (w - 1.0 / 3.0).abs() < 1e-12)));
}

#[test]
fn one_teacher_left_is_the_label() {
    let case = made_world(10, 2, 100, 0).reordered(&[1]);
    assert!(case.run().fused.iter().all(|f| f.weights == [1.0] && f.disagreement < 1e-12));
}

#[test]
fn a_calculator_trained_before_the_target_is_close_to_one_trained_with_it() {
    let case = made_world(11, 4, 500, 2);
    let (with, without) = (case.run(), case.profiles(false));
    let target = case.scenarios[4].summaries();
    let counted = without.with_target(&target.iter().collect::<Vec<_>>()).expect("as many features");
    let late = Distances::new(&counted);
    with.distances.js.iter().zip(&late.js).for_each(|(a, b)| assert!((a - b).abs() < 0.02, "{a} {b}"));
    assert!(Distances::new(&without).js.iter().all(|d| *d == 0.0));
}

#[test]
fn a_saved_calculator_comes_back_whole_and_is_refused_when_stale() {
    let calculator = made_world(12, 3, 100, 0).run().calculator;
    let text = serde_json::to_string(&calculator).expect("JSON");
    assert_eq!(serde_json::from_str::<Calculator>(&text).expect("the same"), calculator);
    let mut members = calculator.teachers.clone();
    members.reverse();
    assert!(calculator.check(&members, &calculator.classes).is_ok());
    members[0].digest = "other".into();
    assert!(calculator.check(&members, &calculator.classes).is_err());
    members.truncate(2);
    assert!(calculator.check(&members, &calculator.classes).is_err());
    assert!(calculator.check(&calculator.teachers, &["other".into()]).is_err());
}

// ---------------------------------------------------------------- aligned teachers

/// Fuses the target again with aligned teachers; rows are keyed by their number.
fn aligned(case: &Case, outcome: &Outcome, shares: &[ShareRange], order: impl Iterator<Item = usize>) -> (Fuser, Vec<Fused>) {
    let (k, c) = (case.teachers(), case.classes);
    let target = &case.scenarios[k];
    let raw = |i: usize| -> Vec<f64> { target.scores.iter().flat_map(|s| &s[i * c..(i + 1) * c]).copied().collect() };
    let support = |i: usize| &outcome.support[k][i * k..(i + 1) * k];
    let blend = outcome.calculator.blend(&outcome.distances).expect("a blend");
    let (mut means, mut scratch) = (blend.means(), Vec::new());
    let rows = target.labels.len();
    (0..rows).for_each(|i| blend.add(&raw(i), &mut scratch, &mut means));
    let mut sample = Sample::default();
    order.for_each(|i| sample.add(i as u64, &raw(i), support(i)));
    let fuser = outcome.calculator.align(&Fuser::new(blend, &means), sample, shares);
    let mut room = fuser.room();
    let mut fuse = |i: usize| {
        fuser.row(&raw(i), support(i), &mut room);
        room.clone()
    };
    let fused = (0..rows).map(&mut fuse).collect();
    (fuser, fused)
}

fn mean_of(fused: &[Fused], class: usize) -> f64 {
    fused.iter().map(|f| f.label[class]).sum::<f64>() / fused.len() as f64
}

#[test]
fn aligned_teachers_stay_at_the_level_of_the_reference_or_reach_the_shares_given() {
    for (name, case, _) in cases() {
        let outcome = case.run();
        let (_, fused) = aligned(&case, &outcome, &[], 0..case.scenarios[case.teachers()].labels.len());
        (0..case.classes).for_each(|c| assert!((mean_of(&fused, c) - mean_of(&outcome.fused, c)).abs() < 1e-9, "{name}"));
        let (_, told) =
            aligned(&case, &outcome, &[ShareRange { class: 1, low: 0.3, high: 0.3 }], 0..case.scenarios[case.teachers()].labels.len());
        assert!((mean_of(&told, 1) - 0.3).abs() < 1e-9, "{name}");
        assert!(
            told.iter().all(|f| (f.label.iter().sum::<f64>() - 1.0).abs() < 1e-12 && (f.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12)
        );
    }
}

#[test]
fn alignment_does_not_depend_on_the_order_of_rows() {
    for (_, case, _) in cases() {
        let outcome = case.run();
        let n = case.scenarios[case.teachers()].labels.len();
        let (ours, other) = (aligned(&case, &outcome, &[], 0..n).1, aligned(&case, &outcome, &[], (0..n).rev()).1);
        ours.iter().zip(&other).for_each(|(a, b)| assert_eq!(a.label, b.label));
    }
}

#[test]
fn a_base_rate_that_a_teacher_carries_does_not_reach_an_aligned_label() {
    let case = related_world(21, 4, 400, 1, 0.2);
    let mut biased = case.clone();
    // The same teacher, thrice as ready to say yes on the target: its ranking is untouched.
    biased.scenarios[4].scores[0].chunks_exact_mut(2).for_each(|p| {
        let yes = 3.0 * p[1] / (3.0 * p[1] + p[0]);
        (p[0], p[1]) = (1.0 - yes, yes);
    });
    let told = [ShareRange { class: 1, low: 0.4, high: 0.4 }];
    let (a, b) = (case.run(), biased.run());
    let (plain, moved) = (aligned(&case, &a, &told, 0..400).1, aligned(&biased, &b, &told, 0..400).1);
    let gap = |x: &[Fused], y: &[Fused]| x.iter().zip(y).map(|(a, b)| (a.label[1] - b.label[1]).abs()).fold(0.0, f64::max);
    assert!(gap(&plain, &moved) < 0.02 && gap(&a.fused, &b.fused) > 0.03);
}

#[test]
fn a_sample_keeps_the_same_rows_however_they_come() {
    let rows: Vec<(u64, f64)> = (0..3 * MOST_ROWS as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i as f64)).collect();
    let mut whole = Sample::default();
    rows.iter().for_each(|(key, v)| whole.add(*key, &[*v], &[0.0]));
    let mut merged = Sample::default();
    for part in rows.rchunks(MOST_ROWS / 2 + 1) {
        let mut sample = Sample::default();
        part.iter().rev().for_each(|(key, v)| sample.add(*key, &[*v], &[0.0]));
        merged.merge(sample);
    }
    assert_eq!(whole.finish(), merged.finish());
}

#[test]
fn distance_alone_is_trusted_only_where_the_rehearsal_proves_it() {
    let table = made_world(31, 4, 200, 1).run().calculator.rehearsals;
    let told = |gains: [f64; 4]| {
        let row =
            |(row, gain): (&Rehearsal, f64)| Rehearsal { js: row.aligned * (-gain).exp(), js_with_shares: row.with_shares, ..row.clone() };
        tilt(&table.iter().zip(gains).map(row).collect::<Vec<_>>(), false)
    };
    assert_eq!(told([0.02, 0.02, 0.02, 0.02]), 0.0);
    assert!((told([0.08, 0.08, 0.08, 0.08]) - 0.5).abs() < 1e-9);
    assert_eq!(told([0.2, 0.3, 0.2, 0.2]), 1.0);
    assert_eq!(told([1.0, 1.0, -0.01, -0.01]), 0.0);
    assert_eq!(tilt(&[], false), 0.0);
    assert_eq!(
        tilt(&table.iter().map(|r| Rehearsal { js: 0.0, js_with_shares: r.with_shares, ..r.clone() }).collect::<Vec<_>>(), true),
        0.0
    );
}
