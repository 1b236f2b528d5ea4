//! How much the teachers differ on the same accounts: what there is to choose from.

use serde::{Deserialize, Serialize};

use crate::relevance::maths::probability::argmax;

/// Means over accounts and pairs of teachers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Diversity {
    /// Share of accounts on which two teachers have different classes.
    pub disagreement: f64,
    /// Jensen-Shannon divergence of their probabilities in bits, from 0 to 1.
    pub divergence: f64,
}

/// Diversity of calibrated scores, one `[K, C]` for each account; 0 for a single teacher.
pub fn diversity<'a>(rows: impl Iterator<Item = &'a [f64]>, classes: usize) -> Diversity {
    let (mut sum, mut pairs) = (Diversity::default(), 0usize);
    for row in rows {
        let teachers: Vec<&[f64]> = row.chunks_exact(classes).collect();
        for (k, a) in teachers.iter().enumerate() {
            for b in &teachers[..k] {
                sum.disagreement += f64::from(u8::from(argmax(a) != argmax(b)));
                sum.divergence += divergence(a, b);
                pairs += 1;
            }
        }
    }
    let n = pairs.max(1) as f64;
    Diversity { disagreement: sum.disagreement / n, divergence: sum.divergence / n }
}

/// Jensen-Shannon divergence of two distributions in bits.
fn divergence(a: &[f64], b: &[f64]) -> f64 {
    let to_middle = |p: f64, m: f64| if p > 0.0 { 0.5 * p * (p / m).log2() } else { 0.0 };
    a.iter()
        .zip(b)
        .map(|(a, b)| to_middle(*a, (a + b) / 2.0) + to_middle(*b, (a + b) / 2.0))
        .sum::<f64>()
        .max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposite_teachers_differ_by_one_bit_and_equal_ones_by_none() {
        let of = |rows: &[&[f64]]| diversity(rows.iter().copied(), 2);
        assert_eq!(of(&[&[1.0, 0.0, 0.0, 1.0]]), Diversity { disagreement: 1.0, divergence: 1.0 });
        assert_eq!(of(&[&[0.3, 0.7, 0.3, 0.7]]), Diversity::default());
        assert_eq!(of(&[&[0.3, 0.7]]), Diversity::default());
        let half = of(&[&[0.4, 0.6, 0.6, 0.4], &[0.4, 0.6, 0.4, 0.6]]);
        assert!(half.disagreement == 0.5 && half.divergence > 0.0 && half.divergence < 0.1);
    }
}
