//! smartcore's extra trees, fitted to probabilities: one regressor a class (with two, of the second alone),
//! their means normalised.
//!
//! smartcore gets a matrix without nulls: a number's null is its mean; a level of a category is the mean soft
//! label of its rows (a matrix for each class), an unknown one or null the mean of all. Trees are grown side
//! by side, each lot with its own seed, and read out into the neutral form, so that smartcore is needed for
//! the fit alone.

use std::ops::Range;

use rayon::prelude::*;
use serde::Deserialize;
use smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::error::{Error, Result};
use crate::models::trees::ensemble::{Ensemble, Link, Missing, Rule, Split, Tree};
use crate::student::numeric::mix;
use crate::student::sample::{Kind, Sample, level};
use crate::student::trees::{TreeStudent, levels_left};

/// How the trees are grown.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Trees for each class.
    pub trees: usize,
    pub max_depth: u16,
    pub min_rows_in_leaf: usize,
    /// Rows that are used, evenly spread over all: smartcore is slow.
    pub max_rows: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { trees: 40, max_depth: 14, min_rows_in_leaf: 2, max_rows: 10_000 }
    }
}

/// Trees that one call to smartcore grows; fixed, so that seeds do not depend on the number of threads.
const LOT: usize = 5;

/// Fits to at most `max_rows` rows of `sample`.
pub fn fit(sample: &Sample, seed: u64, settings: &Settings) -> Result<TreeStudent> {
    fit_if(sample, seed, settings, |_| true)
}

/// [`fit`]; but where the forest of the first few trees is not `promising`, it is the one that is returned.
pub fn fit_if(
    sample: &Sample,
    seed: u64,
    settings: &Settings,
    promising: impl Fn(&TreeStudent) -> bool,
) -> Result<TreeStudent> {
    sample.check()?;
    let (n, classes) = (sample.rows(), sample.classes);
    let few = n.min(settings.max_rows.max(1));
    let rows: Vec<usize> =
        (0..few).map(|i| (2 * i + 1) * n / (2 * few)).filter(|&row| sample.weights[row] > 0.0).collect();
    if rows.is_empty() {
        return Err(Error::data("no row with a weight among those that the forest uses"));
    }
    let outputs = if classes == 2 { 1 } else { classes };
    let codings: Vec<Vec<Coding>> =
        (classes - outputs..classes).map(|class| codings(sample, &rows, class)).collect();
    let lots = settings.trees.div_ceil(LOT);
    // the trees of some lots of each output
    let grow_lots = |wanted: Range<usize>| -> Result<Vec<Tree>> {
        let tasks = outputs * wanted.len();
        let grow_lot = |task: usize| {
            let (output, lot) = (task / wanted.len(), wanted.start + task % wanted.len());
            let trees = LOT.min(settings.trees - lot * LOT);
            let seed = mix(seed, (output * lots + lot) as u64);
            grow(sample, &rows, &codings[output], output, trees, seed, settings)
        };
        Ok((0..tasks).into_par_iter().map(grow_lot).collect::<Result<Vec<_>>>()?.concat())
    };
    let forest = |trees: Vec<Tree>| {
        let ensemble = Ensemble {
            features: sample.columns.len(),
            outputs,
            scale: outputs as f64 / trees.len().max(1) as f64,
            trees,
            base: vec![0.0; outputs],
            sum_in_f32: false,
            link: Link::Identity,
        };
        TreeStudent::new("forest", sample.kinds.to_vec(), classes, None, ensemble)
    };
    let mut trees = grow_lots(0..lots.min(1))?;
    let first = forest(trees.clone())?;
    if lots <= 1 || !promising(&first) {
        return Ok(first);
    }
    trees.extend(grow_lots(1..lots)?);
    forest(trees)
}

/// What stands for a column's values in smartcore's matrix.
struct Coding {
    null: f64,
    /// One value for each level; None for a number.
    levels: Option<Vec<f64>>,
}

impl Coding {
    fn code(&self, x: f32) -> f64 {
        match &self.levels {
            _ if x.is_nan() => self.null,
            None => f64::from(x),
            Some(levels) => level(x, levels.len()).map_or(self.null, |at| levels[at]),
        }
    }
}

fn codings(sample: &Sample, rows: &[usize], class: usize) -> Vec<Coding> {
    let mean = |sum: f64, mass: f64, or: f64| if mass > 0.0 { sum / mass } else { or };
    let target = |&row: &usize| (sample.weights[row], sample.target(row, class));
    let (mass, sum) = rows.iter().map(target).fold((0.0, 0.0), |(m, s), (w, t)| (m + w, s + w * t));
    let overall = mean(sum, mass, 0.5);
    let of_column = |j: usize| {
        let column = sample.columns[j];
        let Kind::Category { levels } = sample.kinds[j] else {
            let known = rows.iter().filter(|&&row| !column[row].is_nan());
            let (mass, sum) = known.fold((0.0, 0.0), |(m, s), &row| {
                (m + sample.weights[row], s + sample.weights[row] * f64::from(column[row]))
            });
            return Coding { null: mean(sum, mass, 0.0), levels: None };
        };
        let mut sums = vec![(0.0, 0.0); levels];
        for row in rows {
            if let Some(at) = level(column[*row], levels) {
                let (w, t) = target(row);
                sums[at] = (sums[at].0 + w, sums[at].1 + w * t);
            }
        }
        Coding { null: overall, levels: Some(sums.iter().map(|(m, s)| mean(*s, *m, overall)).collect()) }
    };
    (0..sample.columns.len()).map(of_column).collect()
}

fn grow(
    sample: &Sample,
    rows: &[usize],
    codings: &[Coding],
    output: usize,
    trees: usize,
    seed: u64,
    settings: &Settings,
) -> Result<Vec<Tree>> {
    let values: Vec<f64> = codings
        .iter()
        .zip(sample.columns)
        .flat_map(|(coding, column)| rows.iter().map(|&row| coding.code(column[row])))
        .collect();
    let failed = |e: &dyn std::fmt::Display| Error::data(format!("the forest student cannot be fitted: {e}"));
    let x = DenseMatrix::new(rows.len(), codings.len(), values, true).map_err(|e| failed(&e))?;
    let y: Vec<f64> =
        rows.iter().map(|&row| sample.target(row, if sample.classes == 2 { 1 } else { output })).collect();
    let weights: Vec<f64> = rows.iter().map(|&row| sample.weights[row]).collect();
    let parameters = ExtraTreesRegressorParameters {
        max_depth: Some(settings.max_depth),
        min_samples_leaf: settings.min_rows_in_leaf,
        min_samples_split: 2 * settings.min_rows_in_leaf,
        n_trees: trees,
        // a tree ends where none of the columns that it draws can be split: few columns are all drawn
        m: Some(codings.len().div_ceil(3).max(4).min(codings.len())),
        keep_samples: false,
        seed,
    };
    let forest =
        ExtraTreesRegressor::fit_with_weights(&x, &y, &weights, parameters).map_err(|e| failed(&e))?;
    let text = serde_json::to_string(&forest).map_err(|e| failed(&e))?;
    let grown: Grown = serde_json::from_str(&text).map_err(|e| failed(&e))?;
    grown.forest_regressor.trees.iter().map(|tree| neutral(&tree.nodes, codings, output)).collect()
}

/// What is read of a serialised smartcore forest.
#[derive(Deserialize)]
struct Grown {
    forest_regressor: GrownForest,
}

#[derive(Deserialize)]
struct GrownForest {
    trees: Vec<GrownTree>,
}

#[derive(Deserialize)]
struct GrownTree {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

/// A smartcore tree (left where value <= split_value) as thresholds and level sets over the raw columns,
/// parents before children.
fn neutral(nodes: &[Node], codings: &[Coding], output: usize) -> Result<Tree> {
    let broken = || Error::bug("smartcore's tree has an unknown form");
    let mut tree = Tree { splits: Vec::new(), leaves: Vec::new(), width: 1, output };
    // (node, the split that points to it, whether from its left)
    let mut open = vec![(0, None)];
    while let Some((at, parent)) = open.pop() {
        let node = nodes.get(at).ok_or_else(broken)?;
        let place = match (node.true_child, node.false_child, node.split_value) {
            (Some(left), Some(right), Some(threshold)) => {
                let coding = codings.get(node.split_feature).ok_or_else(broken)?;
                let place = tree.splits.len() as i32;
                tree.splits.push(split(node.split_feature, threshold, coding));
                open.push((right, Some((place as usize, false))));
                open.push((left, Some((place as usize, true))));
                place
            }
            _ => {
                tree.leaves.push(node.output);
                !(tree.leaves.len() as i32 - 1)
            }
        };
        match parent {
            Some((split, true)) => tree.splits[split].left = place,
            Some((split, false)) => tree.splits[split].right = place,
            None => {}
        }
    }
    Ok(tree)
}

fn split(feature: usize, threshold: f64, coding: &Coding) -> Split {
    let rule = match &coding.levels {
        None => Rule::LessOrEqual(f64::from(at_most(threshold))),
        Some(levels) => levels_left((0..levels.len()).filter(|&at| levels[at] <= threshold)),
    };
    Split {
        feature: feature as u32,
        rule,
        missing: Missing::Nan,
        missing_left: coding.null <= threshold,
        left: 0,
        right: 0,
    }
}

/// The largest float32 that is at most t: x <= t says the same for every float32 x.
fn at_most(t: f64) -> f32 {
    let near = t.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
    if f64::from(near) > t { near.next_down() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::student::{Student, fidelity};

    #[test]
    fn follows_a_teacher_of_steps_and_levels() {
        let n = 2000;
        let x: Vec<f32> =
            (0..n).map(|i| if i % 17 == 0 { f32::NAN } else { (mix(1, i as u64) % 100) as f32 }).collect();
        let c: Vec<f32> = (0..n).map(|i| (mix(2, i as u64) % 5) as f32).collect();
        let soft: Vec<f64> = (0..n)
            .flat_map(|i| {
                let p = if x[i] > 40.0 { 0.8 } else { 0.3 } - if c[i] == 3.0 { 0.2 } else { 0.0 };
                [1.0 - p, p]
            })
            .collect();
        let (columns, weights): ([&[f32]; 2], _) = ([&x, &c], vec![1.0; n]);
        let kinds = [Kind::Number, Kind::Category { levels: 5 }];
        let sample = Sample { columns: &columns, kinds: &kinds, soft: &soft, weights: &weights, classes: 2 };
        let forest = fit(&sample, 1, &Settings::default()).unwrap();
        let f = fidelity(&forest, &sample);
        assert!(f.kl < 0.002, "{f:?}");
        let mut out = [0.0; 2];
        forest.predict(&[&[f32::NAN], &[77.0]], &mut out);
        assert!((out[0] + out[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn thresholds_never_round_up() {
        for t in [0.1, 1.0, -0.1, 1e300, -1e300, 16_777_217.0] {
            assert!(f64::from(at_most(t)) <= t || t < f64::from(f32::MIN));
        }
    }
}
