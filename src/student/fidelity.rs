//! How well a student keeps what the soft labels say.

use serde::{Deserialize, Serialize};

use crate::student::contract::Student;
use crate::student::sample::Sample;

/// Measures of a student against soft labels, weighted by the rows' weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Mean cross-entropy -sum_c t_c ln p_c (nats).
    pub log_loss: f64,
    /// Mean KL(soft label || student) (nats): the log-loss less the labels' own entropy.
    pub kl: f64,
    /// Share of rows on which both have the same most likely class (the first of equals).
    pub agreement: f64,
    /// Expected calibration error against the soft labels: over ten equal bins of the student's probability
    /// of each class, the absolute difference of mean soft label and mean prediction, weighted by the bins'
    /// mass, mean over classes.
    pub calibration: f64,
    /// Spearman's rank correlation of student and soft label, mean over classes (over those where both vary;
    /// 1 without any). Unweighted.
    pub rank_correlation: f64,
    /// Rows measured.
    #[serde(skip)]
    pub rows: usize,
}

/// Probabilities below this count as this in a logarithm.
const TINY: f64 = 1e-12;
const BINS: usize = 10;

/// Scores `sample` with `student` and compares with its soft labels.
pub fn fidelity(student: &dyn Student, sample: &Sample) -> Fidelity {
    let mut p = vec![0.0; sample.soft.len()];
    student.predict(sample.columns, &mut p);
    compare(&p, sample)
}

/// [`fidelity`] of predictions that are there already, row-major [n, classes].
pub fn compare(p: &[f64], sample: &Sample) -> Fidelity {
    let c = sample.classes;
    let (mut loss, mut entropy, mut agree, mut mass) = (0.0, 0.0, 0.0, 0.0);
    let mut bins = vec![[0.0f64; 3]; c * BINS];
    for ((p, t), &w) in p.chunks_exact(c).zip(sample.soft.chunks_exact(c)).zip(sample.weights) {
        mass += w;
        agree += if first_max(p) == first_max(t) { w } else { 0.0 };
        for (class, (&p, &t)) in p.iter().zip(t).enumerate() {
            let t = t.max(0.0);
            loss -= w * t * p.max(TINY).ln();
            entropy -= w * t * t.max(TINY).ln();
            let bin = &mut bins[class * BINS + ((p * BINS as f64) as usize).min(BINS - 1)];
            bin[0] += w * p;
            bin[1] += w * t;
            bin[2] += w;
        }
    }
    let off: f64 = bins.iter().map(|b| (b[0] - b[1]).abs()).sum();
    Fidelity {
        log_loss: loss / mass,
        kl: (loss - entropy) / mass,
        agreement: agree / mass,
        calibration: off / mass / c as f64,
        rank_correlation: rank_correlation(p, sample),
        rows: sample.rows(),
    }
}

fn first_max(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn rank_correlation(p: &[f64], sample: &Sample) -> f64 {
    let c = sample.classes;
    let column = |m: &[f64], class| ranks(&m.iter().skip(class).step_by(c).copied().collect::<Vec<_>>());
    // with two classes the second is the mirror image of the first
    let of_classes = (0..if c == 2 { 1 } else { c })
        .filter_map(|class| correlation(&column(p, class), &column(sample.soft, class)));
    let (sum, count) = of_classes.fold((0.0, 0), |(s, n), r| (s + r, n + 1));
    if count == 0 { 1.0 } else { sum / f64::from(count) }
}

/// Ranks from 0, equal values sharing their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    for run in order.chunk_by(|&a, &b| values[a] == values[b]).scan(0, |at, run| {
        *at += run.len();
        Some((*at - run.len(), run))
    }) {
        let mean = run.0 as f64 + (run.1.len() - 1) as f64 / 2.0;
        run.1.iter().for_each(|&i| out[i] = mean);
    }
    out
}

/// Pearson's correlation; None where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::student::Kind;

    fn sample<'a>(soft: &'a [f64], weights: &'a [f64], columns: &'a [&'a [f32]]) -> Sample<'a> {
        Sample { columns, kinds: &[Kind::Number], soft, weights, classes: 2 }
    }

    #[test]
    fn a_perfect_student_has_no_divergence() {
        let soft = [0.2, 0.8, 0.6, 0.4, 0.9, 0.1];
        let f = compare(&soft, &sample(&soft, &[1.0; 3], &[&[0.0; 3]]));
        assert!(f.kl.abs() < 1e-15 && f.agreement == 1.0 && f.calibration < 1e-15);
        assert!((f.rank_correlation - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_known_student_has_known_measures() {
        // log-losses -.5 ln .5 * 2 = ln 2 on both rows; labels' entropy: ln 2 and 0
        let (soft, p) = ([0.5, 0.5, 1.0, 0.0], [0.5; 4]);
        let f = compare(&p, &sample(&soft, &[1.0, 3.0], &[&[0.0; 2]]));
        assert!((f.log_loss - 2f64.ln()).abs() < 1e-12);
        assert!((f.kl - 0.75 * 2f64.ln()).abs() < 1e-12);
        assert!((f.calibration - 0.375).abs() < 1e-12);
        assert_eq!(f.agreement, 1.0);
    }

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
    }
}
