//! Which features a student looks at: permutation importance (Breiman 2001), of the student against itself, so
//! that no label is needed.

use rayon::prelude::*;

use crate::student::Student;

/// Rows that are looked at, at most and at least, predictions in all, and terms that a linear student adds up for
/// them.
const ROWS: usize = 2000;
const LEAST_ROWS: usize = 32;
const PREDICTIONS: usize = 400_000;
const TERMS: usize = 400_000_000;
/// Probabilities below this count as this in a logarithm.
const TINY: f64 = 1e-12;

/// For each column `[d][n]` the mean KL(as it is || with the column's values moved by half the rows), as a share
/// of the sum of all; zeros where nothing matters.
pub fn importances(student: &dyn Student, columns: &[Vec<f32>]) -> Vec<f64> {
    let width = columns.len().max(1);
    let affordable = (PREDICTIONS / width).min(TERMS / (width * width * student.classes()));
    let rows = columns.first().map_or(0, Vec::len).min(ROWS).min(affordable.max(LEAST_ROWS));
    let as_it_is: Vec<&[f32]> = columns.iter().map(|c| &c[..rows.min(c.len())]).collect();
    let predict = |columns: &[&[f32]]| {
        let mut p = vec![0.0; rows * student.classes()];
        student.predict(columns, &mut p);
        p
    };
    let base = predict(&as_it_is);
    let rise = |j: usize| {
        let mut moved = as_it_is[j].to_vec();
        // the rows are in the order of hashes: half a turn is as good as any shuffle
        moved.rotate_left(rows / 2);
        let mut columns = as_it_is.clone();
        columns[j] = &moved;
        let p = predict(&columns);
        let gap = |(a, b): (&f64, &f64)| if *a > 0.0 { a * (a.max(TINY) / b.max(TINY)).ln() } else { 0.0 };
        (base.iter().zip(&p).map(gap).sum::<f64>() / rows.max(1) as f64).max(0.0)
    };
    let rises: Vec<f64> =
        (0..columns.len()).into_par_iter().map(|j| if student.uses(j) { rise(j) } else { 0.0 }).collect();
    let all: f64 = rises.iter().sum();
    rises.iter().map(|r| if all > 0.0 { r / all } else { 0.0 }).collect()
}
