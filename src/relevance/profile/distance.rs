//! Distance: how far the target's features are from those of a history.

use serde::{Deserialize, Serialize};

use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::numbers::{NumberSummary, ORDER_STATISTICS};
use crate::relevance::profile::profiles::{FeatureProfile, Profiles, Summary, smoothed};

/// Smallest distance that the weights by distance tell from none.
pub const LEAST_JS: f64 = 0.003;

/// Mean distance in bits beyond which a history tells nothing of the target: of 1 at most, where no value of
/// any feature is shared.
const IRRELEVANT_JS: f64 = 0.8;

/// One feature of a history against the target's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FeatureDistance {
    /// Jensen-Shannon divergence in bits, its bias for finite samples taken off, never below 0.
    pub js: f64,
    /// Population stability index, sum (h_t - h_k) ln(h_t / h_k).
    pub psi: f64,
    /// Largest difference of the two distribution functions over the bins (numbers), or total variation
    /// (categories); nulls left out of neither.
    pub ks: f64,
    /// Share of null in the target minus that in the history.
    pub null_gap: f64,
}

/// Distance of two scenarios on one feature from their counts on common bins, `history` against `target`.
pub fn feature_distance(history: &[u64], target: &[u64], ordered: bool) -> FeatureDistance {
    let (h, t) = (smoothed(history), smoothed(target));
    let (n_h, n_t) = (history.iter().sum::<u64>() as f64, target.iter().sum::<u64>() as f64);
    let divergence: f64 = h.iter().zip(&t).map(|(a, b)| entropy_gap(*a, *b)).sum();
    let occupied = history.iter().zip(target).filter(|(a, b)| **a + **b > 0).count() as f64;
    let bias = (occupied - 1.0) / (8.0 * std::f64::consts::LN_2) * (1.0 / n_h + 1.0 / n_t);
    let share =
        |counts: &[u64], n: f64| -> Vec<f64> { counts.iter().map(|c| *c as f64 / n.max(1.0)).collect() };
    let (a, b) = (share(history, n_h), share(target, n_t));
    FeatureDistance {
        js: (divergence - bias).max(0.0),
        psi: h.iter().zip(&t).map(|(h, t)| (t - h) * (t / h).ln()).sum(),
        ks: if ordered {
            largest_gap(&a, &b)
        } else {
            a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
        },
        null_gap: b.last().copied().unwrap_or(0.0) - a.last().copied().unwrap_or(0.0),
    }
}

fn entropy_gap(a: f64, b: f64) -> f64 {
    let m = (a + b) / 2.0;
    0.5 * (a * (a / m).log2() + b * (b / m).log2())
}

fn largest_gap(a: &[f64], b: &[f64]) -> f64 {
    let mut gap = 0.0;
    a.iter().zip(b).fold(0.0f64, |most, (a, b)| {
        gap += a - b;
        most.max(gap.abs())
    })
}

/// Wasserstein-1 distance of two columns of numbers in units of the pooled standard deviation, from 240
/// quantiles each; none if either is empty.
pub fn wasserstein(history: &NumberSummary, target: &NumberSummary) -> Option<f64> {
    let (a, b) = (history.order_statistics(ORDER_STATISTICS), target.order_statistics(ORDER_STATISTICS));
    let (mean_a, var_a) = history.moments()?;
    let (mean_b, var_b) = target.moments()?;
    let pooled = ((var_a + var_b) / 2.0 + (mean_a - mean_b).powi(2) / 4.0).sqrt();
    let gaps: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).filter(|g| g.is_finite()).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    Some(if mean == 0.0 { 0.0 } else { mean / pooled })
}

/// [`wasserstein`] where both columns are numbers.
pub fn summary_wasserstein(history: &Summary, target: &Summary) -> Option<f64> {
    match (history, target) {
        (Summary::Number(h), Summary::Number(t)) => wasserstein(h, t),
        _ => None,
    }
}

/// Distances of every history to the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// For each feature, for each source.
    pub features: Vec<Vec<FeatureDistance>>,
    /// Mean over features for each teacher `[K]`; a teacher without history has the mean of the others, all
    /// have 0 without any history.
    pub js: Vec<f64>,
    /// Weights proportional to 1 / (js + .003) `[K]`.
    pub weights: Vec<f64>,
}

impl Distances {
    /// Distances on the profiles; a target that is not profiled yet is at distance 0.
    pub fn new(profiles: &Profiles) -> Self {
        let features: Vec<Vec<FeatureDistance>> = profiles.features.iter().map(of_feature).collect();
        let js: Vec<f64> =
            (0..profiles.sources.len()).map(|i| mean(features.iter().map(|f| f[i].js))).collect();
        let js = for_all(&js, &profiles.sources, profiles.teachers);
        let weights = weights(&js);
        Distances { features, js, weights }
    }
}

/// Mean distance of every two teachers' histories `[K, K]`, for the rehearsal in which one plays the target;
/// a teacher without history has the mean of its row.
pub fn between_histories(profiles: &Profiles) -> Vec<Vec<f64>> {
    let sources = &profiles.sources;
    let js = |f: &FeatureProfile, a: usize, b: usize| {
        feature_distance(&f.histories[a], &f.histories[b], matches!(f.bins, Bins::Number(_))).js
    };
    let of = |b: usize| -> Vec<f64> {
        let others: Vec<usize> = (0..sources.len()).filter(|a| *a != b).collect();
        let to_others: Vec<f64> =
            others.iter().map(|&a| mean(profiles.features.iter().map(|f| js(f, a, b)))).collect();
        for_all(&to_others, &others.iter().map(|a| sources[*a]).collect::<Vec<_>>(), profiles.teachers)
    };
    (0..profiles.teachers)
        .map(|k| sources.iter().position(|s| *s == k).map_or_else(|| vec![0.0; profiles.teachers], of))
        .collect()
}

fn of_feature(feature: &FeatureProfile) -> Vec<FeatureDistance> {
    let ordered = matches!(feature.bins, Bins::Number(_));
    feature
        .histories
        .iter()
        .map(|h| feature_distance(h, feature.target.as_ref().unwrap_or(h), ordered))
        .collect()
}

/// u_k proportional to 1 / (js_k + .003).
pub fn weights(js: &[f64]) -> Vec<f64> {
    let inverse: Vec<f64> = js.iter().map(|d| 1.0 / (d + LEAST_JS)).collect();
    let sum: f64 = inverse.iter().sum();
    inverse.iter().map(|v| v / sum).collect()
}

/// Whether every history is so far from the target that none tells more of it than another. The teachers then
/// count evenly.
pub fn irrelevant(js: &[f64]) -> bool {
    !js.is_empty() && js.iter().all(|d| *d > IRRELEVANT_JS)
}

/// Values of the sources laid out for all teachers; those without history have the mean.
pub fn for_all(of_sources: &[f64], sources: &[usize], teachers: usize) -> Vec<f64> {
    let mut out = vec![mean(of_sources.iter().copied()); teachers];
    sources.iter().zip(of_sources).for_each(|(&k, v)| out[k] = *v);
    out
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len();
    if n == 0 { 0.0 } else { values.sum::<f64>() / n as f64 }
}
