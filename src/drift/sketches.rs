//! What a run keeps of its target so that later dates can be compared with it: a few thousand numbers, however many accounts there are.

use serde::{Deserialize, Serialize};

use crate::relevance::profile::numbers::{NumberSketch, NumberSummary, ORDER_STATISTICS};
use crate::relevance::profile::profiles::Summary;

/// Levels of a category that are kept by name.
const LEVELS: usize = 256;
/// Classes, at most, whose scores are kept.
const CLASSES: usize = 32;

/// A feature of the target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeatureSketch {
    pub name: String,
    pub summary: Summary,
}

impl FeatureSketch {
    /// The coarse form of a whole summary: order statistics, or the most frequent levels.
    pub fn new(name: &str, summary: &Summary) -> FeatureSketch {
        let summary = match summary {
            Summary::Number(s) => Summary::Number(s.coarse(ORDER_STATISTICS)),
            Summary::Category(s) => Summary::Category(s.coarse(LEVELS, 1)),
        };
        FeatureSketch { name: name.to_string(), summary }
    }
}

/// The probabilities that the label, or a teacher, gives one class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScoreSketch {
    /// `label`, or the teacher's name.
    pub score: String,
    pub class: String,
    pub mean: f64,
    pub summary: NumberSummary,
}

/// Scores of a sample of the target's accounts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScoreSketches {
    pub accounts: u64,
    /// Mean soft label `[C]`: the class shares that it expects.
    pub expected: Vec<f64>,
    pub teachers: Vec<String>,
    /// Share of the accounts on which two teachers name the same class `[K, K]`.
    pub agreement: Vec<Vec<f64>>,
    pub scores: Vec<ScoreSketch>,
    /// How right labels were on the histories that played the target, by their confidence.
    pub reliability: Vec<Reliability>,
}

/// Rows of a range of confidence: its mean, the share of right classes, and the rows' share of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    pub said: f64,
    pub was: f64,
    pub weight: f64,
}

/// The classes whose scores are kept: of two classes one says all.
pub fn classes_kept(classes: usize) -> std::ops::Range<usize> {
    if classes == 2 { 1..2 } else { 0..classes.min(CLASSES) }
}

/// Sketches one column of probabilities.
pub fn score(name: &str, class: &str, values: impl Iterator<Item = f64>) -> ScoreSketch {
    let values: Vec<f64> = values.collect();
    let mut sketch = NumberSketch::default();
    sketch.add_all(&values);
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    ScoreSketch {
        score: name.to_string(),
        class: class.to_string(),
        mean,
        summary: sketch.summary().coarse(ORDER_STATISTICS),
    }
}

/// Confidence and correctness in ten equal ranges from 1 / C up: each history counts the same, however many rows it has.
///
/// A history is its true classes `[n]` and soft labels `[n, C]`; ranges with less than a thousandth of the weight are left out.
pub fn reliability<'a>(
    histories: impl Iterator<Item = (&'a [u16], &'a [f64])>,
    classes: usize,
) -> Vec<Reliability> {
    const RANGES: usize = 10;
    let lowest = 1.0 / classes as f64;
    let mut sums = [[0.0f64; 3]; RANGES];
    let mut all = 0.0;
    for (labels, p) in histories.filter(|(labels, _)| !labels.is_empty()) {
        let weight = 1.0 / labels.len() as f64;
        all += 1.0;
        for (label, p) in labels.iter().zip(p.chunks_exact(classes)) {
            let class = crate::relevance::maths::probability::argmax(p);
            let range = ((p[class] - lowest) / (1.0 - lowest) * RANGES as f64) as usize;
            let sum = &mut sums[range.min(RANGES - 1)];
            sum[0] += weight * p[class];
            sum[1] += if usize::from(*label) == class { weight } else { 0.0 };
            sum[2] += weight;
        }
    }
    let kept = sums.iter().filter(|s| s[2] > 0.001 * all);
    kept.map(|s| Reliability { said: s[0] / s[2], was: s[1] / s[2], weight: s[2] / all }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confident_rows_and_doubtful_ones_fall_into_ranges_of_their_own() {
        // three of four rows said .95 and two of these were right; one said .55 and was right
        let labels = [0u16, 0, 1, 1];
        let p = [0.95, 0.05, 0.95, 0.05, 0.95, 0.05, 0.45, 0.55];
        let found = reliability([(labels.as_slice(), p.as_slice())].into_iter(), 2);
        assert_eq!(found.len(), 2);
        assert!((found[0].said - 0.55).abs() < 1e-12 && found[0].was == 1.0 && found[0].weight == 0.25);
        assert!((found[1].said - 0.95).abs() < 1e-12 && (found[1].was - 2.0 / 3.0).abs() < 1e-12);
    }
}
