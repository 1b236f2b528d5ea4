//! What one pass over a column keeps: the same whatever the order, exact where it says so.

use crate::worlds::Dice;
use coldstart::relevance::profile::categories::{CategorySketch, MOST_LEVELS};
use coldstart::relevance::profile::numbers::{EXACT, NumberSketch};

#[test]
fn a_sketch_depends_on_the_values_and_not_on_their_order() {
    let mut dice = Dice(13);
    for n in [0, 1, 100, EXACT, EXACT + 1, 3 * EXACT] {
        let values: Vec<f64> = (0..n)
            .map(|i| if i % 50 == 0 { f64::NAN } else { (dice.bell() * 100.0).round() / 8.0 })
            .collect();
        let mut whole = NumberSketch::default();
        whole.add_all(&values);
        let mut merged = NumberSketch::default();
        for part in values.rchunks(n / 7 + 1) {
            let mut sketch = NumberSketch::default();
            sketch.add_all(&part.iter().rev().copied().collect::<Vec<_>>());
            merged.merge(&sketch);
        }
        assert_eq!(whole.summary(), merged.summary());
        assert_eq!(whole.summary().rows(), n as u64);
    }
}

#[test]
fn buckets_keep_small_integers_and_are_near_elsewhere() {
    let mut sketch = NumberSketch::default();
    let integers: Vec<f64> = (0..2 * EXACT).map(|i| (i % 8193) as f64 - 4096.0).collect();
    sketch.add_all(&integers);
    let summary = sketch.summary();
    assert!(!summary.exact);
    assert_eq!(summary.values.len(), 8193);
    assert!(summary.values.iter().zip(-4096..).all(|(v, i)| *v == f64::from(i)));
    let mut fine = NumberSketch::default();
    let values: Vec<f64> =
        (0..2 * EXACT).map(|i| ((i as f64) * 0.618_033_988_749).fract() * 2e3 - 1e3).collect();
    fine.add_all(&values);
    let summary = fine.summary();
    let mut sorted = values.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    for (i, v) in summary.order_statistics(240).iter().enumerate() {
        let exact = sorted[(2 * i + 1) * sorted.len() / 480];
        assert!(*v <= exact && exact - v <= exact.abs() / 1024.0, "{v} {exact}");
    }
    let edges = summary.order_statistics(20);
    let counted = |b: usize| sorted.iter().filter(|v| edges.partition_point(|e| e <= *v) == b).count() as u64;
    assert_eq!(summary.bin_counts(&edges)[..=20], (0..=20).map(counted).collect::<Vec<_>>());
}

#[test]
fn zero_has_one_sign_and_null_one_bin() {
    let mut sketch = NumberSketch::default();
    sketch.add_all(&[-0.0, 0.0, f64::NAN, f64::INFINITY]);
    sketch.add_nulls(2);
    let summary = sketch.summary();
    assert_eq!(
        (summary.values.as_slice(), summary.missing(), summary.infinite()),
        (&[0.0, f64::INFINITY][..], 3, 1)
    );
    assert_eq!(summary.bin_counts(&[0.0, 1.0]), [0, 2, 1, 3]);
}

#[test]
fn too_many_levels_leave_the_same_ones_whatever_the_order() {
    let levels: Vec<String> = (0..5 * MOST_LEVELS / 2).map(|i| format!("level-{i}")).collect();
    let mut whole = CategorySketch::default();
    levels.iter().for_each(|l| whole.add(l, 2));
    let mut merged = CategorySketch::default();
    for part in levels.rchunks(MOST_LEVELS / 3) {
        let mut sketch = CategorySketch::default();
        part.iter().rev().for_each(|l| sketch.add(l, 2));
        merged.merge(&sketch);
    }
    assert_eq!(whole.summary(), merged.summary());
    assert_eq!(whole.summary().levels.len(), MOST_LEVELS);
    assert_eq!(whole.summary().rows(), 2 * levels.len() as u64);
}

#[test]
fn a_coarse_summary_has_the_same_rows_and_no_more_cells_than_asked() {
    let mut sketch = NumberSketch::default();
    let mut dice = Dice(14);
    sketch.add_all(&(0..5000).map(|_| dice.bell()).collect::<Vec<_>>());
    let coarse = sketch.summary().coarse(100);
    assert_eq!(coarse.rows(), 5000);
    assert_eq!(coarse.counts.iter().sum::<u64>(), 5000);
    assert!(coarse.values.len() <= 101 && !coarse.exact);
}
