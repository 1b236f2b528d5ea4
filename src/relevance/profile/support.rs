//! Support: how much the features of an account look like those of each history.
//!
//! s_k(x) = F^-1/2 sum_j clip(ln(h_kj[bin of x_j] / ref_j[same bin]), +-3), where ref is the mean of all
//! profiles. The logarithms are looked up in a table, so an account costs one bin search and K additions for
//! each feature. A teacher without history has the mean of the others.

use crate::models::trees::simd::vectorised;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::profiles::Profiles;

const CLIP: f64 = 3.0;
/// Rows that are worked on while their sums stay in the cache.
const BLOCK: usize = 512;
/// Sums of a row are padded to a multiple of this, so that they are added in whole vectors.
const LANES: usize = 4;
/// Edges that a value is compared with at a time.
const TOGETHER: usize = 4;

/// A column of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Values, NaN for null.
    Number(&'a [f64]),
    /// Codes into a list of levels, and the bin of each of them by [`Bins::of_levels`]; a code beyond the
    /// list is null.
    Category { codes: &'a [u32], bin_of: &'a [u16] },
}

/// What support is looked up in.
#[derive(Debug, Clone)]
pub struct Support {
    teachers: usize,
    sources: Vec<usize>,
    features: Vec<Table>,
}

#[derive(Debug, Clone)]
struct Table {
    /// Of a number, filled up with NaN, which no value reaches.
    edges: Vec<[f64; TOGETHER]>,
    null: usize,
    /// clip(ln(h / ref)) `[B, sources padded]`.
    ratio: Vec<f64>,
}

impl Support {
    /// The tables of all features.
    pub fn new(profiles: &Profiles) -> Self {
        let features = profiles
            .features
            .iter()
            .map(|f| Table::new(&f.bins, &f.shares(), profiles.sources.len()))
            .collect();
        Support { teachers: profiles.teachers, sources: profiles.sources.clone(), features }
    }

    /// Teachers K.
    pub fn teachers(&self) -> usize {
        self.teachers
    }

    /// s `[n, K]` of a batch of `rows` rows; `columns` in the order of the profiled features.
    pub fn rows(&self, columns: &[Column], rows: usize) -> Vec<f64> {
        let (width, sources) = (self.teachers, self.sources.len());
        let mut out = vec![0.0; rows * width];
        if sources == 0 || self.features.is_empty() {
            return out;
        }
        let scale = (self.features.len() as f64).sqrt();
        let lanes = sources.next_multiple_of(LANES);
        let mut sums = vec![0.0; BLOCK * lanes];
        for start in (0..rows).step_by(BLOCK) {
            let n = BLOCK.min(rows - start);
            sums.fill(0.0);
            for (table, column) in self.features.iter().zip(columns) {
                table.add(column, start, &mut sums[..n * lanes]);
            }
            for (row, sums) in
                out[start * width..(start + n) * width].chunks_exact_mut(width).zip(sums.chunks_exact(lanes))
            {
                row.fill(sums[..sources].iter().sum::<f64>() / (sources as f64 * scale));
                self.sources.iter().zip(sums).for_each(|(&k, s)| row[k] = s / scale);
            }
        }
        out
    }

    /// What one feature adds to the sum of each source for the bin given, before the division by sqrt(F);
    /// empty for an unknown place.
    pub fn contribution(&self, feature: usize, bin: usize) -> &[f64] {
        let sources = self.sources.len();
        let lanes = sources.next_multiple_of(LANES);
        self.features
            .get(feature)
            .and_then(|t| t.ratio.get(bin * lanes..bin * lanes + sources))
            .unwrap_or_default()
    }
}

impl Table {
    fn new(bins: &Bins, shares: &[Vec<f64>], sources: usize) -> Self {
        let known: &[f64] = if let Bins::Number(edges) = bins { edges } else { &[] };
        let place = |some: &[f64]| std::array::from_fn(|i| some.get(i).copied().unwrap_or(f64::NAN));
        let edges = known.chunks(TOGETHER).map(place).collect();
        let lanes = sources.next_multiple_of(LANES);
        let mut ratio = vec![0.0; bins.count() * lanes];
        for (bin, row) in ratio.chunks_exact_mut(lanes.max(1)).enumerate() {
            let reference = shares.iter().map(|h| h[bin]).sum::<f64>() / shares.len() as f64;
            row.iter_mut()
                .zip(&shares[..sources])
                .for_each(|(r, h)| *r = (h[bin] / reference).ln().clamp(-CLIP, CLIP));
        }
        Table { edges, null: bins.of_null(), ratio }
    }

    /// Adds the feature's part to the sums `[n, sources padded]` of rows from `start` on.
    fn add(&self, column: &Column, start: usize, sums: &mut [f64]) {
        let lanes = self.ratio.len() / (self.null + 1);
        let mut bins = [0u16; BLOCK];
        let n = sums.len() / lanes;
        match column {
            Column::Number(values) => self.bins(&values[start..start + n], &mut bins),
            Column::Category { codes, bin_of } => {
                let null = self.null as u16;
                bins.iter_mut()
                    .zip(&codes[start..start + n])
                    .for_each(|(b, code)| *b = bin_of.get(*code as usize).copied().unwrap_or(null));
            }
        }
        vectorised(
            #[inline(always)]
            || {
                for (row, bin) in sums.chunks_exact_mut(lanes).zip(bins) {
                    let ratio = &self.ratio[usize::from(bin) * lanes..][..lanes];
                    for (s, r) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(ratio.as_chunks::<LANES>().0)
                    {
                        *s = std::array::from_fn(|i| s[i] + r[i]);
                    }
                }
            },
        );
    }

    /// Number of edges at or below each value, null for NaN. Edges are few: to compare with all of them, several
    /// values at a time, is faster than to search.
    fn bins(&self, values: &[f64], bins: &mut [u16; BLOCK]) {
        let mut below = [0i64; BLOCK];
        for edges in &self.edges {
            let reached = |v: f64| edges.iter().map(|edge| i64::from(*edge <= v)).sum::<i64>();
            vectorised(
                #[inline(always)]
                || below.iter_mut().zip(values).for_each(|(n, v)| *n += reached(*v)),
            );
        }
        for ((bin, n), v) in bins.iter_mut().zip(below).zip(values) {
            *bin = if v.is_nan() { self.null as u16 } else { n as u16 };
        }
    }
}
