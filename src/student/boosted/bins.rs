//! Columns as bytes: bin 0 is null, the others are intervals of a number or levels of a category.

use rayon::prelude::*;

use crate::student::sample::{Kind, Sample, level};

/// Bins of a column, with the one for null.
pub const BINS: usize = 256;
/// Features whose histograms are filled together: they fill half of the smallest first-level cache, and one
/// load reads a row's bins of all.
pub const LANES: usize = 4;
/// Cuts are chosen from at most this many rows, evenly spread over all.
const CUT_ROWS: usize = 50_000;

/// What few rows, and columns times classes beyond `WIDE`, are content with.
const FEW_BINS: usize = 64;
const WIDE: usize = 2000;

/// What the bins of one column mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Cuts {
    /// Ascending thresholds t: bin b >= 1 holds t[b - 2] < x <= t[b - 1]; each t is a float32, so that x <= t
    /// is exact.
    Number(Vec<f32>),
    /// The bin of each level; 0 for a level that no row has. Where levels outnumber bins, the rarest share
    /// the last bin.
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
    /// The bins of each feature, `[feature][row]`: what parts the rows of a split.
    pub by_column: Vec<Vec<u8>>,
    /// The same `[row][feature]`, rows of [`stride`](Binned::stride) bytes, 0 past the last feature: what
    /// histograms read. Scattered rows of a small leaf then cost one line of cache each, not one for every
    /// few features.
    pub by_row: Vec<u8>,
    widths: Vec<usize>,
}

impl Binned {
    /// Bins every column of `sample` in which two rows differ.
    pub fn new(sample: &Sample) -> Self {
        let found: Vec<Option<Cuts>> =
            (0..sample.columns.len()).into_par_iter().map(|j| cuts(sample, j)).collect();
        let (columns, cuts): (Vec<_>, Vec<_>) =
            found.into_iter().enumerate().filter_map(|(j, c)| Some((j, c?))).unzip();
        let by_column: Vec<Vec<u8>> = columns
            .par_iter()
            .zip(&cuts)
            .map(|(&j, cuts)| sample.columns[j].iter().map(|x| cuts.bin(*x)).collect())
            .collect();
        let by_row = rows(&by_column, sample.rows());
        let width = |cuts: &[Cuts]| {
            let most = cuts.iter().map(Cuts::bins).max().unwrap_or(0);
            [16, 64, 128].into_iter().find(|w| most <= *w).unwrap_or(BINS)
        };
        let widths = cuts.chunks(LANES).map(width).collect();
        Binned { columns, cuts, by_column, by_row, widths }
    }

    /// Room for the bins of each feature of a group of LANES features, one of the widths that histograms
    /// know.
    pub fn width(&self, group: usize) -> usize {
        self.widths[group]
    }

    /// Bytes of a row in `by_row`.
    pub fn stride(&self) -> usize {
        stride(self.columns.len())
    }
}

fn stride(features: usize) -> usize {
    features.next_multiple_of(LANES)
}

/// Rows that are turned at a time: their bins stay in cache while columns are read one after the other.
const BLOCK: usize = 512;

fn rows(by_column: &[Vec<u8>], n: usize) -> Vec<u8> {
    let stride = stride(by_column.len());
    let mut out = vec![0; n * stride];
    out.par_chunks_mut(BLOCK * stride.max(1)).enumerate().for_each(|(block, out)| {
        for (feature, column) in by_column.iter().enumerate() {
            let bins = &column[block * BLOCK..];
            out.chunks_exact_mut(stride).zip(bins).for_each(|(row, bin)| row[feature] = *bin);
        }
    });
    out
}

/// None for a column that is the same in every row.
fn cuts(sample: &Sample, j: usize) -> Option<Cuts> {
    let column = sample.columns[j];
    let cuts = match sample.kinds[j] {
        Kind::Number => Cuts::Number(thresholds(column, most_bins(sample))),
        Kind::Category { levels } => Cuts::Category(level_bins(column, sample.weights, levels)),
    };
    let first = column.first().map(|x| cuts.bin(*x))?;
    column.iter().any(|x| cuts.bin(*x) != first).then_some(cuts)
}

/// Bins that the rows can fill: finer ones would hold single rows, and cost as much as those of many rows. Where
/// there are very many columns and classes, the search for splits would take longer than everything else.
fn most_bins(sample: &Sample) -> usize {
    let wide = sample.columns.len() * sample.classes > WIDE;
    if wide { FEW_BINS } else { (sample.rows() / 16).clamp(FEW_BINS, BINS) }
}

/// At most `most` - 2 thresholds that part the values into bins of about equal mass; a value that fills a bin
/// alone gets its own.
fn thresholds(column: &[f32], most: usize) -> Vec<f32> {
    let n = column.len();
    let m = n.min(CUT_ROWS);
    let mut values: Vec<f32> =
        (0..m).map(|i| column[(2 * i + 1) * n / (2 * m)]).filter(|v| !v.is_nan()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let distinct: Vec<&[f32]> = values.chunk_by(|a, b| a == b).collect();
    let few = distinct.len() < most;
    let (mut cuts, mut left, mut held) = (Vec::new(), values.len(), 0);
    for pair in distinct.windows(2) {
        held += pair[0].len();
        let bins_left = most - 1 - cuts.len();
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

    fn sample<'a>(
        columns: &'a [&'a [f32]],
        kinds: &'a [Kind],
        soft: &'a [f64],
        weights: &'a [f64],
    ) -> Sample<'a> {
        Sample { columns, kinds, soft, weights, classes: 2 }
    }

    #[test]
    fn few_values_get_a_bin_each_and_zeros_of_both_signs_share_one() {
        let t = thresholds(&[0.0, -0.0, 1.0, f32::NAN, 3.0, 3.0], BINS);
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
        (0..10_000).for_each(|i| count[binned.by_column[0][i] as usize] += 1);
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
        let binned =
            Binned::new(&sample(&columns, &[Kind::Number, Kind::Category { levels: 400 }], &soft, &weights));
        assert_eq!(binned.columns, [1]);
        assert_eq!(binned.cuts[0].bins(), BINS);
        assert_eq!(binned.by_column[0][999], 1);
        assert_eq!(binned.by_column[0][699], 255);
        assert!(
            binned.by_row.chunks(LANES).zip(&binned.by_column[0]).all(|(row, bin)| row == [*bin, 0, 0, 0])
        );
    }
}
