//! What the teachers of a set say of each other on their histories.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::relevance::transfer::sources::SourceScores;

const V_CLIP: f64 = 1.5;

/// What the teachers S say of each other on their histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossLoss {
    /// Foreign slope of each teacher `[S]`.
    pub slopes: Vec<f64>,
    /// `M[k][q]`: log-loss of calibrated teacher k on history q; none where q has no history, or no table of
    /// k.
    pub cross_loss: Vec<Vec<Option<f64>>>,
    /// `V[k][q]`: the same relative to the mean teacher that is known there, clipped; 0 where nothing is.
    pub relative: Vec<Vec<f64>>,
    /// Log-loss of each teacher on its own history as its own calibration has it: no other history moves it.
    /// None without a history; empty in files of earlier versions.
    #[serde(default)]
    pub home: Vec<Option<f64>>,
    /// Class shares of each history, at least .01.
    pub shares: Vec<Option<Vec<f64>>>,
}

impl CrossLoss {
    /// Slopes, cross-loss and shares of `set`, a list of teachers.
    pub fn new(world: &SourceScores, set: &[usize]) -> Self {
        let slopes: Vec<f64> = set.par_iter().map(|&k| world.slope(k, set)).collect();
        let pairs: Vec<(usize, usize)> =
            (0..set.len()).flat_map(|k| (0..set.len()).map(move |q| (k, q))).collect();
        let losses: Vec<Option<f64>> =
            pairs.into_par_iter().map(|(k, q)| world.cross_loss(set[k], slopes[k], set[q])).collect();
        let cross_loss: Vec<Vec<Option<f64>>> = losses.chunks(set.len().max(1)).map(<[_]>::to_vec).collect();
        let learned: Vec<bool> = set.iter().map(|&k| world.learned(k)).collect();
        let relative = relative(&cross_loss, &learned);
        let home = set.par_iter().map(|&k| world.cross_loss(k, 1.0, k)).collect();
        let shares = set.iter().map(|&k| world.share(k)).collect();
        CrossLoss { slopes, cross_loss, relative, home, shares }
    }

    /// The same teachers without the one at `place`, who keep the slopes that its history helped to find.
    pub fn without(&self, place: usize) -> Self {
        let cross_loss: Vec<Vec<Option<f64>>> =
            left(&self.cross_loss, place).iter().map(|row| left(row, place)).collect();
        let shares = left(&self.shares, place);
        let learned: Vec<bool> = shares.iter().map(Option::is_some).collect();
        CrossLoss {
            slopes: left(&self.slopes, place),
            relative: relative(&cross_loss, &learned),
            cross_loss,
            home: if self.home.is_empty() { Vec::new() } else { left(&self.home, place) },
            shares,
        }
    }

    /// Log-loss of teacher `k` at home.
    pub fn at_home(&self, k: usize) -> Option<f64> {
        self.home.get(k).copied().unwrap_or(self.cross_loss[k][k])
    }

    /// Mean over histories of the logarithms of their class shares `[C]`; none without a history.
    pub fn prior(&self) -> Option<Vec<f64>> {
        let known: Vec<&Vec<f64>> = self.shares.iter().flatten().collect();
        let classes = known.first()?.len();
        Some(
            (0..classes).map(|c| known.iter().map(|s| s[c].ln()).sum::<f64>() / known.len() as f64).collect(),
        )
    }
}

/// All items but the one at `place`.
fn left<T: Clone>(items: &[T], place: usize) -> Vec<T> {
    items.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, v)| v.clone()).collect()
}

fn relative(cross_loss: &[Vec<Option<f64>>], learned: &[bool]) -> Vec<Vec<f64>> {
    let mean = |q: usize| {
        let known: Vec<f64> =
            (0..learned.len()).filter(|k| learned[*k]).filter_map(|k| cross_loss[k][q]).collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    let means: Vec<f64> = (0..learned.len()).map(mean).collect();
    let cell = |k: usize, q: usize| match cross_loss[k][q] {
        Some(loss) if learned[k] && learned[q] => ((loss - means[q]) / means[q]).clamp(-V_CLIP, V_CLIP),
        _ => 0.0,
    };
    (0..learned.len()).map(|k| (0..learned.len()).map(|q| cell(k, q)).collect()).collect()
}

/// The gate's share term: mean_k ln pi_k - ln(mean_x mean_k p_k) `[C]`; 0 without any history.
pub fn share_term(judgement: &CrossLoss, mean: &[f64]) -> Vec<f64> {
    match judgement.prior() {
        Some(prior) => prior.iter().zip(mean).map(|(prior, m)| prior - m.ln()).collect(),
        None => vec![0.0; mean.len()],
    }
}
