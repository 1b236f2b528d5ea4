//! A labelled history without its rows: how each teacher's scores went with the labels,
//! where rows may not leave their owner.
//!
//! [`cells`] is what the owner makes of rows: rows of one label and of like scores are counted together.
//! Foreign slopes and cross-loss are sums over rows of ln p of the label, whose mean a cell keeps exactly,
//! and of smooth functions of ln p, of which it loses the curvature within a cell. A history of tables cannot
//! play the target in the training, which takes the evidence on each row.

use serde::{Deserialize, Serialize};

use crate::relevance::maths::probability::{
    CALIBRATED_FLOOR, SHARE_FLOOR, argmax, floor, softmax, steep_floor,
};
use crate::relevance::transfer::calibrate::{Calibration, Part};

/// Cells of one label, and the rows that each of them stands for at least (of a label with fewer, all).
const CELLS: usize = 64;
const LEAST_ROWS: usize = 5;

/// Rows of one label and of like scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Place of the label.
    pub label: usize,
    /// softmax of the mean of ln p over the rows, `[C]`.
    pub score: Vec<f64>,
    pub rows: u64,
}

/// Cells of raw scores `[n, C]` and labels `[n]` below `label_classes`: for each label runs of its rows in
/// the order of their largest class and its score.
pub fn cells(raw: &[f64], classes: usize, labels: &[u16], label_classes: usize) -> Vec<Cell> {
    let rows: Vec<&[f64]> = raw.chunks_exact(classes).collect();
    let place = |i: usize| {
        let top = argmax(rows[i]);
        // Back and forth over the classes, so that for two of them the order is that of the logit.
        (top, if top.is_multiple_of(2) { -rows[i][top] } else { rows[i][top] })
    };
    let bits = |i: usize| rows[i].iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    let mut out = Vec::new();
    for label in 0..label_classes {
        let mut order: Vec<usize> = (0..rows.len()).filter(|i| usize::from(labels[*i]) == label).collect();
        order.sort_by(|&a, &b| {
            let (at, bt) = (place(a), place(b));
            at.0.cmp(&bt.0).then(at.1.total_cmp(&bt.1)).then_with(|| bits(a).cmp(&bits(b)))
        });
        let count = (order.len() / LEAST_ROWS).clamp(usize::from(!order.is_empty()), CELLS);
        let bound = |i: usize| i * order.len() / count;
        out.extend((0..count).map(|i| cell(label, &order[bound(i)..bound(i + 1)], &rows)));
    }
    out
}

fn cell(label: usize, members: &[usize], rows: &[&[f64]]) -> Cell {
    let (mut score, mut p) = (Vec::new(), Vec::new());
    for &i in members {
        p.clear();
        p.extend_from_slice(rows[i]);
        floor(&mut p, steep_floor());
        score.resize(p.len(), 0.0);
        score.iter_mut().zip(&p).for_each(|(mean, p)| *mean += p.ln() / members.len() as f64);
    }
    softmax(&mut score);
    Cell { label, score, rows: members.len() as u64 }
}

/// Rows with weights: what a table is to those who read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weighted {
    /// Raw scores over the target's classes `[m, C]`.
    pub scores: Vec<f64>,
    pub labels: Vec<u16>,
    /// How many rows each stands for.
    pub weights: Vec<f64>,
}

/// A labelled history without its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// Rows of each class.
    pub counts: Vec<u64>,
    /// Own calibration of its teacher; identity where it is not known.
    pub calibration: Calibration,
    /// For each teacher its table, if there is one: of rows held out where the teacher is the history's own.
    pub tables: Vec<Option<Weighted>>,
}

impl Tables {
    /// Turns all scores into the logarithms of own-calibrated ones, in place.
    pub(super) fn calibrate(&mut self, calibrations: &[Calibration]) {
        self.tables
            .iter_mut()
            .zip(calibrations)
            .for_each(|(table, c)| table.iter_mut().for_each(|t| c.apply_ln(&mut t.scores)));
    }

    /// What teacher `k` gives to a foreign slope: every row with its share of `weight`.
    pub(super) fn parts(&self, k: usize, weight: f64) -> Vec<Part> {
        let Some(table) = &self.tables[k] else { return Vec::new() };
        let (classes, total) = (self.counts.len(), table.weights.iter().sum::<f64>());
        let row = |i: usize| Part {
            ln_own: table.scores[i * classes..(i + 1) * classes].to_vec(),
            labels: vec![table.labels[i]],
            weight: weight * table.weights[i] / total,
        };
        (0..table.labels.len()).map(row).collect()
    }

    /// Log-loss of teacher `k` under a foreign slope; none without its table.
    pub(super) fn cross_loss(&self, k: usize, slope: f64) -> Option<f64> {
        let table = self.tables[k].as_ref()?;
        let (mut p, mut sum) = (vec![0.0; self.counts.len()], 0.0);
        for ((row, &y), weight) in table.scores.chunks_exact(p.len()).zip(&table.labels).zip(&table.weights) {
            p.iter_mut().zip(row).for_each(|(p, z)| *p = slope * z);
            softmax(&mut p);
            floor(&mut p, CALIBRATED_FLOOR);
            sum -= weight * p[usize::from(y)].ln();
        }
        Some(sum / table.weights.iter().sum::<f64>())
    }

    /// Class shares `[C]`, at least .01.
    pub(super) fn share(&self) -> Vec<f64> {
        let total: u64 = self.counts.iter().sum();
        let mut share: Vec<f64> = self.counts.iter().map(|n| *n as f64 / total as f64).collect();
        floor(&mut share, SHARE_FLOOR);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::super::calibrate::foreign_slope;
    use super::*;
    use crate::relevance::maths::probability::log_loss;

    #[test]
    fn cells_hold_every_row_in_whatever_order_and_none_stands_for_few() {
        let n = 1003;
        let p = |i: usize| ((i * 617 % n) as f64 + 0.5) / n as f64;
        let raw = |order: &dyn Fn(usize) -> usize| {
            (0..n).flat_map(|i| [1.0 - p(order(i)), p(order(i))]).collect::<Vec<f64>>()
        };
        let label = |i: usize| u16::from(i.is_multiple_of(3));
        let forth = cells(&raw(&|i| i), 2, &(0..n).map(label).collect::<Vec<_>>(), 3);
        let back = cells(&raw(&|i| n - 1 - i), 2, &(0..n).map(|i| label(n - 1 - i)).collect::<Vec<_>>(), 3);
        assert_eq!(forth, back);
        let rows = |wanted: usize| forth.iter().filter(|c| c.label == wanted).map(|c| c.rows).sum::<u64>();
        assert_eq!((rows(0), rows(1), rows(2)), (668, 335, 0));
        assert!(forth.iter().all(|c| c.rows >= LEAST_ROWS as u64));
        assert!(forth.iter().all(|c| (c.score.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        assert!(cells(&[], 2, &[], 2).is_empty());
        assert_eq!(cells(&[0.2, 0.8, 0.3, 0.7], 2, &[1, 1], 2).len(), 1, "few rows of a label are one cell");
    }

    #[test]
    fn slopes_and_cross_loss_from_cells_are_near_those_from_rows() {
        let (n, classes) = (400, 2);
        let wave = |i: usize, by: f64| (i as f64 * by).fract();
        let raw: Vec<f64> =
            (0..n).map(|i| 0.02 + 0.96 * wave(i, 0.618_034)).flat_map(|p| [1.0 - p, p]).collect();
        let labels: Vec<u16> =
            (0..n).map(|i| u16::from(wave(i, 0.754_878) < 0.2 + 0.6 * raw[2 * i + 1])).collect();
        let calibration = Calibration { slope: 1.2, bias: vec![0.1, -0.1] };
        let mut weighted = Weighted::default();
        for cell in cells(&raw, classes, &labels, classes) {
            weighted.scores.extend(cell.score);
            weighted.labels.push(cell.label as u16);
            weighted.weights.push(cell.rows as f64);
        }
        let mut tables =
            Tables { counts: vec![1; 2], calibration: calibration.clone(), tables: vec![Some(weighted)] };
        tables.calibrate(std::slice::from_ref(&calibration));
        let mut ln_own = raw;
        calibration.apply_ln(&mut ln_own);
        let whole = Part { ln_own: ln_own.clone(), labels: labels.clone(), weight: 200.0 / n as f64 };
        let (exact, found) =
            (foreign_slope(&[whole], classes), foreign_slope(&tables.parts(0, 200.0), classes));
        assert!((exact - found).abs() < 5e-3, "{exact} {found}");
        ln_own.iter_mut().for_each(|z| *z *= exact);
        ln_own.chunks_exact_mut(classes).for_each(|row| {
            softmax(row);
        });
        let (exact, found) =
            (log_loss(&ln_own, &labels, classes), tables.cross_loss(0, exact).expect("a loss"));
        assert!((exact - found).abs() < 2e-3, "{exact} {found}");
    }
}
