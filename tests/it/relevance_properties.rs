//! What holds for relevance in any world.

use crate::worlds::{Dice, Outcome, cases, made_world, related_world, search};
use coldstart::relevance::profile::distance::Distances;
use coldstart::relevance::training::calculator::Calculator;
use coldstart::relevance::transfer::duplicates::Differences;

fn mean_weight(outcome: &Outcome, k: usize) -> f64 {
    outcome.fused.iter().map(|f| f.weights[k]).sum::<f64>() / outcome.fused.len() as f64
}

#[test]
fn labels_and_weights_are_distributions() {
    for case in cases().into_iter().map(|(_, case, _)| case).chain([made_world(1, 5, 200, 2)]) {
        for f in case.run().fused {
            for p in [&f.label, &f.weights, &f.uniform, &f.js, &f.gate] {
                assert!(
                    (p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| (0.0..=1.0).contains(p)),
                    "{p:?}"
                );
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
            order
                .iter()
                .enumerate()
                .for_each(|(i, &k)| assert!((a.weights[k] - b.weights[i]).abs() < 1e-8, "{name}"));
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
            s.scores[2] =
                (0..s.labels.len()).map(|_| 0.3 + 0.4 * dice.roll()).flat_map(|p| [1.0 - p, p]).collect();
        }
        shuffled.scenarios[2].labels.iter_mut().for_each(|y| *y = u16::from(dice.roll() < 0.5));
        let gate =
            |o: &Outcome| o.fused.iter().map(|f| f.parts.weights[2]).sum::<f64>() / o.fused.len() as f64;
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
    assert!(
        outcome.fused.iter().all(|f| f
            .label
            .iter()
            .chain(&f.weights)
            .chain([&f.support])
            .all(|v| v.is_finite()))
    );
    assert!(outcome.distances.js.iter().all(|d| d.is_finite() && *d > 0.5));
}

#[test]
fn without_any_history_relevance_is_equal_and_untrained() {
    let mut case = made_world(9, 3, 100, 0);
    case.scenarios.iter_mut().take(3).for_each(|s| s.known = false);
    let outcome = case.run();
    assert!(!outcome.calculator.trained);
    assert!(
        outcome
            .fused
            .iter()
            .all(|f| f.support == 0.0 && f.weights.iter().all(|w| (w - 1.0 / 3.0).abs() < 1e-12))
    );
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
