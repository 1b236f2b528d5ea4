//! The leave-one-scenario-out table: each history plays the target once more, under a theta that was trained
//! without it.
//!
//! It shows what relevance is worth here, and what class shares or labels of the target would be worth. A
//! history that plays the target still helped to train the others' foreign slopes no more than it did in step
//! 9, but it was part of the profiles; so the table is close to honest, not entirely.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::relevance::findings::risk::Judged;
use crate::relevance::fusion::alignment::{Pool, aligned, aligned_gate_share};
use crate::relevance::fusion::base_rate::{LEAST_LABELS, shift, shift_beyond_chance, shift_to_shares};
use crate::relevance::fusion::columns::OwnColumns;
use crate::relevance::fusion::fuse::{Blend, Fused, Fuser, gate_share};
use crate::relevance::fusion::gating::{Task, Theta};
use crate::relevance::maths::probability::{log_loss, spaced_rows};
use crate::relevance::profile::distance::weights;
use crate::relevance::training::estimate::LEAST_REHEARSALS;
use crate::relevance::training::rehearsal::{Rehearsal, SelfEstimate, Without};
use crate::relevance::training::train::{PseudoTarget, Training, fit};
use crate::relevance::transfer::calibrate::Calibration;
use crate::relevance::transfer::cross_loss::CrossLoss;
use crate::relevance::transfer::sources::SourceScores;

/// Labels that the table supposes.
const LABELS: usize = 50;

/// How far 1/JS alone is to be trusted instead of the aligned pool, from 0 to 1.
///
/// Where scenarios form clusters, distance can know better than a gate that few pseudo-targets have trained.
/// It has to prove it: better on three quarters of the histories, of which there must be three, and by more
/// than 3 % of log-loss on the geometric mean; by 13 % it has all.
pub fn tilt(table: &[Rehearsal], shares_known: bool) -> f64 {
    let gain = |r: &Rehearsal| {
        if shares_known { (r.with_shares / r.js_with_shares).ln() } else { (r.aligned / r.js).ln() }
    };
    proven(&table.iter().map(gain).collect::<Vec<f64>>())
}

/// The tilt that these gains of log-loss, one of each history, are proof of.
fn proven(gains: &[f64]) -> f64 {
    let better = gains.iter().filter(|gain| **gain > 0.0).count();
    if gains.len() < LEAST_REHEARSALS || 4 * better < 3 * gains.len() {
        return 0.0;
    }
    let mean = gains.iter().sum::<f64>() / gains.len() as f64;
    ((mean - 0.03) / 0.1).clamp(0.0, 1.0)
}

/// A history that played the target, and the aligned labels without each of the teachers, `[n, C]`, in the
/// order of [`Rehearsal::without`].
pub struct Played {
    pub history: usize,
    pub rehearsal: Rehearsal,
    pub without: Vec<Vec<f64>>,
}

/// The table of all pseudo-targets; `between[q]` are the distances of the teachers' histories to history q.
pub fn rehearse(
    world: &SourceScores,
    training: &Training,
    without: &[CrossLoss],
    between: &[Vec<f64>],
) -> Result<Vec<Played>> {
    training
        .pseudo_targets
        .par_iter()
        .map(|t| rehearsal(world, training, t, &without[t.history], &between[t.history]))
        .collect()
}

fn rehearsal(
    world: &SourceScores,
    training: &Training,
    target: &PseudoTarget,
    judgement: &CrossLoss,
    distances: &[f64],
) -> Result<Played> {
    let others = |task: fn(&PseudoTarget) -> &Task| -> Vec<&Task> {
        training.pseudo_targets.iter().filter(|t| t.history != target.history).map(task).collect()
    };
    let (plain, moved) = (others(|t| &t.task), others(|t| &t.aligned));
    let trained = !plain.is_empty();
    let held_out = fit(&plain, world.teachers(), training.theta);
    let held_out_aligned = fit(&moved, world.teachers(), training.aligned);
    let stage = Stage::new(world, target.history, &target.rest, judgement, distances, held_out, trained)?;
    let labels = &target.task.labels;
    let loss = |p: Vec<f64>| log_loss(&p, labels, world.classes);
    let reference = stage.fused(&stage.fuser);
    let uniform = loss(reference.iter().flat_map(|f| f.uniform.clone()).collect());
    let js = loss(reference.iter().flat_map(|f| f.js.clone()).collect());
    let aligned = stage.fused(&stage.aligned(held_out_aligned, trained, <[f64]>::to_vec));
    let shares = target.aligned.shares.clone().unwrap_or_default();
    let told = stage.fused(&stage.aligned(held_out_aligned, trained, |_| shares.clone()));
    let moved: Vec<f64> = reference.iter().flat_map(|f| f.js.iter().map(|p| p.ln())).collect();
    let alone: Vec<f64> =
        (0..target.rest.len()).map(|place| loss(calibrated(&reference, place, world.classes))).collect();
    let best = (0..alone.len()).fold(0, |best, place| if alone[place] < alone[best] { place } else { best });
    let (mut without, mut labels_without) = (Vec::new(), Vec::new());
    for (place, &k) in target.rest.iter().enumerate().filter(|_| target.rest.len() > 1) {
        let rest: Vec<usize> = target.rest.iter().copied().filter(|other| *other != k).collect();
        let stage = Stage::new(
            world,
            target.history,
            &rest,
            &judgement.without(place),
            distances,
            held_out,
            trained,
        )?;
        let aligned = label(&stage.fused(&stage.aligned(held_out_aligned, trained, <[f64]>::to_vec)));
        let default = loss(label(&stage.fused(&stage.fuser)));
        without.push(Without {
            teacher: world.names[k].clone(),
            default,
            aligned: log_loss(&aligned, labels, world.classes),
        });
        labels_without.push(aligned);
    }
    let rehearsal = Rehearsal {
        history: world.names[target.history].clone(),
        rows: labels.len(),
        own_uniform: target.task.uniform,
        theta0: target.task.loss(&Theta::DEFAULT).0,
        theta: target.task.loss(&training.theta).0,
        held_out: target.task.loss(&held_out).0,
        uniform,
        js,
        default: loss(label(&reference)),
        aligned: loss(label(&aligned)),
        with_shares: loss(label(&told)),
        with_labels: loss_with_labels(
            &aligned.iter().flat_map(|f| f.z.clone()).collect::<Vec<_>>(),
            labels,
            world.classes,
        )?,
        js_with_shares: loss(moved_to(moved, &shares)),
        best_teacher: world.names[target.rest[best]].clone(),
        best: alone[best],
        oracle: oracle(&reference, labels, world.classes),
        default_said: SelfEstimate::of(&label(&reference), labels),
        aligned_said: SelfEstimate::of(&label(&aligned), labels),
        with_shares_said: SelfEstimate::of(&label(&told), labels),
        without,
        judged: Judged {
            labels: labels.clone(),
            default: label(&reference),
            aligned: label(&aligned),
            with_shares: label(&told),
            support: aligned.iter().map(|f| f.support).collect(),
            disagreement: aligned.iter().map(|f| f.disagreement).collect(),
        },
        mixed: None,
    };
    Ok(Played { history: target.history, rehearsal, without: labels_without })
}

/// Calibrated scores `[n, C]` of the teacher at `place`.
fn calibrated(rows: &[Fused], place: usize, classes: usize) -> Vec<f64> {
    rows.iter().flat_map(|f| &f.p[place * classes..(place + 1) * classes]).copied().collect()
}

fn oracle(rows: &[Fused], labels: &[u16], classes: usize) -> f64 {
    let most = |(f, y): (&Fused, &u16)| {
        f.p.iter().skip(usize::from(*y)).step_by(classes).copied().fold(0.0, f64::max)
    };
    rows.iter().zip(labels).map(|row| -most(row).ln()).sum::<f64>() / labels.len() as f64
}

/// Probabilities `[n, C]` of logits, moved to class shares.
pub(super) fn moved_to(mut z: Vec<f64>, shares: &[f64]) -> Vec<f64> {
    let constants = shift_to_shares(&z, shares);
    z.chunks_exact_mut(shares.len()).for_each(|z| shift(z, &constants));
    z
}

fn label(rows: &[Fused]) -> Vec<f64> {
    rows.iter().flat_map(|f| f.label.clone()).collect()
}

/// The rows of a history that plays the target, as the other teachers see them, and the reference's fuser for
/// them.
struct Stage {
    rows: OwnColumns,
    fuser: Fuser,
}

impl Stage {
    /// History `q` for the teachers in `rest`; `judgement` is theirs, `distances` are of all teachers to `q`.
    fn new(
        world: &SourceScores,
        q: usize,
        rest: &[usize],
        judgement: &CrossLoss,
        distances: &[f64],
        theta: Theta,
        trained: bool,
    ) -> Result<Self> {
        let own: Vec<&Calibration> = rest.iter().map(|&k| &world.calibrations[k]).collect();
        let log_rows = rest.iter().map(|&k| world.log_rows[k]).collect();
        let js = weights(&rest.iter().map(|&k| distances[k]).collect::<Vec<_>>());
        let blend = Blend::new(&own, judgement.clone(), log_rows, theta, gate_share(trained), js)?;
        let rows = world.pseudo_target(q).ok_or_else(|| Error::bug("a pseudo-target without history"))?;
        let (n, classes) = (rows.len(), world.classes);
        let raw = |at: usize| (0..n).map(|i| rows.raw(i, rest[at / classes])[at % classes]).collect();
        let rows = OwnColumns {
            raw: (0..rest.len() * classes).map(raw).collect(),
            support: rest.iter().map(|&k| (0..n).map(|i| rows.support(i)[k]).collect()).collect(),
        };
        let mut means = blend.means();
        blend.add(&rows.columns(), &mut means);
        Ok(Stage { rows, fuser: Fuser::new(blend, &means) })
    }

    fn aligned(&self, theta: Theta, trained: bool, shares: impl Fn(&[f64]) -> Vec<f64>) -> Fuser {
        aligned(
            &self.fuser,
            &self.rows.columns(),
            Pool { theta, gate_share: aligned_gate_share(trained), tilt: 0.0 },
            shares,
        )
    }

    fn fused(&self, fuser: &Fuser) -> Vec<Fused> {
        let columns = self.rows.columns();
        let mut room = fuser.scratch();
        let mut fuse = |i: usize| {
            let (raw, s) = columns.row(i);
            fuser.row(&raw, &s, &mut room);
            room.clone()
        };
        (0..columns.rows()).map(&mut fuse).collect()
    }
}

/// Log-loss of logits `z` `[n, C]` once some of the rows are labelled, on the others.
pub(super) fn loss_with_labels(z: &[f64], labels: &[u16], classes: usize) -> Result<Option<f64>> {
    let known = spaced_rows(labels.len(), LABELS.min(labels.len() / 2));
    if known.len() < LEAST_LABELS {
        return Ok(None);
    }
    let rows = |of: &[usize], z: &[f64]| -> Vec<f64> {
        of.iter().flat_map(|i| &z[i * classes..(i + 1) * classes]).copied().collect()
    };
    let classes_of = |of: &[usize]| of.iter().map(|i| labels[*i]).collect::<Vec<_>>();
    let constants = shift_beyond_chance(&rows(&known, z), &classes_of(&known), classes)?;
    let rest: Vec<usize> = (0..labels.len()).filter(|i| known.binary_search(i).is_err()).collect();
    let mut p = rows(&rest, z);
    p.chunks_exact_mut(classes).for_each(|z| shift(z, &constants));
    Ok(Some(log_loss(&p, &classes_of(&rest), classes)))
}

#[cfg(test)]
mod tests {
    use super::proven;

    #[test]
    fn distance_alone_has_to_prove_itself_on_three_histories() {
        assert_eq!(proven(&[0.2, 0.2]), 0.0);
        assert_eq!(proven(&[0.2, 0.2, 0.2]), 1.0);
        assert_eq!(proven(&[0.3, 0.3, -0.01]), 0.0, "two of three are no three quarters");
        assert!((proven(&[0.1, 0.1, 0.1, 0.02]) - 0.5).abs() < 1e-12);
        assert_eq!(proven(&[0.02, 0.02, 0.02]), 0.0);
        assert_eq!(proven(&[]), 0.0);
    }
}
