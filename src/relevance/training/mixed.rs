//! The rehearsed labels mixed with the pooled teacher, and the share of it that the rehearsals bear out.

use crate::error::Result;
use crate::relevance::maths::probability::{log_loss, log_mix, softmax};
use crate::relevance::training::leave_one_out::{Played, loss_with_labels, moved_to};
use crate::relevance::training::rehearsal::{Curve, Mixed, Rehearsal, SHARES, SelfEstimate};

/// The share before any rehearsal of a pooled teacher with rows enough, and how many rehearsals that is worth.
const PRIOR_SHARE: f64 = 0.5;
const PRIOR_WEIGHT: f64 = 2.0;
/// With as many rows as this the share before any rehearsal is half of that: trees need rows.
const HALF_ROWS: f64 = 1000.0;

/// The share that the rehearsals bear out: the mean of the shares that would have been best on each history,
/// with [`PRIOR_WEIGHT`] more at the share before any rehearsal. A mean of places, since a mean of losses
/// follows the one history on which most is at stake.
fn share(curves: &[Curve], rows: usize) -> f64 {
    let prior = PRIOR_SHARE * rows as f64 / (rows as f64 + HALF_ROWS);
    let best = |curve: &Curve| {
        SHARES[(0..SHARES.len()).fold(0, |best, i| if curve[i] < curve[best] { i } else { best })]
    };
    let sum: f64 = curves.iter().map(best).sum();
    (sum + PRIOR_WEIGHT * prior) / (curves.len() as f64 + PRIOR_WEIGHT)
}

/// Adds [`Mixed`] to every history for which `rehearsed` holds pooled probabilities `[n, C]` (by teacher), and
/// returns the table with the share to use for the target of a pooled teacher that `rows` rows trained.
pub fn mix(
    played: Vec<Played>,
    rehearsed: &[Option<Vec<f64>>],
    rows: usize,
    classes: usize,
) -> Result<(Vec<Rehearsal>, f64)> {
    let curves: Vec<Option<Curve>> =
        played
            .iter()
            .map(|p| {
                let pooled = rehearsed.get(p.history)?.as_ref()?;
                let judged = &p.rehearsal.judged;
                Some(SHARES.map(|g| {
                    log_loss(&mixture(g, &judged.aligned, pooled, classes), &judged.labels, classes)
                }))
            })
            .collect();
    let chosen = share(&curves.iter().flatten().copied().collect::<Vec<_>>(), rows);
    let mut table = Vec::with_capacity(played.len());
    for (place, played) in played.into_iter().enumerate() {
        let mut rehearsal = played.rehearsal;
        if let (Some(losses), Some(Some(pooled))) = (curves[place], rehearsed.get(played.history)) {
            let others: Vec<Curve> =
                curves.iter().enumerate().filter(|(i, _)| *i != place).filter_map(|(_, c)| *c).collect();
            let share = share(&others, rows);
            rehearsal.mixed = Some(Mixed::new(share, losses, &rehearsal, &played.without, pooled, classes)?);
        }
        table.push(rehearsal);
    }
    Ok((table, chosen))
}

impl Mixed {
    fn new(
        share: f64,
        losses: Curve,
        rehearsal: &Rehearsal,
        without: &[Vec<f64>],
        pooled: &[f64],
        classes: usize,
    ) -> Result<Mixed> {
        let judged = &rehearsal.judged;
        let labels = &judged.labels;
        let loss = |p: &[f64]| log_loss(p, labels, classes);
        let aligned = mixture(share, &judged.aligned, pooled, classes);
        let mut shares = vec![0.0; classes];
        // the label that knows the shares already has them as its mean
        let rows = labels.len() as f64;
        judged
            .with_shares
            .chunks_exact(classes)
            .for_each(|p| shares.iter_mut().zip(p).for_each(|(s, p)| *s += p / rows));
        let with_shares = moved_to(logits(share, &judged.with_shares, pooled), &shares);
        Ok(Mixed {
            share,
            losses,
            aligned: loss(&aligned),
            with_shares: loss(&with_shares),
            with_labels: loss_with_labels(&logits(share, &judged.aligned, pooled), labels, classes)?,
            aligned_said: SelfEstimate::of(&aligned, labels),
            with_shares_said: SelfEstimate::of(&with_shares, labels),
            without: without.iter().map(|p| loss(&mixture(share, p, pooled, classes))).collect(),
            judged_aligned: aligned,
            judged_with_shares: with_shares,
        })
    }
}

/// Logits of soft labels `[n, C]` with the pooled probabilities mixed in.
fn logits(share: f64, label: &[f64], pooled: &[f64]) -> Vec<f64> {
    let mut z: Vec<f64> = label.iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect();
    log_mix(share, pooled, &mut z);
    z
}

fn mixture(share: f64, label: &[f64], pooled: &[f64], classes: usize) -> Vec<f64> {
    let mut p = logits(share, label, pooled);
    p.chunks_exact_mut(classes).for_each(|z| {
        softmax(z);
    });
    p
}
