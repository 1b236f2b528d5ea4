//! The leave-one-scenario-out table: each history plays the target once more, under a theta that was trained without it.
//!
//! It shows what relevance is worth here, and what class shares or labels of the target would be worth. A history that plays the target still helped to train
//! the others' foreign slopes no more than it did in step 9, but it was part of the profiles; so the table is close to honest, not entirely.

use super::base_rate::{LEAST_LABELS, ShareShift, shift, shift_to_labels};
use super::calibrate::Calibration;
use super::distance::weights;
use super::fuse::{Blend, Fused, Fuser, TRAINED_SHARE, UNTRAINED_SHARE};
use super::gate::Theta;
use super::simplex::{evenly, floor, log_loss};
use super::train::{PseudoTarget, Training, fit};
use super::world::{Judgement, World};
use crate::error::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Labels that the table supposes.
const LABELS: usize = 50;

/// Log-losses on one history that plays the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    pub history: String,
    pub rows: usize,
    /// Mean of the own-calibrated teachers: u_q of step 9.
    pub own_uniform: f64,
    /// The gate alone under theta0, under theta, and under a theta trained without this history.
    pub theta0: f64,
    pub theta: f64,
    pub held_out: f64,
    /// The rivals and the default, its gate trained without this history.
    pub uniform: f64,
    pub js: f64,
    pub default: f64,
    /// The default with the class shares known.
    pub with_shares: f64,
    /// The default with 50 labels known, on the other rows; none where there are too few rows.
    pub with_labels: Option<f64>,
}

/// The table of all pseudo-targets; `between[q]` are the distances of the teachers' histories to history q.
pub fn rehearse(world: &World, training: &Training, without: &[Judgement], between: &[Vec<f64>]) -> Result<Vec<Rehearsal>> {
    training.pseudo_targets.par_iter().map(|t| rehearsal(world, training, t, &without[t.history], &between[t.history])).collect()
}

fn rehearsal(world: &World, training: &Training, target: &PseudoTarget, judgement: &Judgement, distances: &[f64]) -> Result<Rehearsal> {
    let others: Vec<_> = training.pseudo_targets.iter().filter(|t| t.history != target.history).map(|t| &t.task).collect();
    let held_out = fit(&others, world.teachers(), training.theta);
    let share = if others.is_empty() { UNTRAINED_SHARE } else { TRAINED_SHARE };
    let classes = world.classes;
    let labels = &target.task.labels;
    let rows = fused_rows(world, target, judgement, distances, held_out, share)?;
    let loss = |of: fn(&Fused) -> &Vec<f64>| log_loss(&rows.iter().flat_map(|f| of(f).clone()).collect::<Vec<f64>>(), labels, classes);
    Ok(Rehearsal {
        history: world.names[target.history].clone(),
        rows: labels.len(),
        own_uniform: target.task.uniform,
        theta0: target.task.loss(&Theta::DEFAULT).0,
        theta: target.task.loss(&training.theta).0,
        held_out: target.task.loss(&held_out).0,
        uniform: loss(|f| &f.uniform),
        js: loss(|f| &f.js),
        default: loss(|f| &f.label),
        with_shares: loss_with_shares(&rows, labels, classes),
        with_labels: loss_with_labels(&rows, labels, classes)?,
    })
}

fn fused_rows(
    world: &World,
    target: &PseudoTarget,
    judgement: &Judgement,
    distances: &[f64],
    theta: Theta,
    share: f64,
) -> Result<Vec<Fused>> {
    let rest = &target.rest;
    let own: Vec<&Calibration> = rest.iter().map(|&k| &world.calibrations[k]).collect();
    let log_rows = rest.iter().map(|&k| world.log_rows[k]).collect();
    let js = weights(&rest.iter().map(|&k| distances[k]).collect::<Vec<_>>());
    let blend = Blend::new(&own, judgement.clone(), log_rows, theta, share, js)?;
    let Some(rows) = world.pseudo_target(target.history) else { return Ok(Vec::new()) };
    let raw: Vec<Vec<f64>> = (0..rows.len()).map(|i| rest.iter().flat_map(|&k| rows.raw(i, k)).copied().collect()).collect();
    let (mut means, mut scratch) = (blend.means(), Vec::new());
    raw.iter().for_each(|r| blend.add(r, &mut scratch, &mut means));
    let fuser = Fuser::new(blend, &means);
    let fuse = |(i, raw): (usize, &Vec<f64>)| {
        let mut room = fuser.room();
        let s: Vec<f64> = rest.iter().map(|&k| rows.support(i)[k]).collect();
        fuser.row(raw, &s, &mut room);
        room
    };
    Ok(raw.iter().enumerate().map(fuse).collect())
}

fn loss_with_shares(rows: &[Fused], labels: &[u16], classes: usize) -> f64 {
    let mut shares = vec![0.0; classes];
    labels.iter().for_each(|y| shares[usize::from(*y)] += 1.0 / labels.len() as f64);
    floor(&mut shares, 1e-4);
    let mut search = ShareShift::new(shares);
    while !search.done() {
        let mut sums = search.sums();
        rows.iter().for_each(|r| sums.add(&r.z));
        search.update(&sums);
    }
    log_loss(&shifted(rows, search.constants()), labels, classes)
}

fn loss_with_labels(rows: &[Fused], labels: &[u16], classes: usize) -> Result<Option<f64>> {
    let known = evenly(rows.len(), LABELS.min(rows.len() / 2));
    if known.len() < LEAST_LABELS {
        return Ok(None);
    }
    let z: Vec<f64> = known.iter().flat_map(|i| rows[*i].z.clone()).collect();
    let constants = shift_to_labels(&z, &known.iter().map(|i| labels[*i]).collect::<Vec<_>>(), classes)?;
    let rest: Vec<usize> = (0..rows.len()).filter(|i| known.binary_search(i).is_err()).collect();
    let all = shifted(rows, &constants);
    let p: Vec<f64> = rest.iter().flat_map(|i| all[i * classes..(i + 1) * classes].to_vec()).collect();
    Ok(Some(log_loss(&p, &rest.iter().map(|i| labels[*i]).collect::<Vec<_>>(), classes)))
}

fn shifted(rows: &[Fused], constants: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = rows.iter().flat_map(|r| r.z.clone()).collect();
    all.chunks_exact_mut(constants.len()).for_each(|z| shift(z, constants));
    all
}
