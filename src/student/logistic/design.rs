//! From columns to the inputs of a linear function: slot 0 is the constant 1, the others are what the columns
//! become.

use ndarray::Array2;
use rayon::prelude::*;

use crate::error::Result;
use crate::student::logistic::linear::Logistic;
use crate::student::sample::{Kind, Sample, level};
use crate::student::saved::Term;

/// Levels of a category that have a weight.
const MAX_LEVELS: usize = 40;

/// What a column becomes.
pub enum Column {
    /// The same in every row: nothing.
    Constant,
    /// (x - mean) / deviation in one slot, null 0; and where nulls occur, 1 for null in the next.
    Number { mean: f64, deviation: f64, nulls: bool },
    /// 1 in the slot of the level; 0 is no slot (rare, unknown, null).
    Category { slot_of: Vec<u32> },
}

/// The columns of a sample, each with its first slot.
pub struct Design {
    pub columns: Vec<(Column, usize)>,
    width: usize,
}

impl Design {
    pub fn new(sample: &Sample) -> Design {
        let found: Vec<Column> =
            (0..sample.columns.len()).into_par_iter().map(|j| column(sample, j)).collect();
        let mut width = 1;
        let mut place = |mut column: Column| {
            let first = width;
            width += match &mut column {
                Column::Constant => 0,
                Column::Number { nulls, .. } => 1 + usize::from(*nulls),
                Column::Category { slot_of } => {
                    let kept = slot_of.iter().filter(|s| **s > 0).count();
                    slot_of.iter_mut().filter(|s| **s > 0).for_each(|s| *s += first as u32 - 1);
                    kept
                }
            };
            (column, first)
        };
        let columns = found.into_iter().map(&mut place).collect();
        Design { columns, width }
    }

    /// Number of slots, with the constant.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Linear functions that this many classes need.
    pub fn outputs(&self, classes: usize) -> usize {
        if classes == 2 { 1 } else { classes }
    }

    /// All rows as inputs without the constant, [n, width - 1].
    pub fn matrix(&self, sample: &Sample) -> Array2<f64> {
        let mut out = Array2::zeros((sample.rows(), self.width - 1));
        for ((column, first), values) in self.columns.iter().zip(sample.columns) {
            for (row, &x) in values.iter().enumerate() {
                match column {
                    Column::Constant => {}
                    Column::Number { nulls, .. } if x.is_nan() && *nulls => out[[row, *first]] = 1.0,
                    Column::Number { mean, deviation, .. } => {
                        out[[row, first - 1]] = (f64::from(x) - mean) / deviation
                    }
                    Column::Category { slot_of } => {
                        if let Some(slot) =
                            level(x, slot_of.len()).map(|at| slot_of[at]).filter(|slot| *slot > 0)
                        {
                            out[[row, slot as usize - 1]] = 1.0;
                        }
                    }
                }
            }
        }
        out
    }

    /// The model of a solution `[outputs][width]`; with two classes the first one's function is 0.
    pub fn model(&self, sample: &Sample, solution: &[f64]) -> Result<Logistic> {
        let classes = sample.classes;
        let first = classes - solution.len() / self.width;
        let at = |slot: usize| {
            (0..classes)
                .map(|c| if c < first { 0.0 } else { solution[(c - first) * self.width + slot] })
                .collect::<Vec<f64>>()
        };
        let term = |(column, slot): &(Column, usize)| match column {
            Column::Constant => Term::Nothing,
            Column::Number { mean, deviation, nulls } => Term::Number {
                mean: *mean,
                deviation: *deviation,
                weight: at(*slot),
                null: nulls.then(|| at(slot + 1)),
            },
            Column::Category { slot_of } => {
                let (levels, weights) = slot_of
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| **s > 0)
                    .map(|(level, s)| (level as u32, at(*s as usize)))
                    .unzip();
                Term::Category { levels, weights }
            }
        };
        Logistic::new(sample.kinds.to_vec(), classes, at(0), self.columns.iter().map(term).collect())
    }
}

fn column(sample: &Sample, j: usize) -> Column {
    match sample.kinds[j] {
        Kind::Number => number(sample.columns[j], sample.weights),
        Kind::Category { levels } => category(sample.columns[j], sample.weights, levels),
    }
}

/// Weighted mean and deviation, in two passes.
fn number(column: &[f32], weights: &[f64]) -> Column {
    let known = || column.iter().zip(weights).filter(|(x, _)| !x.is_nan()).map(|(x, w)| (f64::from(*x), *w));
    let nulls = column.iter().any(|x| x.is_nan());
    let mass: f64 = known().map(|(_, w)| w).sum();
    if mass <= 0.0 {
        return Column::Constant;
    }
    let mean = known().map(|(x, w)| w * x).sum::<f64>() / mass;
    let deviation = (known().map(|(x, w)| w * (x - mean) * (x - mean)).sum::<f64>() / mass).sqrt();
    // what remains of a constant column is rounding
    let constant = deviation <= 1e-9 * mean.abs() || deviation <= f64::from(f32::MIN_POSITIVE);
    match (constant, nulls) {
        (true, false) => Column::Constant,
        (true, true) => Column::Number { mean, deviation: f64::from(f32::MAX), nulls },
        (false, _) => Column::Number { mean, deviation, nulls },
    }
}

/// The heaviest levels, ties by position, get slots 1, 2, ... of this column.
fn category(column: &[f32], weights: &[f64], levels: usize) -> Column {
    let mut mass = vec![0.0; levels];
    for (x, w) in column.iter().zip(weights) {
        if let Some(at) = level(*x, levels) {
            mass[at] += w;
        }
    }
    let mut order: Vec<usize> = (0..levels).filter(|&at| mass[at] > 0.0).collect();
    order.sort_by(|&a, &b| mass[b].total_cmp(&mass[a]).then(a.cmp(&b)));
    order.truncate(MAX_LEVELS);
    let mut slot_of = vec![0; levels];
    order.iter().enumerate().for_each(|(i, &at)| slot_of[at] = i as u32 + 1);
    Column::Category { slot_of }
}
