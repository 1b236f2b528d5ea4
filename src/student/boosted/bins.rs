//! Columns as bytes: bin 0 is null, the others are intervals of a number or levels of a category.

use crate::student::sample::level;
use crate::student::{Kind, Sample};
use rayon::prelude::*;

/// Bins of a column, with the one for null.
pub const BINS: usize = 256;
/// Columns whose bins lie together, so that one load serves all of them.
pub const LANES: usize = 4;
/// Cuts are chosen from at most this many rows, evenly spread over all.
const CUT_ROWS: usize = 50_000;

/// What the bins of one column mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Cuts {
    /// Ascending thresholds t: bin b >= 1 holds t[b - 2] < x <= t[b - 1]; each t is a float32, so that x <= t is exact.
    Number(Vec<f32>),
    /// The bin of each level; 0 for a level that no row has. Where levels outnumber bins, the rarest share the last bin.
    Category(Vec<u8>),
}

impl Cuts {
    /// Number of bins, with null.
    pub fn bins(&self) -> usize {
        match self {
            Cuts::Number(t) => t.len() + 2,
            Cuts::Category(bin) => bin.iter().copied().max().unwrap_or(0) as usize + 1,
        }
    }

    fn bin(&self, x: f32) -> u8 {
        match self {
            _ if x.is_nan() => 0,
            Cuts::Number(t) => 1 + t.partition_point(|t| *t < x) as u8,
            Cuts::Category(bin) => level(x, bin.len()).map_or(0, |at| bin[at]),
        }
    }
}

/// The binned columns that can be split at all.
pub struct Binned {
    /// The column that each binned feature comes from, ascending.
    pub columns: Vec<usize>,
    pub cuts: Vec<Cuts>,
    /// For every LANES features the bins of all rows; the lanes past the last feature are 0.
    pub groups: Vec<Vec<[u8; LANES]>>,
}

impl Binned {
    /// Bins every column of `sample` in which two rows differ.
    pub fn new(sample: &Sample) -> Self {
        let found: Vec<Option<Cuts>> = (0..sample.columns.len()).into_par_iter().map(|j| cuts(sample, j)).collect();
        let (columns, cuts): (Vec<_>, Vec<_>) = found.into_iter().enumerate().filter_map(|(j, c)| Some((j, c?))).unzip();
        let groups = (0..columns.len().div_ceil(LANES)).into_par_iter().map(|g| group(sample, &columns, &cuts, g)).collect();
        Binned { columns, cuts, groups }
    }

    /// The bin of a feature in a row.
    #[cfg(test)]
    pub fn bin(&self, feature: usize, row: usize) -> u8 {
        self.groups[feature / LANES][row][feature % LANES]
    }
}

fn group(sample: &Sample, columns: &[usize], cuts: &[Cuts], g: usize) -> Vec<[u8; LANES]> {
    let mut out = vec![[0; LANES]; sample.rows()];
    for (lane, feature) in (g * LANES..columns.len().min((g + 1) * LANES)).enumerate() {
        for (to, &x) in out.iter_mut().zip(sample.columns[columns[feature]]) {
            to[lane] = cuts[feature].bin(x);
        }
    }
    out
}

/// None for a column that is the same in every row.
fn cuts(sample: &Sample, j: usize) -> Option<Cuts> {
    let column = sample.columns[j];
    let cuts = match sample.kinds[j] {
        Kind::Number => Cuts::Number(thresholds(column)),
        Kind::Category { levels } => Cuts::Category(level_bins(column, sample.weights, levels)),
    };
    let first = column.first().map(|x| cuts.bin(*x))?;
    column.iter().any(|x| cuts.bin(*x) != first).then_some(cuts)
}

/// At most BINS - 2 thresholds that part the values into bins of about equal mass; a value that fills a bin alone gets its own.
fn thresholds(column: &[f32]) -> Vec<f32> {
    let n = column.len();
    let m = n.min(CUT_ROWS);
    let mut values: Vec<f32> = (0..m).map(|i| column[(2 * i + 1) * n / (2 * m)]).filter(|v| !v.is_nan()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let distinct: Vec<&[f32]> = values.chunk_by(|a, b| a == b).collect();
    let few = distinct.len() < BINS;
    let (mut cuts, mut left, mut held) = (Vec::new(), values.len(), 0);
    for pair in distinct.windows(2) {
        held += pair[0].len();
        let bins_left = BINS - 1 - cuts.len();
        if few || (bins_left > 1 && held * bins_left >= left) {
            cuts.push(between(pair[0][0], pair[1][0]));
            left -= held;
            held = 0;
        }
    }
    cuts
}

/// A float32 t with a <= t < b, near the middle.
fn between(a: f32, b: f32) -> f32 {
    let middle = (f64::from(a) / 2.0 + f64::from(b) / 2.0) as f32;
    if middle < b && middle >= a { middle } else { a }
}

/// Levels by falling mass, ties by position: bins 1, 2, ...; from BINS - 1 on they share the last.
fn level_bins(column: &[f32], weights: &[f64], levels: usize) -> Vec<u8> {
    let mut mass = vec![(0.0, 0u32); levels];
    for (x, w) in column.iter().zip(weights) {
        if let Some(at) = level(*x, levels) {
            mass[at].0 += w;
            mass[at].1 += 1;
        }
    }
    let mut order: Vec<usize> = (0..levels).filter(|&at| mass[at].1 > 0).collect();
    order.sort_by(|&a, &b| mass[b].0.total_cmp(&mass[a].0).then(a.cmp(&b)));
    let mut bins = vec![0; levels];
    order.iter().enumerate().for_each(|(i, &at)| bins[at] = (i + 1).min(BINS - 1) as u8);
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>(columns: &'a [&'a [f32]], kinds: &'a [Kind], soft: &'a [f64], weights: &'a [f64]) -> Sample<'a> {
        Sample { columns, kinds, soft, weights, classes: 2 }
    }

    #[test]
    fn few_values_get_a_bin_each_and_zeros_of_both_signs_share_one() {
        let t = thresholds(&[0.0, -0.0, 1.0, f32::NAN, 3.0, 3.0]);
        assert_eq!(t, [0.5, 2.0]);
    }

    #[test]
    fn neighbouring_floats_are_parted() {
        let (a, b) = (1.0f32, 1.0f32.next_up());
        assert!(between(a, b) >= a && between(a, b) < b);
        assert!(between(f32::MIN, f32::MAX).is_finite());
    }

    #[test]
    fn many_values_make_at_most_all_bins_of_about_equal_mass() {
        let x: Vec<f32> = (0..10_000).map(|i| ((i * 7919) % 10_000) as f32).collect();
        let soft = vec![0.5; 20_000];
        let weights = vec![1.0; 10_000];
        let binned = Binned::new(&sample(&[&x], &[Kind::Number], &soft, &weights));
        let mut count = [0; BINS];
        (0..10_000).for_each(|i| count[binned.bin(0, i) as usize] += 1);
        assert_eq!(count[0], 0);
        assert!(count[1..].iter().all(|c| (30..60).contains(c)), "{count:?}");
    }

    #[test]
    fn the_rarest_levels_share_a_bin_and_constant_columns_are_left_out() {
        let x: Vec<f32> = (0..1000).map(|i| if i < 700 { i as f32 / 2.0 } else { 0.5 }.floor()).collect();
        let constant = vec![4.0f32; 1000];
        let weights = vec![1.0; 1000];
        let soft = vec![0.5; 2000];
        let columns: [&[f32]; 2] = [&constant, &x];
        let binned = Binned::new(&sample(&columns, &[Kind::Number, Kind::Category { levels: 400 }], &soft, &weights));
        assert_eq!(binned.columns, [1]);
        assert_eq!(binned.cuts[0].bins(), BINS);
        assert_eq!(binned.bin(0, 999), 1);
        assert_eq!(binned.bin(0, 699), 255);
    }
}
