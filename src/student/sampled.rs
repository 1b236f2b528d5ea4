//! The rival of the exact logistic student: linfa-logistic on hard labels drawn from the soft ones.
//!
//! linfa's logistic regression takes hard labels, ignores weights, stops silently, and breaks on unscaled
//! data and on NaN. Here it gets standardised, null-free inputs and seeded labels; convergence is checked by
//! the gradient at its solution, and its "positive" class, the larger one, is turned to ours. Its distance
//! from the exact fit is what hard labels cost.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::{LogisticRegression, MultiLogisticRegression};
use ndarray::{Array1, Array2, ArrayView2};

use crate::error::{Error, Result};
use crate::student::logistic::design::Design;
use crate::student::logistic::linear::Logistic;
use crate::student::numeric::mix;
use crate::student::sample::Sample;

/// linfa's default penalty is on the sum of losses, as ours.
const PENALTY: f64 = 1.0;
const MAX_STEPS: u64 = 1000;
/// Gradient of the mean loss at which the search may end; linfa's is of the sum.
const TOLERANCE: f64 = 1e-4;
/// The logit of a class that was never drawn.
const NEVER: f64 = -15.0;

/// Draws one label for each row and fits linfa-logistic to them; "did not converge" (65) where its solution
/// is none, or where one class alone was drawn.
pub fn fit(sample: &Sample, seed: u64) -> Result<Logistic> {
    sample.check()?;
    let design = Design::new(sample);
    let labels: Array1<usize> = (0..sample.rows()).map(|row| draw(sample, row, seed)).collect();
    let x = design.matrix(sample);
    let solution = if sample.classes == 2 { binary(x, labels)? } else { several(x, labels, sample.classes)? };
    design.model(sample, &solution)
}

/// The class in whose part of the row's soft label a uniform number falls.
fn draw(sample: &Sample, row: usize, seed: u64) -> usize {
    let mut left = (mix(seed, row as u64) >> 11) as f64 / (1u64 << 53) as f64;
    let soft = &sample.soft[row * sample.classes..][..sample.classes];
    soft.iter()
        .position(|p| {
            left -= p;
            left < 0.0
        })
        .unwrap_or(sample.classes - 1)
}

/// [constant, weights] of the second class.
fn binary(x: Array2<f64>, labels: Array1<usize>) -> Result<Vec<f64>> {
    let tolerance = TOLERANCE * x.nrows() as f64;
    let dataset = DatasetBase::new(x, labels);
    let params =
        LogisticRegression::default().alpha(PENALTY).max_iterations(MAX_STEPS).gradient_tolerance(tolerance);
    let model = params.fit(&dataset).map_err(refused)?;
    let sign = if model.labels().pos.class == 1 { 1.0 } else { -1.0 };
    let solution: Vec<f64> =
        std::iter::once(model.intercept()).chain(model.params().iter().copied()).map(|v| sign * v).collect();
    let p = model.predict_probabilities(dataset.records());
    let residuals = Array2::from_shape_fn((p.len(), 1), |(i, _)| {
        let second = if sign > 0.0 { p[i] } else { 1.0 - p[i] };
        second - f64::from(u8::from(dataset.targets[i] == 1))
    });
    converged(dataset.records().view(), residuals, &solution)?;
    Ok(solution)
}

/// [constant, weights] of every class.
fn several(x: Array2<f64>, labels: Array1<usize>, classes: usize) -> Result<Vec<f64>> {
    let (width, tolerance) = (x.ncols() + 1, TOLERANCE * x.nrows() as f64);
    let dataset = DatasetBase::new(x, labels);
    let params = MultiLogisticRegression::default()
        .alpha(PENALTY)
        .max_iterations(MAX_STEPS)
        .gradient_tolerance(tolerance);
    let model = params.fit(&dataset).map_err(refused)?;
    let mut solution = vec![0.0; width * classes];
    (0..classes).for_each(|class| solution[class * width] = NEVER);
    let mut drawn = Vec::new();
    for (place, &class) in model.classes().iter().enumerate() {
        solution[class * width] = model.intercept()[place];
        solution[class * width + 1..]
            .iter_mut()
            .zip(model.params().column(place))
            .for_each(|(to, v)| *to = *v);
        drawn.extend_from_slice(&solution[class * width..][..width]);
    }
    let p = model.predict_probabilities(dataset.records());
    let hit = |i: usize, place: usize| f64::from(u8::from(model.classes()[place] == dataset.targets[i]));
    let residuals = Array2::from_shape_fn(p.raw_dim(), |(i, place)| p[[i, place]] - hit(i, place));
    converged(dataset.records().view(), residuals, &drawn)?;
    Ok(solution)
}

fn refused(error: linfa_logistic::error::Error) -> Error {
    Error::data(format!("the sampled logistic student did not converge: {error}"))
}

/// The gradient of the mean penalised loss at the solution must be small, and the solution no zero model
/// (65).
fn converged(x: ArrayView2<f64>, residuals: Array2<f64>, solution: &[f64]) -> Result<()> {
    let (n, width) = (x.nrows() as f64, x.ncols() + 1);
    let gradient = x.t().dot(&residuals);
    let mut largest = residuals.columns().into_iter().map(|c| c.sum().abs()).fold(0.0, f64::max);
    for ((slot, output), g) in gradient.indexed_iter() {
        largest = largest.max((g + PENALTY * solution[output * width + slot + 1]).abs());
    }
    let zero = width > 1 && solution.iter().all(|v| *v == 0.0);
    if zero || largest.is_nan() || largest / n > 10.0 * TOLERANCE {
        return Err(Error::data("the sampled logistic student did not converge")
            .value(format!("gradient {:e}", largest / n)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::student::{Kind, fidelity, logistic};

    /// A log-linear teacher over two numbers and three classes (or two).
    fn teacher(classes: usize, x: &[Vec<f32>]) -> Vec<f64> {
        let row = |(a, b): (&f32, &f32)| {
            let mut row: Vec<f64> = (0..classes)
                .map(|c| (c as f64 - 0.5) * f64::from(*a) - 0.7 * f64::from(b * (c % 2) as f32))
                .collect();
            crate::student::numeric::softmax(&mut row);
            row
        };
        x[0].iter().zip(&x[1]).flat_map(row).collect()
    }

    #[test]
    fn hard_labels_are_worse_than_soft_ones_but_right_way_round() {
        for classes in [2, 3] {
            let n = 3000;
            let x: Vec<Vec<f32>> = (0..2)
                .map(|j| (0..n).map(|i| (mix(j, i as u64) % 1000) as f32 / 250.0 - 2.0).collect())
                .collect();
            let soft = teacher(classes, &x);
            let (columns, weights) = (x.iter().map(Vec::as_slice).collect::<Vec<_>>(), vec![1.0; n]);
            let sample = Sample {
                columns: &columns,
                kinds: &[Kind::Number; 2],
                soft: &soft,
                weights: &weights,
                classes,
            };
            let exact = fidelity(&logistic::fit(&sample).unwrap(), &sample);
            let drawn = fidelity(&fit(&sample, 3).unwrap(), &sample);
            assert!(exact.kl < 1e-6, "{exact:?}");
            assert!(drawn.kl < 0.01 && drawn.kl > 10.0 * exact.kl, "{drawn:?}");
        }
    }

    #[test]
    fn one_class_alone_is_refused() {
        let x: Vec<f32> = (0..50).map(|i| i as f32).collect();
        let soft: Vec<f64> = (0..50).flat_map(|_| [1.0, 0.0]).collect();
        let sample =
            Sample { columns: &[&x], kinds: &[Kind::Number], soft: &soft, weights: &[1.0; 50], classes: 2 };
        assert!(fit(&sample, 1).unwrap_err().to_string().contains("did not converge"));
    }
}
