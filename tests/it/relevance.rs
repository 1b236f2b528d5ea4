//! The relevance method against committed reference values.

use crate::worlds::{Outcome, cases, flat, moved, numbers, search};
use coldstart::relevance::fusion::base_rate::{LABEL_RIDGE, ShareRange, shift_to_labels, wanted_shares};
use coldstart::relevance::maths::exact_sum::ExactMeans;
use coldstart::relevance::profile::bins::Bins;
use serde_json::Value;

fn close(what: &str, ours: &[f64], theirs: &Value) {
    let theirs = numbers(theirs);
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= 1e-6 || a.is_nan() && b.is_nan(), "{what}[{i}]: {a} is not {b}");
    }
}

#[test]
fn features_give_the_reference_bins_support_and_distances() {
    for (name, case, expected) in cases() {
        let outcome = case.run();
        for (feature, edges) in
            outcome.profiles.features.iter().zip(expected["edges"].as_array().expect("edges"))
        {
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
        let calibrations: Vec<f64> = calculator
            .calibrations
            .iter()
            .flat_map(|c| std::iter::once(c.slope).chain(c.bias.clone()))
            .collect();
        close(&format!("{name}: calibration"), &calibrations, &expected["calibration"]);
        close(&format!("{name}: slope"), &calculator.judgement.slopes, &expected["slope"]);
        let losses: Vec<f64> =
            calculator.judgement.cross_loss.concat().iter().map(|m| m.unwrap_or(f64::NAN)).collect();
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
        fused.iter().for_each(|f| means.add_rows(&f.label, 1));
        let share = numbers(&expected["share_of_first"])[0];
        let shares = wanted_shares(&means.means(), &[ShareRange { class: 0, low: share, high: share }]);
        let constants = search(&fused, shares);
        close(&format!("{name}: shares"), &moved(&fused, &constants), &expected["with_shares"]);
        let few: Vec<usize> = numbers(&expected["few"]).iter().map(|i| *i as usize).collect();
        let z: Vec<f64> = few.iter().flat_map(|i| fused[*i].z.clone()).collect();
        let y: Vec<u16> = few.iter().map(|i| case.scenarios[case.teachers()].labels[*i]).collect();
        let constants = shift_to_labels(&z, &y, c, LABEL_RIDGE).expect("enough labels");
        close(&format!("{name}: labels"), &moved(&fused, &constants), &expected["with_labels"]);
    }
}
