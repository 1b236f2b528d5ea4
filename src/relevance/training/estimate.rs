//! How right the target's labels are, estimated without one label of the target.
//!
//! A soft label promises an accuracy (its mean confidence) and a log-loss (its mean entropy). Each history
//! that played the target has shown how far such a promise is from the truth; the mean of those gaps corrects
//! the promise, and their spread is the error of one more scenario.

use serde::{Deserialize, Serialize};

/// Fewer rehearsals tell nothing of their own spread.
pub const LEAST_REHEARSALS: usize = 3;

/// The spread of the gaps that is usual over data sets: of accuracies, and of log-losses in nats.
pub const USUAL_ACCURACY_GAP: f64 = 0.03;
pub const USUAL_LOSS_GAP: f64 = 0.06;
/// How many rehearsals' worth of knowledge the usual spread is.
const PRIOR_WEIGHT: f64 = 4.0;
/// A normal variable stays within this many standard deviations in 95 of 100 cases.
const NORMAL_95: f64 = 1.959_964;

/// An estimate with the error that the rehearsals showed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    /// s sqrt(1 + 1/m): what to expect of one more scenario, from the spread s of m gaps and the usual one.
    pub error: f64,
    /// The bracket that should hold the truth in 95 of 100 cases. `EXPERIMENTS.md` says in how many it did.
    pub low: f64,
    pub high: f64,
}

/// The promise of the labels, corrected by `gaps` (truth less promise, one for each rehearsal) and kept
/// between `least` and `most`; none from fewer than three.
///
/// A few gaps may lie close together by chance, so their variance is averaged with the square of the `usual`
/// spread, and the bracket is Student's for as many degrees of freedom as both have together.
pub fn estimate(promised: f64, gaps: &[f64], usual: f64, least: f64, most: f64) -> Option<Estimate> {
    let m = gaps.len() as f64;
    if gaps.len() < LEAST_REHEARSALS {
        return None;
    }
    let mean = gaps.iter().sum::<f64>() / m;
    let freedom = m - 1.0 + PRIOR_WEIGHT;
    let variance = ((m - 1.0) * sample_std(gaps).powi(2) + PRIOR_WEIGHT * usual * usual) / freedom;
    let error = (variance * (1.0 + 1.0 / m)).sqrt();
    let value = (promised + mean).clamp(least, most);
    let wide = student_95(freedom) * error;
    Some(Estimate { value, error, low: (value - wide).max(least), high: (value + wide).min(most) })
}

/// Within how many standard deviations Student's t stays in 95 of 100 cases (the expansion of Abramowitz &
/// Stegun 26.7.5, within 1 % from six degrees of freedom on).
fn student_95(freedom: f64) -> f64 {
    let z = NORMAL_95;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / freedom + second / (freedom * freedom)
}

/// Standard deviation of a sample of two values or more.
pub fn sample_std(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_correct_the_promise_and_their_spread_with_the_usual_one_is_the_error() {
        let e = estimate(0.9, &[-0.05, -0.1, -0.15], 0.05, 0.0, 1.0).unwrap();
        assert!((e.value - 0.8).abs() < 1e-12 && (e.error - 0.05 * (4.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((e.low - (e.value - 2.447 * e.error)).abs() < 0.02 * e.error, "{e:?}");
        let close = estimate(0.9, &[-0.1, -0.1, -0.1], 0.03, 0.0, 1.0).unwrap();
        let shrunk = (4.0 * 0.03 * 0.03 / 6.0f64 * (4.0 / 3.0)).sqrt();
        assert!((close.error - shrunk).abs() < 1e-12, "gaps that agree by chance do not promise certainty");
        assert_eq!(estimate(0.9, &[0.3, 0.3, 0.3], 0.03, 0.0, 1.0).unwrap().value, 1.0);
        assert_eq!(estimate(0.9, &[0.1, 0.1], 0.03, 0.0, 1.0), None);
    }

    #[test]
    fn the_bracket_is_students() {
        for (freedom, exact) in [(6.0, 2.4469), (8.0, 2.3060), (13.0, 2.1604), (100.0, 1.9840)] {
            assert!((student_95(freedom) / exact - 1.0).abs() < 0.01, "{freedom}");
        }
    }
}
