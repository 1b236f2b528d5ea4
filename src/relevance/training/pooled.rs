//! The pooled teacher: boosted trees that the job trains itself, on the rows of all histories together.
//!
//! No mix of teachers says what none of them says; a model that has seen all their rows can. It can also be
//! wrong where the histories contradict each other, so it has to prove itself: each history plays the target
//! for trees of the other histories, and the share of the pooled teacher in the soft label follows from how
//! the mixed label did there, drawn towards what was good over data sets
//! ([`crate::relevance::training::mixed`]). `EXPERIMENTS.md` has
//! the measurements.
//!
//! Every history's rows weigh 1 / sqrt(their number), so that a large one does not drown the others. The level
//! of class shares that the trees give a target is part of their worth and is not moved before the mix.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::features::coded::CodedFeature;
use crate::features::column;
use crate::relevance::maths::probability::{RAW_FLOOR, floor, spaced_rows};
use crate::student::boosted::{self, Settings};
use crate::student::{Kind, Sample, Saved, Student};

/// The name of the pooled teacher in every table; no bundle may have it.
pub const NAME: &str = "pooled";

/// Features that the trees are given, of more those that alone say most of the class.
pub const MOST_FEATURES: usize = 300;
/// Rows of a history (at most) that trees are fitted to where another history plays the target.
const REHEARSED_ROWS: usize = 2000;
/// Bins of a feature by which it is screened, with one for null.
const SCREENING_BINS: usize = 24;
/// Fewer histories that play the target say nothing of the share.
const LEAST_HISTORIES: usize = 3;

/// Labelled rows as the trees take them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// `[feature][row]`, see [`crate::features::coded`].
    pub columns: Vec<Vec<f32>>,
    pub labels: Vec<u16>,
}

/// A history for the pool.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Rows to train on.
    pub rows: Rows,
    /// Columns of the rows that stand for the history when it plays the target, `[feature][row]`.
    pub pseudo: Vec<Vec<f32>>,
}

/// The pooled teacher, as the calculator keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pooled {
    /// Its share in the soft label, from 0 to 1.
    pub share: f64,
    /// Histories and rows that trained it.
    pub histories: usize,
    pub rows: usize,
    pub features: Vec<CodedFeature>,
    /// What each feature's splits gained, all together 1 (or 0 where nothing was split).
    pub importance: Vec<f64>,
    pub model: Saved,
}

/// A pooled teacher whose share is not settled yet, and what the trees of the others said of each history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    pub pooled: Pooled,
    /// For each teacher the floored probabilities `[m, C]` of the rows that stand for its history, from trees
    /// that have not seen it; none without rows, or where fewer than two other histories have any.
    pub rehearsed: Vec<Option<Vec<f64>>>,
}

impl Pooled {
    /// How the trees see each feature.
    pub fn kinds(&self) -> Vec<Kind> {
        self.features.iter().map(kind).collect()
    }
}

fn settings(classes: usize, rehearsal: bool) -> Settings {
    let (rounds, max_leaves, learning_rate) = match (rehearsal, classes) {
        (false, 2) => (80, 31, 0.1),
        (false, _) => (60, 31, 0.1),
        (true, 2) => (40, 15, 0.2),
        (true, _) => (30, 15, 0.2),
    };
    Settings { rounds, learning_rate, max_leaves, ridge: 5.0, min_hessian: 5.0, ..Settings::default() }
}

/// Fits the pooled teacher to the histories that have rows, and trees without each of them in turn. None where
/// fewer than two have rows.
pub fn fit(
    sources: Vec<Option<Source>>,
    features: Vec<CodedFeature>,
    classes: usize,
) -> Result<Option<Fitted>> {
    // on a thread of the pool: from outside, each of many small parallel steps would wake it and wait
    rayon::scope(|_| fit_in_pool(sources, features, classes))
}

fn fit_in_pool(
    mut sources: Vec<Option<Source>>,
    mut features: Vec<CodedFeature>,
    classes: usize,
) -> Result<Option<Fitted>> {
    if features.len() > MOST_FEATURES {
        let kept = screened(&sources, &features, classes);
        features = kept.iter().map(|j| features[*j].clone()).collect();
        sources.iter_mut().flatten().for_each(|s| s.keep(&kept));
    }
    let kinds: Vec<Kind> = features.iter().map(kind).collect();
    let with_rows: Vec<usize> = (0..sources.len()).filter(|k| sources[*k].is_some()).collect();
    if with_rows.len() < 2 || kinds.is_empty() {
        return Ok(None);
    }
    let rows_but = |left_out: Option<usize>| -> Vec<&Rows> {
        sources
            .iter()
            .enumerate()
            .filter(|(k, _)| Some(*k) != left_out)
            .filter_map(|(_, s)| Some(&s.as_ref()?.rows))
            .collect()
    };
    let rehearsed: Vec<Option<Vec<f64>>> = (0..sources.len())
        .into_par_iter()
        .with_max_len(1)
        .map(|q| {
            let Some(source) = sources[q].as_ref().filter(|_| with_rows.len() >= LEAST_HISTORIES) else {
                return Ok(None);
            };
            let thin: Vec<Rows> = rows_but(Some(q)).into_iter().map(|r| r.thinned(REHEARSED_ROWS)).collect();
            let trees =
                fit_trees(&thin.iter().collect::<Vec<_>>(), &kinds, classes, &settings(classes, true))?.0;
            Ok(Some(predict(&trees, &source.pseudo, classes)))
        })
        .collect::<Result<_>>()?;
    let all = rows_but(None);
    let (trees, mut importance) = fit_trees(&all, &kinds, classes, &settings(classes, false))?;
    let total: f64 = importance.iter().sum();
    importance.iter_mut().for_each(|gain| *gain /= total.max(f64::MIN_POSITIVE));
    let rows = all.iter().map(|r| r.labels.len()).sum();
    let pooled =
        Pooled { share: 0.0, histories: all.len(), rows, features, importance, model: trees.saved() };
    Ok(Some(Fitted { pooled, rehearsed }))
}

/// Places of the [`MOST_FEATURES`] features whose bins explain most of the classes' variance, ascending.
fn screened(sources: &[Option<Source>], features: &[CodedFeature], classes: usize) -> Vec<usize> {
    let histories: Vec<&Rows> = sources.iter().flatten().map(|s| &s.rows).collect();
    let explained: Vec<f64> =
        (0..features.len()).into_par_iter().map(|j| explained(&histories, j, classes)).collect();
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.sort_by(|a, b| explained[*b].total_cmp(&explained[*a]).then(a.cmp(b)));
    order.truncate(MOST_FEATURES);
    order.sort_unstable();
    order
}

/// Sum over the bins b of feature `j` and the classes c of w_bc^2 / w_b, rows weighing as in the fit: what the
/// bins explain, up to a constant that all features share.
fn explained(histories: &[&Rows], j: usize, classes: usize) -> f64 {
    let mut values: Vec<f32> =
        histories.iter().flat_map(|h| &h.columns[j]).copied().filter(|v| !v.is_nan()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let mut edges: Vec<f32> =
        spaced_rows(values.len(), SCREENING_BINS).into_iter().map(|i| values[i]).collect();
    edges.dedup();
    let mut sums = vec![0.0; (edges.len() + 2) * classes];
    for h in histories {
        let weight = 1.0 / (h.labels.len() as f64).sqrt();
        for (v, y) in h.columns[j].iter().zip(&h.labels) {
            let bin = if v.is_nan() { edges.len() + 1 } else { edges.partition_point(|e| e < v) };
            sums[bin * classes + usize::from(*y)] += weight;
        }
    }
    let of_bin =
        |w: &[f64]| w.iter().map(|w| w * w).sum::<f64>() / w.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    sums.chunks_exact(classes).map(of_bin).sum()
}

/// How the trees see a feature.
fn kind(feature: &CodedFeature) -> Kind {
    match feature.kind {
        column::Kind::Number => Kind::Number,
        column::Kind::Category => Kind::Category { levels: feature.levels.len() },
    }
}

/// Floored probabilities `[n, C]` of the n rows of `columns`.
pub fn predict(model: &dyn Student, columns: &[Vec<f32>], classes: usize) -> Vec<f64> {
    let rows = columns.first().map_or(0, Vec::len);
    let mut out = vec![0.0; rows * classes];
    model.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
    out.chunks_exact_mut(classes).for_each(|p| {
        floor(p, RAW_FLOOR);
    });
    out
}

impl Source {
    /// The features at these places alone.
    fn keep(&mut self, places: &[usize]) {
        for columns in [&mut self.rows.columns, &mut self.pseudo] {
            *columns = places.iter().map(|j| std::mem::take(&mut columns[*j])).collect();
        }
    }
}

impl Rows {
    /// At most `most` of the rows.
    fn thinned(&self, most: usize) -> Rows {
        let rows = spaced_rows(self.labels.len(), most);
        Rows {
            columns: self.columns.iter().map(|c| rows.iter().map(|i| c[*i]).collect()).collect(),
            labels: rows.iter().map(|i| self.labels[*i]).collect(),
        }
    }
}

fn fit_trees(
    histories: &[&Rows],
    kinds: &[Kind],
    classes: usize,
    settings: &Settings,
) -> Result<(impl Student + use<>, Vec<f64>)> {
    let columns: Vec<Vec<f32>> =
        (0..kinds.len()).map(|j| histories.iter().flat_map(|h| &h.columns[j]).copied().collect()).collect();
    let labels: Vec<u16> = histories.iter().flat_map(|h| &h.labels).copied().collect();
    let mut weights: Vec<f64> = histories
        .iter()
        .flat_map(|h| std::iter::repeat_n(1.0 / (h.labels.len() as f64).sqrt(), h.labels.len()))
        .collect();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.iter_mut().for_each(|w| *w /= mean);
    let mut soft = vec![0.0; labels.len() * classes];
    labels.iter().enumerate().for_each(|(i, y)| soft[i * classes + usize::from(*y)] = 1.0);
    let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
    let sample = Sample { columns: &columns, kinds, soft: &soft, weights: &weights, classes };
    boosted::fit_with_gains(&sample, None, settings)
}
