//! Teachers that say the same count once.

use serde::{Deserialize, Serialize};

/// Scores this close on every row of the target are one teacher's.
pub const SAME: f64 = 1e-6;

/// Largest difference of every two teachers' raw scores, batch by batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    teachers: usize,
    rows: usize,
    /// `[K, K]`, the part below the diagonal in use; at most [`SAME`], beyond which nobody asks how large.
    largest: Vec<f64>,
}

impl Differences {
    /// Of `teachers` teachers on no rows yet.
    pub fn new(teachers: usize) -> Self {
        Differences { teachers, rows: 0, largest: vec![0.0; teachers * teachers] }
    }

    /// Adds a batch; `scores[k]` is `[n, C]`.
    pub fn add(&mut self, scores: &[&[f64]]) {
        self.rows += scores.first().map_or(0, |s| s.len());
        for (k, a) in scores.iter().enumerate().take(self.teachers) {
            for (j, b) in scores.iter().enumerate().take(k) {
                let cell = &mut self.largest[k * self.teachers + j];
                if *cell < SAME {
                    *cell = a.iter().zip(*b).map(|(a, b)| (a - b).abs()).fold(*cell, f64::max).min(SAME);
                }
            }
        }
    }

    /// Whether there was no row yet.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &Differences) {
        self.rows += other.rows;
        self.largest.iter_mut().zip(&other.largest).for_each(|(a, b)| *a = a.max(*b));
    }

    /// For each teacher the earlier one whose scores it repeats, if any; none over no rows. A copy of a copy
    /// names the one that stays.
    pub fn copies(&self) -> Vec<Option<usize>> {
        let mut copies: Vec<Option<usize>> = vec![None; self.teachers];
        for k in 0..if self.rows > 0 { self.teachers } else { 0 } {
            copies[k] =
                (0..k).find(|&j| self.largest[k * self.teachers + j] < SAME).map(|j| copies[j].unwrap_or(j));
        }
        copies
    }
}
