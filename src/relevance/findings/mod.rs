//! What a run has found out about relevance, in numbers: the rivals side by side, what each teacher adds, how
//! right the labels may be.
//!
//! Ratios of log-losses are averaged over the rehearsals as geometric means less one: -.04 is a log-loss 4 %
//! lower.

pub mod advice;
pub mod diversity;
pub mod risk;
pub mod verdict;

use serde::{Deserialize, Serialize};

use crate::relevance::findings::diversity::Diversity;
use crate::relevance::maths::probability::entropy;
use crate::relevance::profile::known::Known;
use crate::relevance::training::estimate::{
    Estimate, USUAL_ACCURACY_GAP, USUAL_LOSS_GAP, estimate, sample_std,
};
use crate::relevance::training::pooled::{NAME, Pooled};
use crate::relevance::training::rehearsal::Rehearsal;
use crate::relevance::transfer::cross_loss::CrossLoss;

/// What the published label is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    Default,
    Aligned,
}

impl Published {
    /// What belongs to this kind of label.
    pub fn pick<T>(self, default: T, aligned: T) -> T {
        match self {
            Published::Default => default,
            Published::Aligned => aligned,
        }
    }
}

/// What the target's accounts (or a sample of them) show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub accounts: usize,
    /// Means over accounts of the largest probability and of the entropy (nats) of the soft label.
    pub confidence: f64,
    pub entropy: f64,
    /// Share of accounts on which a rival's class is not the label's: uniform, 1/JS, gate.
    pub rivals_differ: [f64; 3],
    pub diversity: Diversity,
}

/// What one teacher adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropOne {
    pub teacher: String,
    /// The teacher that it repeats; it was never asked then, so that nothing changes without it.
    pub same_as: Option<String>,
    /// Mean over accounts of its weight.
    pub weight: f64,
    /// Without it: mean over accounts of half of sum_c |p_c - p'_c|, and the share of accounts with another
    /// class.
    pub moved: f64,
    pub class_changes: f64,
    /// Without it: change of the log-loss over the rehearsals of other histories, and how many those were.
    pub loss_change: Option<f64>,
    pub rehearsals: usize,
    /// 1 - log-loss at home / entropy of the class shares there: 0 where its scores say nothing about the
    /// labels of its own history.
    pub own_skill: Option<f64>,
    /// Mean over the other histories of its log-loss against that of the other foreigners, less one.
    pub abroad: Option<f64>,
}

/// What the pooled teacher is: its share of the label, and what trained it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PooledFinding {
    pub share: f64,
    pub histories: usize,
    pub rows: usize,
    /// Features by importance, the most important ones.
    pub features: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub published: Published,
    /// `none`, `class_shares` or `labels`: what of the base rate was known.
    pub base_rate: String,
    pub trained: bool,
    /// Whether no history overlaps with the target, so that the teachers count evenly.
    pub irrelevant: bool,
    pub seen: Seen,
    /// The pooled teacher, where there is one.
    pub pooled: Option<PooledFinding>,
    pub drops: Vec<DropOne>,
    /// Histories that played the target.
    pub rehearsals: usize,
    /// On how many of them the published kind of label was more than 1 % worse than the plain mean of the
    /// teachers.
    pub harmed: usize,
    /// Standard error of the published kind's log-loss against the plain mean, over the rehearsals.
    pub error: Option<f64>,
    /// Log-loss against the plain mean of the teachers, over the rehearsals.
    pub js: Option<f64>,
    pub gate: Option<f64>,
    pub default: Option<f64>,
    pub aligned: Option<f64>,
    pub best_teacher: Option<f64>,
    /// The most that choosing a teacher for each account could give.
    pub oracle: Option<f64>,
    /// Log-loss against the published kind of label: with the class shares known, with 50 labels, and with
    /// one teacher more.
    pub with_shares: Option<f64>,
    pub with_labels: Option<f64>,
    pub with_teacher: Option<f64>,
    pub accuracy: Option<Estimate>,
    pub log_loss: Option<Estimate>,
    /// What teachers know no longer of the target's columns.
    #[serde(default)]
    pub lost: Vec<Known>,
}

/// Features of the pooled teacher that are named.
const NAMED: usize = 3;

impl PooledFinding {
    fn of(pooled: &Pooled, share: f64) -> Self {
        let mut order: Vec<usize> =
            (0..pooled.features.len()).filter(|j| pooled.importance[*j] > 0.0).collect();
        order.sort_by(|a, b| pooled.importance[*b].total_cmp(&pooled.importance[*a]).then(a.cmp(b)));
        let features = order.iter().take(NAMED).map(|j| pooled.features[*j].name.clone()).collect();
        PooledFinding { share, histories: pooled.histories, rows: pooled.rows, features }
    }
}

impl Findings {
    /// Sums up the rehearsals and what was seen of the target; `drops` lack only what the rehearsals know.
    pub fn new(
        published: Published,
        base_rate: &str,
        trained: bool,
        irrelevant: bool,
        seen: Seen,
        drops: Vec<DropOne>,
        table: &[Rehearsal],
    ) -> Self {
        let loss = |r: &Rehearsal| published.pick(r.default, r.aligned);
        let told = |r: &Rehearsal| match base_rate {
            "class_shares" => (r.with_shares, r.with_shares_said),
            _ => (loss(r), published.pick(r.default_said, r.aligned_said)),
        };
        let against = |of: &dyn Fn(&Rehearsal) -> f64, to: &dyn Fn(&Rehearsal) -> f64| {
            change(table.iter().map(|r| (of(r), to(r))))
        };
        let uniform = |r: &Rehearsal| r.uniform;
        let gaps = |of: &dyn Fn(&Rehearsal) -> f64| table.iter().map(of).collect::<Vec<f64>>();
        let without = table.iter().flat_map(|r| {
            r.without
                .iter()
                .filter(|w| w.teacher != NAME)
                .map(move |w| (loss(r), if published == Published::Aligned { w.aligned } else { w.default }))
        });
        Findings {
            rehearsals: table.len(),
            harmed: table.iter().filter(|r| loss(r) > 1.01 * r.uniform).count(),
            error: standard_error(table.iter().map(|r| (loss(r) / r.uniform).ln())),
            js: against(&|r| r.js, &uniform),
            gate: against(&|r| r.held_out, &uniform),
            default: against(&|r| r.default, &uniform),
            aligned: against(&|r| r.aligned, &uniform),
            best_teacher: against(&|r| r.best, &uniform),
            oracle: against(&|r| r.oracle, &uniform),
            with_shares: against(&|r| r.with_shares, &loss),
            with_labels: change(table.iter().filter_map(|r| Some((r.with_labels?, loss(r))))),
            with_teacher: change(without),
            accuracy: estimate(
                seen.confidence,
                &gaps(&|r| told(r).1.accuracy - told(r).1.confidence),
                USUAL_ACCURACY_GAP,
                0.0,
                1.0,
            ),
            log_loss: estimate(
                seen.entropy,
                &gaps(&|r| told(r).0 - told(r).1.entropy),
                USUAL_LOSS_GAP,
                0.0,
                f64::MAX,
            ),
            published,
            base_rate: base_rate.to_string(),
            trained,
            irrelevant,
            seen,
            pooled: None,
            drops,
            lost: Vec::new(),
        }
    }

    /// The same of a label in which a pooled teacher has this share.
    pub fn with_pooled(mut self, pooled: Option<(&Pooled, f64)>) -> Self {
        self.pooled = pooled.map(|(pooled, share)| PooledFinding::of(pooled, share));
        self
    }

    /// Tells of columns that were lost: `share` of the features of the teacher that lost most. The rehearsals
    /// had those columns, so that their promise does not hold: the estimates are no better than what was
    /// measured on the histories, pulled by that share, a tenth at least, to what a guess among `classes` gets.
    pub fn with_lost(mut self, lost: Vec<Known>, share: f64, classes: usize, table: &[Rehearsal]) -> Self {
        if lost.is_empty() {
            return self;
        }
        let share = share.max(LEAST_PULL);
        // Without a rehearsal nothing was measured, and nothing bounds the estimate.
        let mean = |of: &dyn Fn(&Rehearsal) -> f64| table.iter().map(of).sum::<f64>() / table.len() as f64;
        let said = |r: &Rehearsal| self.published.pick(r.default_said, r.aligned_said).accuracy;
        let loss = |r: &Rehearsal| self.published.pick(r.default, r.aligned);
        let (measured, loss) = if table.is_empty() { (1.0, 0.0) } else { (mean(&said), mean(&loss)) };
        let guess = 1.0 / classes as f64;
        let pull = |value: f64, to: f64| value + share * (to - value);
        self.accuracy = self.accuracy.map(|e| {
            let value = pull(e.value.min(measured), guess.min(e.value));
            Estimate {
                value,
                error: e.error.max((e.high - e.low) / 4.0),
                low: pull(e.low, guess.min(e.low)),
                ..e
            }
        });
        self.log_loss = self.log_loss.map(|e| {
            let worst = (classes as f64).ln();
            let value = pull(e.value.max(loss), worst.max(e.value));
            Estimate { value, high: pull(e.high, worst.max(e.high)).max(value), ..e }
        });
        self.lost = lost;
        self
    }

    /// The largest share of accounts on which a rival's class is not the label's, where that is more than the
    /// error of the estimated accuracy.
    pub fn rivals_differ(&self) -> Option<f64> {
        let most = self.seen.rivals_differ.iter().copied().fold(0.0, f64::max);
        (most > self.accuracy.map_or(UNKNOWN_ERROR, |e| e.error)).then_some(most)
    }
}

/// The least by which an estimate is pulled to a guess once a column is lost.
const LEAST_PULL: f64 = 0.1;

/// What stands for the error of the estimated accuracy where there is none.
const UNKNOWN_ERROR: f64 = 0.1;

/// Change of the log-loss of a rehearsed label without the teacher named, over the other histories, and how
/// many those are.
pub fn loss_change(table: &[Rehearsal], published: Published, teacher: &str) -> (Option<f64>, usize) {
    let pairs: Vec<(f64, f64)> = table
        .iter()
        .filter_map(|r| r.without.iter().find(|w| w.teacher == teacher).map(|w| (r, w)))
        .map(|(r, w)| published.pick((w.default, r.default), (w.aligned, r.aligned)))
        .collect();
    (change(pairs.iter().copied()), pairs.len())
}

/// Geometric mean of a / b, less one; none over nothing.
fn change(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let logs: Vec<f64> = pairs.map(|(a, b)| (a / b).ln()).collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp() - 1.0)
}

/// s / sqrt m of m values; none of fewer than two.
fn standard_error(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (values.len() > 1).then(|| sample_std(&values) / (values.len() as f64).sqrt())
}

/// 1 - log-loss of teacher `k` at home / entropy of the class shares there; none without history.
pub fn own_skill(judgement: &CrossLoss, k: usize) -> Option<f64> {
    let shares = judgement.shares[k].as_ref()?;
    Some(1.0 - judgement.at_home(k)? / entropy(shares))
}

/// Mean over the other histories of the log-loss of teacher `k` against that of all their foreigners, less
/// one; none where it is the only foreigner.
pub fn abroad(judgement: &CrossLoss, k: usize) -> Option<f64> {
    let count = judgement.slopes.len();
    let learned = |j: usize| judgement.shares[j].is_some();
    let ratio = |q: usize| {
        let losses: Vec<f64> = (0..count)
            .filter(|j| *j != q && learned(*j))
            .filter_map(|j| judgement.cross_loss[j][q])
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        (losses.len() > 1).then_some(judgement.cross_loss[k][q]? / mean - 1.0)
    };
    let ratios: Vec<f64> =
        (0..count).filter(|q| *q != k && learned(*q) && learned(k)).filter_map(ratio).collect();
    (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64)
}
