//! Training of the calculator: the gate is trained on the histories, each in turn a target whose labels are known.
//!
//! It is trained twice: as the reference has it, and for teachers that are first aligned to one level of
//! class shares ([`crate::relevance::fusion::alignment`]), where what is left to learn is not confused with
//! the base rate.

use rayon::prelude::*;

use crate::relevance::fusion::aligned_pool::align;
use crate::relevance::fusion::base_rate::{LEAST_SHARE, shift_to_shares};
use crate::relevance::fusion::gating::{EVIDENCE, PARAMETERS, Task, Theta, evidence};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::newton::{Local, minimize};
use crate::relevance::maths::probability::{CALIBRATED_FLOOR, floor, log_loss, softmax};
use crate::relevance::maths::real::{LANES, Lanes, Real, scatter};
use crate::relevance::transfer::cross_loss::{CrossLoss, share_term};
use crate::relevance::transfer::sources::SourceScores;

/// Coordinates in which the ridge is a ball: v = SCALE theta.
const SCALE: [f64; PARAMETERS] = [0.608, 0.0909, 0.510, 1.0, 1.0, 1.0];
const FREE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
const BOUNDS: [(f64, f64); PARAMETERS] = [FREE, FREE, FREE, (-0.7, 0.7), (0.0, 1.0), (-1.0, 1.0)];
const RIDGE: [f64; PARAMETERS] = [1.0, 1.0, 1.0, 0.3, 0.3, 0.3];
/// Fewer teachers leave fewer than two to a pseudo-target, and nothing to weigh.
const LEAST_TEACHERS: usize = 3;
/// Projected gradient at which training ends, and the step of the Hessian's differences.
const TOLERANCE: f64 = 1e-10;
const DIFFERENCE: f64 = 1e-5;

/// History `q` as the target of the other teachers.
#[derive(Debug, Clone)]
pub struct PseudoTarget {
    pub history: usize,
    /// The other teachers, ascending.
    pub rest: Vec<usize>,
    pub task: Task,
    /// The same with every teacher moved to the class shares of the history, and the gate free of them.
    pub aligned: Task,
}

/// A trained gate: theta, or theta0 if there was nothing to train on.
#[derive(Debug, Clone)]
pub struct Training {
    pub theta: Theta,
    /// For aligned teachers.
    pub aligned: Theta,
    pub pseudo_targets: Vec<PseudoTarget>,
}

/// What the teachers without `k` say of each other, for every k.
pub fn judgements_without(world: &SourceScores) -> Vec<CrossLoss> {
    (0..world.teachers())
        .into_par_iter()
        .map(|q| CrossLoss::new(world, &others(world.teachers(), q)))
        .collect()
}

/// Trains the gate; `without[q]` is the judgement of all teachers but q.
pub fn train(world: &SourceScores, without: &[CrossLoss]) -> Training {
    let count = world.teachers();
    let targets: Vec<usize> = (0..count).filter(|q| count >= LEAST_TEACHERS && world.learned(*q)).collect();
    let pseudo_targets: Vec<PseudoTarget> =
        targets.par_iter().filter_map(|&q| pseudo_target(world, &without[q], q)).collect();
    let theta = fit(&pseudo_targets.iter().map(|t| &t.task).collect::<Vec<_>>(), count, Theta::DEFAULT);
    let aligned = fit(&pseudo_targets.iter().map(|t| &t.aligned).collect::<Vec<_>>(), count, Theta::DEFAULT);
    Training { theta, aligned, pseudo_targets }
}

/// theta for the tasks given, of `teachers` teachers in all, searched from `start`; theta0 without tasks.
pub fn fit(tasks: &[&Task], teachers: usize, start: Theta) -> Theta {
    if tasks.is_empty() {
        return Theta::DEFAULT;
    }
    let total: f64 = tasks.iter().map(|t| 1.0 / t.uniform).sum();
    let weights: Vec<f64> = tasks.iter().map(|t| 1.0 / t.uniform / total).collect();
    let centre = scaled(Theta::DEFAULT);
    let objective = |v: &[f64]| {
        let at: [f64; PARAMETERS] = std::array::from_fn(|i| v[i]);
        let gradient = |v: [f64; PARAMETERS]| weighted(tasks, &weights, v);
        let mut out = Local::zero(PARAMETERS);
        let (value, slope) = gradient(at);
        out.value = value;
        out.gradient.copy_from_slice(&slope);
        out.hessian = by_differences(at, |v| gradient(v).1);
        (0..PARAMETERS).for_each(|i| out.ridge(i, RIDGE[i] / teachers as f64, at[i] - centre[i]));
        out
    };
    let found = minimize(objective, &scaled(start), &BOUNDS, TOLERANCE).at;
    unscaled(std::array::from_fn(|i| found[i]))
}

/// Weighted mean of the tasks' losses and its gradient by v.
fn weighted(tasks: &[&Task], weights: &[f64], v: [f64; PARAMETERS]) -> (f64, [f64; PARAMETERS]) {
    let theta = unscaled(v);
    let parts: Vec<(f64, [f64; PARAMETERS])> = tasks.par_iter().map(|t| t.loss(&theta)).collect();
    let (mut value, mut gradient) = (0.0, [0.0; PARAMETERS]);
    for ((loss, slope), w) in parts.iter().zip(weights) {
        value += w * loss;
        (0..PARAMETERS).for_each(|i| gradient[i] += w * slope[i] / SCALE[i]);
    }
    (value, gradient)
}

/// The Hessian `[6, 6]` by central differences of the gradient, made symmetric.
fn by_differences(
    at: [f64; PARAMETERS],
    gradient: impl Fn([f64; PARAMETERS]) -> [f64; PARAMETERS] + Sync,
) -> Vec<f64> {
    let moved = |i: usize, by: f64| -> [f64; PARAMETERS] {
        std::array::from_fn(|j| if i == j { at[j] + by } else { at[j] })
    };
    let rows: Vec<([f64; PARAMETERS], [f64; PARAMETERS])> = (0..PARAMETERS)
        .into_par_iter()
        .map(|i| (gradient(moved(i, DIFFERENCE)), gradient(moved(i, -DIFFERENCE))))
        .collect();
    let cell = |i: usize, j: usize| (rows[i].0[j] - rows[i].1[j]) / (2.0 * DIFFERENCE);
    (0..PARAMETERS * PARAMETERS)
        .map(|at| (at / PARAMETERS, at % PARAMETERS))
        .map(|(i, j)| (cell(i, j) + cell(j, i)) / 2.0)
        .collect()
}

fn scaled(theta: Theta) -> [f64; PARAMETERS] {
    let t = theta.to_array();
    std::array::from_fn(|i| t[i] * SCALE[i])
}

fn unscaled(v: [f64; PARAMETERS]) -> Theta {
    Theta::from_array(std::array::from_fn(|i| v[i] / SCALE[i]))
}

/// All of `count` teachers but `q`.
pub fn others(count: usize, q: usize) -> Vec<usize> {
    (0..count).filter(|k| *k != q).collect()
}

fn pseudo_target(world: &SourceScores, judgement: &CrossLoss, q: usize) -> Option<PseudoTarget> {
    let rows = world.pseudo_target(q)?;
    let rest = others(world.teachers(), q);
    let (k, c, n) = (rest.len(), world.classes, rows.len());
    let relative: Vec<f64> = judgement.relative.concat();
    let log_rows: Vec<f64> = rest.iter().map(|&k| world.log_rows[k]).collect();
    let blocks = n.div_ceil(LANES);
    let mut task = Task {
        teachers: k,
        classes: c,
        labels: rows.labels(),
        p: Vec::with_capacity(blocks * k * c),
        ln_p: Vec::with_capacity(blocks * k * c),
        phi: vec![Lanes::default(); blocks * k * EVIDENCE],
        d: vec![0.0; c],
        uniform: 0.0,
        shares: None,
    };
    let (mut own_mean, mut means) = (vec![0.0; n * c], ExactMeans::new(c));
    let (mut row, mut mean) = (vec![Lanes::default(); c], vec![Lanes::default(); c]);
    let mut chances = vec![Lanes::default(); k];
    for (block, own_mean) in own_mean.chunks_mut(LANES * c).enumerate() {
        let (first, count) = (block * LANES, own_mean.len() / c);
        let place = |i: usize| first + i.min(count - 1);
        let mut own = vec![Lanes::default(); c];
        mean.fill(Lanes::default());
        for (&teacher, slope) in rest.iter().zip(&judgement.slopes) {
            let of = |e: usize| Lanes(std::array::from_fn(|i| rows.ln_own(place(i), teacher)[e]));
            let ln_own: Vec<Lanes> = (0..c).map(of).collect();
            own_row(&ln_own, 1.0, &mut row);
            own.iter_mut().zip(&row).for_each(|(m, p)| *m = *m + *p * (1.0 / k as f64));
            own_row(&ln_own, *slope, &mut row);
            mean.iter_mut().zip(&row).for_each(|(m, p)| *m = *m + *p * (1.0 / k as f64));
            task.p.extend(&row);
            task.ln_p.extend(row.iter().map(|p| p.ln()));
        }
        scatter(&own, own_mean);
        means.add_rows(&mean, count);
        let support = |k: &usize| Lanes(std::array::from_fn(|i| rows.support(place(i))[*k]));
        let s: Vec<Lanes> = rest.iter().map(support).collect();
        let phi = &mut task.phi[block * k * EVIDENCE..(block + 1) * k * EVIDENCE];
        evidence(&s, &relative, &log_rows, &mut chances, phi);
    }
    task.uniform = log_loss(&own_mean, &task.labels, c);
    task.d = share_term(judgement, &means.means());
    let aligned = aligned(&task);
    Some(PseudoTarget { history: q, rest, task, aligned })
}

/// The task with its class shares known: every teacher moved to them, and the gate's logits too before they
/// are judged.
fn aligned(task: &Task) -> Task {
    let (k, c, n) = (task.teachers, task.classes, task.labels.len());
    let mut shares = vec![0.0; c];
    task.labels.iter().for_each(|y| shares[usize::from(*y)] += 1.0 / n as f64);
    floor(&mut shares, LEAST_SHARE);
    let mut out = Task { d: vec![0.0; c], ..task.clone() };
    for teacher in 0..k {
        let stack = |block: usize| (block * k + teacher) * c..(block * k + teacher + 1) * c;
        let mut ln_p = vec![0.0; n * c];
        for (block, rows) in ln_p.chunks_mut(LANES * c).enumerate() {
            scatter(&task.ln_p[stack(block)], rows);
        }
        let constants = shift_to_shares(&ln_p, &shares);
        for block in 0..n.div_ceil(LANES) {
            align(&constants, &mut out.p[stack(block)], &mut out.ln_p[stack(block)]);
        }
    }
    out.shares = Some(shares);
    out
}

/// floor(softmax(slope ln p), .001).
fn own_row(ln_own: &[Lanes], slope: f64, out: &mut [Lanes]) {
    out.iter_mut().zip(ln_own).for_each(|(o, z)| *o = *z * slope);
    softmax(out);
    floor(out, CALIBRATED_FLOOR);
}
