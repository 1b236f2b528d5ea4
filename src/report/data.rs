//! What the page says, in numbers: made by `gather` from the tables and records of a date, drawn by `html`.
//!
//! Shares and probabilities are within 0 and 1, losses in nats, divergences in bits unless a field says otherwise. `None` is what was not measured.

use serde::Serialize;

/// The page of one date.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub date: String,
    /// The first twelve digits of the run's key.
    pub run: String,
    pub version: String,
    pub accounts: u64,
    pub verdict: Verdict,
    pub classes: Classes,
    pub teachers: Vec<Teacher>,
    pub agreement: Option<Agreement>,
    pub features: Features,
    pub drift: Drift,
    pub trust: Trust,
    pub student: Student,
    pub worth: Vec<Worth>,
    pub data: Data,
    pub truth: Option<Truth>,
}

/// What to think first.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Three sentences: what came out, how far it can be trusted, what to do next.
    pub headline: [String; 3],
    pub level: Level,
    /// The run's own verdict, sentence by sentence.
    pub detail: Vec<String>,
}

/// How far the labels can be used as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The trials say that the labels hold.
    Good,
    /// Usable with care: little was tried, or something moved.
    Care,
    /// Not to be used before somebody has looked.
    Stop,
}

/// Class shares, now and on earlier dates.
#[derive(Debug, Clone, Serialize)]
pub struct Classes {
    pub now: Vec<ClassShare>,
    /// All dates up to this one, ascending.
    pub dates: Vec<String>,
    /// Accounts that were left undecided, by reason.
    pub undecided: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClassShare {
    pub class: String,
    pub accounts: u64,
    /// Of all accounts.
    pub share: f64,
    /// Mean probability over the accounts: the share that the soft labels expect.
    pub expected: Option<f64>,
    /// What the pipeline was told of the share: least and greatest.
    pub known: Option<[f64; 2]>,
    /// Among the accounts whose labels arrived.
    pub truth: Option<f64>,
    /// The share on each of the dates.
    pub over_dates: Vec<Option<f64>>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Teacher {
    pub name: String,
    pub scenario: String,
    pub training_rows: u64,
    pub weight: f64,
    /// Mean Jensen-Shannon divergence of its history from the target, over features.
    pub js: Option<f64>,
    pub psi: Option<f64>,
    /// Area under the curve of a classifier that tells its history from the target: .5 where it cannot.
    pub domain_auc: Option<f64>,
    /// Log-loss on its own history, and mean log-loss on the others'.
    pub own_loss: Option<f64>,
    pub foreign_loss: Option<f64>,
    /// Change of the log-loss in the trials without it; positive where it is missed.
    pub loss_change: Option<f64>,
    /// Share of accounts that get another class without it.
    pub class_changes: Option<f64>,
    pub most_shifted: Option<String>,
    /// The teacher that it repeats.
    pub same_as: Option<String>,
    /// The teacher that the job trained itself on all histories.
    pub pooled: bool,
    pub distrusted: bool,
}

/// Share of sampled accounts on which two teachers name the same class.
#[derive(Debug, Clone, Serialize)]
pub struct Agreement {
    pub teachers: Vec<String>,
    pub shares: Vec<Vec<f64>>,
    pub accounts: u64,
}

/// Features against the teachers' histories.
#[derive(Debug, Clone, Serialize)]
pub struct Features {
    /// Columns of the heat map.
    pub teachers: Vec<String>,
    /// The worst first.
    pub rows: Vec<Feature>,
    /// Features that are not shown.
    pub more: usize,
    pub histograms: Vec<Histogram>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    pub name: String,
    /// Divergence from each teacher's history.
    pub js: Vec<Option<f64>>,
    pub mean: f64,
}

/// A feature of the target beside the history from which it moved most.
#[derive(Debug, Clone, Serialize)]
pub struct Histogram {
    pub feature: String,
    pub teacher: String,
    pub js: f64,
    /// Whether the bins are ranges of a number.
    pub ordered: bool,
    pub bins: Vec<Bin>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Bin {
    pub label: String,
    pub target: f64,
    pub history: f64,
}

/// What changed since earlier dates.
#[derive(Debug, Clone, Serialize)]
pub struct Drift {
    pub first: Option<String>,
    pub previous: Option<String>,
    /// All dates with a sketch, ascending; each line has a value for each.
    pub dates: Vec<String>,
    /// Divergence of each feature from the first date, the worst of this date first.
    pub features: Vec<Line>,
    pub scores: Vec<Line>,
    /// This date against the date before.
    pub since_previous: Vec<Moved>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    pub name: String,
    pub js: f64,
    pub psi: f64,
    pub ks: f64,
    pub wasserstein: Option<f64>,
    pub null_share: f64,
    pub null_before: f64,
    pub unknown_share: f64,
}

/// How right the labels may be.
#[derive(Debug, Clone, Serialize)]
pub struct Trust {
    pub accuracy: Option<Estimate>,
    pub log_loss: Option<Estimate>,
    /// Histories that played the target.
    pub trials: Vec<Trial>,
    /// Confidence beside correctness over all trials.
    pub reliability: Vec<Reliability>,
    pub coverage: Vec<Curve>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub error: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    pub history: String,
    pub rows: u64,
    /// Accuracy that the labels promised, and what it was.
    pub said: f64,
    pub was: f64,
    /// Log-loss of the plain mean of the teachers, of weights by distance, and of the published kind of label.
    pub uniform: f64,
    pub by_distance: f64,
    pub label: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Reliability {
    /// Mean confidence and share of right classes of the rows of a bin, and their share of all rows.
    pub said: f64,
    pub was: f64,
    pub weight: f64,
}

/// Risk against coverage for one measure by which accounts could be left undecided.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    pub measure: String,
    pub points: Vec<Point>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Point {
    pub coverage: f64,
    pub error: f64,
    pub threshold: Option<f64>,
    pub worst_history: Option<String>,
    pub worst_error: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Student {
    pub family: String,
    /// Share of held-out accounts with the soft label's class; mean divergence in nats; rank correlation.
    pub agreement: f64,
    pub kl: f64,
    pub calibration: f64,
    pub rank_correlation: f64,
    pub rows: u64,
    pub held_out: u64,
    pub passed: bool,
    /// Rise of the divergence when a feature's values are shuffled, the greatest first.
    pub importances: Vec<(String, f64)>,
}

/// What something more to know would be worth: change of the log-loss in the trials.
#[derive(Debug, Clone, Serialize)]
pub struct Worth {
    pub what: String,
    pub key: Option<String>,
    pub change: f64,
    /// The length of its bar, the best at 1.
    pub bar: f64,
}

/// What became of the rows and values.
#[derive(Debug, Clone, Serialize)]
pub struct Data {
    /// Rows in the files, left out by `where`, repeated, and the target's accounts.
    pub stored: Option<u64>,
    pub filtered: Option<u64>,
    pub repeated: u64,
    pub accounts: u64,
    pub columns: Vec<ColumnState>,
    pub gates: Vec<Gate>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ColumnState {
    pub feature: String,
    pub null_share: Option<f64>,
    /// Share of values that the teacher who knows fewest of them does not know.
    pub unknown_share: Option<f64>,
    pub teacher: Option<String>,
    pub not_finite: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    pub name: String,
    pub verdict: String,
    pub seen: String,
}

/// What labels said when they arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Truth {
    pub labels: u64,
    pub accuracy: f64,
    pub said: f64,
    pub log_loss: f64,
    pub reliability: Vec<Reliability>,
    pub classes: Vec<ClassTruth>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClassTruth {
    pub class: String,
    pub labelled: u64,
    pub share: f64,
    pub said: f64,
    pub classified: u64,
    pub right: u64,
    pub auc: Option<f64>,
}
