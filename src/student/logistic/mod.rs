//! Multinomial logistic regression on soft labels: the exact weighted cross-entropy with L2, to convergence.
//!
//! In: a checked sample. A number is centred and scaled, null takes the mean and, where training rows have
//! nulls, a weight of its own; a category has a weight for each of its heaviest levels, and all others, with
//! null, have none. Out: one linear function a class (for two classes: of the second), then softmax. linfa's
//! own logistic regression takes hard labels and no weights; what that costs is measured beside this one (see
//! [`sampled`](super::sampled)).

pub(super) mod design;
pub(super) mod linear;
mod objective;
mod solver;

pub use crate::student::logistic::linear::Logistic;

use crate::error::{Error, Result};
use crate::student::logistic::design::Design;
use crate::student::logistic::objective::Objective;
use crate::student::sample::Sample;

/// Candidates for the L2 penalty lambda / 2 |w|^2 on the sum of the rows' cross-entropies.
const PENALTIES: [f64; 4] = [100.0, 10.0, 1.0, 0.1];
/// The penalty where there are too few rows to choose it.
const FALLBACK: f64 = 1.0;
const MIN_CHOSEN: usize = 50;
/// The penalty is chosen, and the solver warmed up, on at most this many rows, evenly spread.
const WARM_ROWS: usize = 20_000;

/// Fits to every row of `sample`; the penalty is the one with the lowest loss on every fifth of some rows.
///
/// "did not converge" (65) where the solver stops short, or where it returns no weights although the soft
/// labels vary with a column.
pub fn fit(sample: &Sample) -> Result<Logistic> {
    Ok(fit_judged(sample, false)?.0)
}

/// [`fit`] or, with `few`, to at most `WARM_ROWS` rows, evenly spread: as good a start for trees, and enough to
/// see how well a linear function keeps the soft labels. Also the share that it leaves of the KL that the mean
/// soft label leaves, on the rows that judged the penalty; 1 where there are too few.
pub fn fit_judged(sample: &Sample, few: bool) -> Result<(Logistic, f64)> {
    sample.check()?;
    let design = Design::new(sample);
    let n = sample.rows();
    let warm = n.min(WARM_ROWS);
    let rows: Vec<u32> = (0..warm).map(|i| ((2 * i + 1) * n / (2 * warm)) as u32).collect();
    let (penalty, start, left) = choose(&design, sample, &rows);
    let objective = Objective::new(&design, sample, Some(&rows), penalty);
    let mut start = solver::minimise(&objective, start)?;
    if takes_few(sample) && !few {
        let all = Objective::new(&design, sample, None, penalty);
        start = solver::minimise_from(&all, start, &objective)?;
    }
    let model = design.model(sample, &start)?;
    refuse_zero(&design, sample, &start, &rows)?;
    Ok((model, left))
}

/// Whether a fit to few rows leaves any out.
pub fn takes_few(sample: &Sample) -> bool {
    sample.rows() > WARM_ROWS
}

/// The penalty, the solution found with it on four fifths of `rows`, and the share of the KL that this leaves on
/// the others.
fn choose(design: &Design, sample: &Sample, rows: &[u32]) -> (f64, Vec<f64>, f64) {
    let zero = vec![0.0; design.width() * design.outputs(sample.classes)];
    if rows.len() < MIN_CHOSEN {
        return (FALLBACK, zero, 1.0);
    }
    let judges: Vec<u32> = rows.iter().copied().step_by(5).collect();
    let train: Vec<u32> =
        rows.iter().copied().enumerate().filter(|(i, _)| i % 5 != 0).map(|(_, r)| r).collect();
    let mass = |rows: &[u32]| rows.iter().map(|&r| sample.weights[r as usize]).sum::<f64>();
    if mass(&judges) <= 0.0 || mass(&train) <= 0.0 {
        return (FALLBACK, zero, 1.0);
    }
    let mut train = Objective::new(design, sample, Some(&train), FALLBACK);
    let judge = Objective::new(design, sample, Some(&judges), 0.0);
    let (mut best, mut start) = ((f64::INFINITY, FALLBACK, zero.clone()), zero);
    for penalty in PENALTIES {
        train = train.penalised(penalty);
        start = solver::approach(&train, start);
        let loss = judge.loss(&start);
        if loss < best.0 {
            best = (loss, penalty, start.clone());
        }
    }
    let (entropy, constant) = without_columns(sample, &judges);
    let left = if constant > entropy { (best.0 - entropy) / (constant - entropy) } else { 1.0 };
    (best.1, best.2, left)
}

/// The mean entropy of the soft labels of some rows, and their mean cross-entropy against their mean.
fn without_columns(sample: &Sample, rows: &[u32]) -> (f64, f64) {
    let rows = rows.iter().map(|row| *row as usize);
    let shares = sample.shares(rows.clone());
    let constant = shares.iter().map(|p| -p * p.ln()).sum();
    let (mut entropy, mut mass) = (0.0, 0.0);
    for row in rows {
        let targets = (0..sample.classes).map(|class| sample.target(row, class));
        entropy -= sample.weights[row] * targets.map(|t| t * t.ln()).sum::<f64>();
        mass += sample.weights[row];
    }
    (entropy / mass, constant)
}

/// A zero model is right only where no column tells anything about the soft labels.
fn refuse_zero(design: &Design, sample: &Sample, solution: &[f64], rows: &[u32]) -> Result<()> {
    let width = design.width();
    let weights =
        |v: &[f64]| v.chunks(width).flat_map(|c| c[1..].to_vec()).fold(0.0, |m: f64, w| m.max(w.abs()));
    if weights(solution) > 0.0 || width == 1 {
        return Ok(());
    }
    let mut gradient = vec![0.0; solution.len()];
    Objective::new(design, sample, Some(rows), 0.0).evaluate(solution, &mut gradient);
    if weights(&gradient) > 1e-3 {
        return Err(Error::data("the logistic student did not converge: all its weights are zero"));
    }
    Ok(())
}
