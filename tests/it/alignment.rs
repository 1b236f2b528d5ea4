//! Teachers that are aligned to one level of class shares.

use crate::worlds::{Case, Outcome, cases, columns_of, made_world, related_world};
use coldstart::relevance::fusion::alignment::{MOST_ROWS, Sample};
use coldstart::relevance::fusion::base_rate::ShareRange;
use coldstart::relevance::fusion::columns::Columns;
use coldstart::relevance::fusion::fuse::{Fused, Fuser};
use coldstart::relevance::training::leave_one_out::tilt;
use coldstart::relevance::training::rehearsal::Rehearsal;

/// Fuses the target again with aligned teachers; rows are keyed by their number.
fn aligned(
    case: &Case,
    outcome: &Outcome,
    shares: &[ShareRange],
    order: impl Iterator<Item = usize>,
) -> (Fuser, Vec<Fused>) {
    let (k, c) = (case.teachers(), case.classes);
    let target = &case.scenarios[k];
    let raw = |i: usize| -> Vec<f64> {
        target.scores.iter().flat_map(|s| &s[i * c..(i + 1) * c]).copied().collect()
    };
    let support = |i: usize| &outcome.support[k][i * k..(i + 1) * k];
    let blend = outcome.calculator.blend(&outcome.distances).expect("a blend");
    let (mut means, rows) = (blend.means(), target.labels.len());
    let own = columns_of((0..rows).map(|i| (raw(i), support(i))));
    blend.add(&own.columns(), &mut means);
    let mut sample = Sample::default();
    order.for_each(|i| sample.add(i as u64, &own.columns(), i));
    let fuser = outcome.calculator.align(&Fuser::new(blend, &means), &sample.finish().columns(), shares);
    let mut room = fuser.scratch();
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
        (0..case.classes)
            .for_each(|c| assert!((mean_of(&fused, c) - mean_of(&outcome.fused, c)).abs() < 1e-9, "{name}"));
        let (_, told) = aligned(
            &case,
            &outcome,
            &[ShareRange { class: 1, low: 0.3, high: 0.3 }],
            0..case.scenarios[case.teachers()].labels.len(),
        );
        assert!((mean_of(&told, 1) - 0.3).abs() < 1e-9, "{name}");
        assert!(told.iter().all(|f| (f.label.iter().sum::<f64>() - 1.0).abs() < 1e-12
            && (f.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    }
}

#[test]
fn alignment_does_not_depend_on_the_order_of_rows() {
    for (_, case, _) in cases() {
        let outcome = case.run();
        let n = case.scenarios[case.teachers()].labels.len();
        let (ours, other) =
            (aligned(&case, &outcome, &[], 0..n).1, aligned(&case, &outcome, &[], (0..n).rev()).1);
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
    let gap = |x: &[Fused], y: &[Fused]| {
        x.iter().zip(y).map(|(a, b)| (a.label[1] - b.label[1]).abs()).fold(0.0, f64::max)
    };
    assert!(gap(&plain, &moved) < 0.02 && gap(&a.fused, &b.fused) > 0.03);
}

#[test]
fn a_sample_keeps_the_same_rows_however_they_come() {
    let rows: Vec<(u64, f64)> =
        (0..3 * MOST_ROWS as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i as f64)).collect();
    let values: Vec<f64> = rows.iter().map(|row| row.1).collect();
    let columns = Columns { raw: vec![&values], support: vec![&values] };
    let mut whole = Sample::default();
    rows.iter().enumerate().for_each(|(row, (key, _))| whole.add(*key, &columns, row));
    let mut merged = Sample::default();
    let order: Vec<usize> = (0..rows.len()).collect();
    for part in order.rchunks(MOST_ROWS / 2 + 1) {
        let mut sample = Sample::default();
        part.iter().rev().for_each(|&row| sample.add(rows[row].0, &columns, row));
        merged.merge(sample);
    }
    assert_eq!(whole.finish(), merged.finish());
}

#[test]
fn distance_alone_is_trusted_only_where_the_rehearsal_proves_it() {
    let table = made_world(31, 4, 200, 1).run().calculator.rehearsals;
    let told = |gains: [f64; 4]| {
        let row = |(row, gain): (&Rehearsal, f64)| Rehearsal {
            js: row.aligned * (-gain).exp(),
            js_with_shares: row.with_shares,
            ..row.clone()
        };
        tilt(&table.iter().zip(gains).map(row).collect::<Vec<_>>(), false)
    };
    assert_eq!(told([0.02, 0.02, 0.02, 0.02]), 0.0);
    assert!((told([0.08, 0.08, 0.08, 0.08]) - 0.5).abs() < 1e-9);
    assert_eq!(told([0.2, 0.3, 0.2, 0.2]), 1.0);
    assert_eq!(told([1.0, 1.0, -0.01, -0.01]), 0.0);
    assert_eq!(tilt(&[], false), 0.0);
    assert_eq!(
        tilt(
            &table
                .iter()
                .map(|r| Rehearsal { js: 0.0, js_with_shares: r.with_shares, ..r.clone() })
                .collect::<Vec<_>>(),
            true
        ),
        0.0
    );
}
