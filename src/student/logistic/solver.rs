//! L-BFGS (Nocedal & Wright 2006, algorithm 7.4) on a curvature that is known at its start.
//!
//! The first guess of the inverse Hessian is that of each class's block on a part of the rows, by Cholesky:
//! few passes over all rows remain.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::student::logistic::objective::Objective;

/// Pairs of steps that are remembered.
const MEMORY: usize = 12;
const MAX_STEPS: usize = 500;
/// Steps and largest component of the gradient with which penalties are compared. Where the curvature is not
/// known either is all that is asked for: what is left moves probabilities by less than a student differs
/// from its labels, and hundreds of columns take hundreds of steps more to get there.
const ROUGH_STEPS: usize = 100;
const ROUGH: f64 = 1e-4;
/// Largest component of the gradient of the mean loss at the solution.
const TOLERANCE: f64 = 1e-7;
/// What is accepted where rounding ends the descent.
const ROUNDING: f64 = 1e-5;
/// Wider curvatures would cost more than they save: only their diagonal is used.
const MAX_DENSE: usize = 512;
/// Multiplications that a curvature may cost.
const CURVATURE_WORK: usize = 20_000_000;

/// The minimum from `start`; "did not converge" (65) otherwise.
pub fn minimise(objective: &Objective, start: Vec<f64>) -> Result<Vec<f64>> {
    let curvature = Curvature::new(objective, &start);
    descend_fully(objective, start, &curvature)
}

/// Towards the minimum from `start`, as far as it takes to compare penalties.
pub fn approach(objective: &Objective, start: Vec<f64>) -> Vec<f64> {
    let curvature = Curvature::new(objective, &start);
    descend(objective, start, &curvature, ROUGH_STEPS, ROUGH).0
}

/// The same with the curvature of `other`, a smaller objective of the same kind, at `start`.
pub fn minimise_from(objective: &Objective, start: Vec<f64>, other: &Objective) -> Result<Vec<f64>> {
    let curvature = Curvature::new(other, &start);
    descend_fully(objective, start, &curvature)
}

fn descend_fully(objective: &Objective, start: Vec<f64>, curvature: &Curvature) -> Result<Vec<f64>> {
    let (tolerance, accepted) = if curvature.dense { (TOLERANCE, ROUNDING) } else { (ROUGH, ROUGH) };
    let (v, gradient) = descend(objective, start, curvature, MAX_STEPS, tolerance);
    match gradient <= accepted {
        true => Ok(v),
        false => {
            Err(Error::data("the logistic student did not converge").value(format!("gradient {gradient:e}")))
        }
    }
}

struct Step {
    s: Vec<f64>,
    y: Vec<f64>,
    sy: f64,
}

/// The place that at most `most` steps lead to, and the largest component of the gradient there.
fn descend(
    objective: &Objective,
    mut v: Vec<f64>,
    curvature: &Curvature,
    most: usize,
    tolerance: f64,
) -> (Vec<f64>, f64) {
    let mut gradient = vec![0.0; v.len()];
    let mut loss = objective.evaluate(&v, &mut gradient);
    let mut steps: VecDeque<Step> = VecDeque::with_capacity(MEMORY);
    for _ in 0..most {
        if largest(&gradient) <= tolerance {
            break;
        }
        let mut direction = towards(&gradient, &steps, curvature);
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            steps.clear();
            direction = towards(&gradient, &steps, curvature);
            slope = dot(&direction, &gradient);
        }
        let Some((next, next_loss, next_gradient)) = search(objective, &v, loss, &direction, slope) else {
            break;
        };
        let s: Vec<f64> = next.iter().zip(&v).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        if sy > 1e-12 * dot(&y, &y).sqrt() * dot(&s, &s).sqrt() {
            if steps.len() == MEMORY {
                steps.pop_front();
            }
            steps.push_back(Step { s, y, sy });
        }
        (v, loss, gradient) = (next, next_loss, next_gradient);
    }
    (v, largest(&gradient))
}

/// Halves the step until the loss has dropped enough (Armijo); None where no step does.
fn search(
    objective: &Objective,
    v: &[f64],
    loss: f64,
    direction: &[f64],
    slope: f64,
) -> Option<(Vec<f64>, f64, Vec<f64>)> {
    let mut gradient = vec![0.0; v.len()];
    let mut length = 1.0;
    for _ in 0..40 {
        let next: Vec<f64> = v.iter().zip(direction).map(|(v, d)| v + length * d).collect();
        let next_loss = objective.evaluate(&next, &mut gradient);
        if next_loss <= loss + 1e-4 * length * slope && gradient.iter().all(|g| g.is_finite()) {
            return Some((next, next_loss, gradient));
        }
        length *= 0.5;
    }
    None
}

/// -H gradient by the two-loop recursion.
fn towards(gradient: &[f64], steps: &VecDeque<Step>, curvature: &Curvature) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        let alpha = dot(&step.s, &q) / step.sy;
        q.iter_mut().zip(&step.y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    curvature.solve(&mut q);
    for (step, alpha) in steps.iter().zip(alphas.iter().rev()) {
        let beta = dot(&step.y, &q) / step.sy;
        q.iter_mut().zip(&step.s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x.abs()) })
}

/// For each output a Cholesky factor of its block of the Hessian, `[width][width]` lower triangular; or the
/// block's diagonal, `[width]`.
struct Curvature {
    width: usize,
    dense: bool,
    blocks: Vec<Vec<f64>>,
}

impl Curvature {
    fn new(objective: &Objective, v: &[f64]) -> Curvature {
        let width = objective.width();
        let (outputs, dense) = (v.len() / width, width <= MAX_DENSE);
        let size = if dense { width * width } else { width };
        let step = (objective.count() * size * outputs).div_ceil(CURVATURE_WORK);
        let mut blocks = vec![vec![0.0; size]; outputs];
        let mut values = Vec::new();
        let mass = objective.visit_curvature(v, step, |inputs, weights| {
            // those of numbers are all there and in the order of their slots
            let numbers = inputs.iter().zip(0..).take_while(|((slot, _), at)| slot == at).count();
            values.clear();
            values.extend(inputs[..numbers].iter().map(|(_, x)| *x));
            for (block, h) in blocks.iter_mut().zip(weights) {
                for (i, &(a, x)) in inputs.iter().enumerate() {
                    let hx = h * x;
                    if !dense {
                        block[a] += hx * x;
                    } else if hx == 0.0 {
                        // most signs of null
                    } else if i < numbers {
                        let row = &mut block[a * width..][..=a];
                        row.iter_mut().zip(&values).for_each(|(cell, y)| *cell += hx * y);
                    } else {
                        inputs[..=i].iter().for_each(|&(b, y)| block[a.max(b) * width + a.min(b)] += hx * y);
                    }
                }
            }
        });
        let by = if mass > 0.0 { 1.0 / mass } else { 1.0 };
        for block in &mut blocks {
            block.iter_mut().for_each(|v| *v *= by);
            let stride = if dense { width + 1 } else { 1 };
            // the constant has no penalty, and what is certain has no curvature: a little keeps the block
            // invertible
            let top = block.iter().step_by(stride).fold(0.0, |m: f64, d| m.max(*d));
            block.iter_mut().step_by(stride).for_each(|d| *d += objective.ridge() + 1e-6 * top + 1e-12);
            if dense {
                cholesky(block, width);
            }
        }
        Curvature { width, dense, blocks }
    }

    /// Replaces q by the solution x of H x = q.
    fn solve(&self, q: &mut [f64]) {
        for (q, block) in q.chunks_exact_mut(self.width).zip(&self.blocks) {
            if !self.dense {
                q.iter_mut().zip(block).for_each(|(q, d)| *q /= d);
                continue;
            }
            for i in 0..self.width {
                let row = &block[i * self.width..][..=i];
                q[i] = (q[i] - dot(&row[..i], &q[..i])) / row[i];
            }
            for i in (0..self.width).rev() {
                let row = &block[i * self.width..][..=i];
                q[i] /= row[i];
                let x = q[i];
                q[..i].iter_mut().zip(row).for_each(|(q, l)| *q -= l * x);
            }
        }
    }
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor; a pivot lost to rounding becomes
/// a small one.
fn cholesky(a: &mut [f64], n: usize) {
    for i in 0..n {
        let (above, rest) = a.split_at_mut(i * n);
        let row = &mut rest[..n];
        let before = row[i];
        for j in 0..i {
            let other = &above[j * n..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        row[i] = pivot.max(1e-12 * before).max(1e-300).sqrt();
    }
}
