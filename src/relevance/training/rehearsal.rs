//! What a rehearsal says: one history that played the target of the other teachers.

use serde::{Deserialize, Serialize};

use crate::relevance::findings::risk::Judged;
use crate::relevance::maths::probability::{argmax, entropy};
use crate::relevance::training::pooled::NAME;

/// Shares of the pooled teacher that the rehearsals try.
pub const SHARES: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Log-losses of the label of one history for each of [`SHARES`].
pub type Curve = [f64; SHARES.len()];

/// Log-losses on one history that plays the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    pub history: String,
    pub rows: usize,
    /// Mean of the own-calibrated teachers: what the training divides by.
    pub own_uniform: f64,
    /// The gate alone under theta0, under theta, and under a theta trained without this history.
    pub theta0: f64,
    pub theta: f64,
    pub held_out: f64,
    /// The rivals, and the default of the reference, its gate trained without this history.
    pub uniform: f64,
    pub js: f64,
    pub default: f64,
    /// The pool of aligned teachers, its gate trained without this history: as it is, with the class shares
    /// known, and with 50 labels known (on the other rows; none where there are too few).
    pub aligned: f64,
    pub with_shares: f64,
    pub with_labels: Option<f64>,
    /// 1/JS with the class shares known.
    pub js_with_shares: f64,
    /// The best calibrated teacher on this history, chosen by its labels, and its loss.
    pub best_teacher: String,
    pub best: f64,
    /// The best calibrated teacher for each account, chosen by its label: no weights, of whatever account,
    /// can do better on average of probabilities.
    pub oracle: f64,
    /// What the labels say of themselves beside how right they are: the default, the pool of aligned
    /// teachers, the same with the class shares known.
    pub default_said: SelfEstimate,
    pub aligned_said: SelfEstimate,
    pub with_shares_said: SelfEstimate,
    /// The losses without each of the teachers, under the same theta.
    pub without: Vec<Without>,
    /// The rows and their soft labels: what abstaining would be worth is read from them.
    pub judged: Judged,
    /// The same of the aligned label mixed with the pooled teacher, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<Mixed>,
}

/// How right labels are, and how right they say they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfEstimate {
    /// Share of rows whose largest probability is that of their class.
    pub accuracy: f64,
    /// Mean of the largest probability: the accuracy that the labels promise.
    pub confidence: f64,
    /// Mean entropy in nats: the log-loss that they promise.
    pub entropy: f64,
}

/// Log-losses with one teacher less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Without {
    pub teacher: String,
    pub default: f64,
    pub aligned: f64,
}

impl SelfEstimate {
    /// Of soft labels `[n, C]` whose true classes these are.
    pub(super) fn of(p: &[f64], labels: &[u16]) -> SelfEstimate {
        let classes = p.len() / labels.len();
        let n = labels.len() as f64;
        let mean = |of: fn(&[f64]) -> f64| p.chunks_exact(classes).map(of).sum::<f64>() / n;
        let right =
            p.chunks_exact(classes).zip(labels).filter(|(p, y)| argmax(p) == usize::from(**y)).count();
        SelfEstimate {
            accuracy: right as f64 / n,
            confidence: mean(|p| p[argmax(p)]),
            entropy: mean(entropy),
        }
    }
}

/// What one rehearsal says of the aligned label once the pooled teacher, trained without this history, is
/// mixed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// The share that the other rehearsals alone would have chosen.
    pub share: f64,
    /// Log-loss for each of [`SHARES`].
    pub losses: Curve,
    /// Log-losses at `share`, as of the aligned label in [`Rehearsal`].
    pub aligned: f64,
    pub with_shares: f64,
    pub with_labels: Option<f64>,
    pub aligned_said: SelfEstimate,
    pub with_shares_said: SelfEstimate,
    /// Without each of the teachers, in the order of [`Rehearsal::without`]; the pooled one keeps its rows.
    pub without: Vec<f64>,
    /// Soft labels `[n, C]`.
    pub judged_aligned: Vec<f64>,
    pub judged_with_shares: Vec<f64>,
}

impl Rehearsal {
    /// The rehearsal of the label that is published: where a pooled teacher is mixed in, what was measured of
    /// the aligned label is that of the mixed one, and the pooled teacher stands among those left out.
    pub fn published(&self) -> Rehearsal {
        let mut out = self.clone();
        let Some(mixed) = out.mixed.take() else { return out };
        out.without.iter_mut().zip(&mixed.without).for_each(|(w, loss)| w.aligned = *loss);
        out.without.push(Without { teacher: NAME.to_string(), default: out.default, aligned: out.aligned });
        out.aligned = mixed.aligned;
        out.with_shares = mixed.with_shares;
        out.with_labels = mixed.with_labels;
        out.aligned_said = mixed.aligned_said;
        out.with_shares_said = mixed.with_shares_said;
        out.judged.aligned = mixed.judged_aligned;
        out.judged.with_shares = mixed.judged_with_shares;
        out
    }
}
