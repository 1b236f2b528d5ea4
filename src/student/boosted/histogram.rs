//! Sums of gradients by bin, and the best split that they show.
//!
//! A row's gradient and hessian are rounded to integers and packed into one i64, so that a histogram costs
//! one addition for each row and feature, and sums are exact: order, thread count and subtraction cannot
//! change them.

use rayon::prelude::*;

use crate::student::boosted::best::{Work, best_of_feature};
use crate::student::boosted::bins::{BINS, Binned, LANES};

/// Some groups of columns, and their places in the [`Table`].
#[derive(Clone, Copy)]
struct Piece<'a> {
    groups: &'a [u32],
    places: &'a [u32],
}

/// Some groups of columns and their sums.
type Groups<'a> = (Piece<'a>, &'a mut [Sum]);

/// Bits of the hessian's sum; the gradient's has the others.
const H_BITS: u32 = 30;
const H_MASK: i64 = (1 << H_BITS) - 1;
const G_BITS: u32 = 63 - H_BITS;
const TWO_52: f64 = (1u64 << 52) as f64;

/// What one step of the integers stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    g: f64,
    h: f64,
}

/// Gradient and hessian of a set of rows, in the integers of a [`Scale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(i64);

impl std::ops::Add for Sum {
    type Output = Sum;
    fn add(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }
}

impl std::ops::Sub for Sum {
    type Output = Sum;
    fn sub(self, other: Sum) -> Sum {
        Sum(self.0 - other.0)
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(items: I) -> Sum {
        items.fold(Sum::default(), |a, b| a + b)
    }
}

impl Scale {
    /// The finest scale at which no sum over `rows` rows overflows, whose sum of |g| and sum of h (not
    /// negative) these are:
    /// |sum g| < 2^33, sum h < 2^30.
    pub fn new(g: f64, h: f64, rows: usize) -> Scale {
        let step = |mass: f64, bits: i32| {
            if mass > 0.0 { mass / (2f64.powi(bits) - rows as f64).max(1.0) } else { 1.0 }
        };
        Scale { g: step(g, G_BITS as i32), h: step(h, H_BITS as i32) }
    }

    pub fn pack(self, g: f64, h: f64) -> Sum {
        // halves away from zero, as round() does, without a call for each row
        let round = |v: f64| (v + 0.5f64.copysign(v)) as i64;
        Sum(round(g / self.g) * (1 << H_BITS) + round(h / self.h))
    }

    #[inline(always)]
    pub fn unpack(self, s: Sum) -> (f64, f64) {
        // Integers below 2^52 are the last digits of a float64 between 2^52 and 2^53; converted so, several sums
        // take one instruction, which the conversion of an i64 does not. g is made positive by 2^33 first.
        let last_digits = |digits: u64| f64::from_bits(TWO_52.to_bits() | digits);
        let g = last_digits((s.0 as u64 ^ 1 << 63) >> H_BITS) - (TWO_52 + (1u64 << G_BITS) as f64);
        let h = last_digits((s.0 & H_MASK) as u64) - TWO_52;
        (g * self.g, h * self.h)
    }
}

/// What limits a split.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub scale: Scale,
    /// L2 on a leaf's value.
    pub ridge: f64,
    /// Least hessian of a child.
    pub min_hessian: f64,
    /// Least gain of a split.
    pub min_gain: f64,
}

impl Limits {
    /// Twice the drop of the second-order loss that a leaf with these sums allows.
    pub fn score(&self, s: Sum) -> f64 {
        let (g, h) = self.scale.unpack(s);
        g * g / (h + self.ridge)
    }

    /// The value of a leaf with these sums: the minimum of g v + (h + ridge) v^2 / 2.
    pub fn value(&self, s: Sum) -> f64 {
        let (g, h) = self.scale.unpack(s);
        if h + self.ridge > 0.0 { -g / (h + self.ridge) } else { 0.0 }
    }
}

/// A split of a leaf: the bins that go left.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub feature: usize,
    pub gain: f64,
    /// The bins that go left, one bit each; bin 0 is null.
    pub left: [u64; BINS / 64],
    pub left_sum: Sum,
}

impl Found {
    pub fn goes_left(&self, bin: u8) -> bool {
        self.left[bin as usize / 64] >> (bin % 64) & 1 == 1
    }
}

/// Sums by bin of the chosen groups of LANES features: for each group LANES times its
/// [`width`](Binned::width).
pub type Histogram = Vec<Sum>;

/// Bins of rows, those of a group of features side by side: `[row][place][LANES]`.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub bins: &'a [[u8; LANES]],
    /// Places of a row.
    pub width: usize,
    /// The place of each group that may be split, ascending.
    pub places: &'a [u32],
}

/// Builds histograms of binned rows and finds the best splits that they show.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub binned: &'a Binned,
    /// Which binned features are categories.
    pub categories: &'a [bool],
    /// The groups of LANES features that may be split, ascending.
    pub groups: &'a [u32],
    /// The rows that the tree sees.
    pub table: Table<'a>,
    pub limits: Limits,
}

impl<'a> Search<'a> {
    /// Makes `histogram` one of the right size; what it holds is of no account.
    pub fn fit(&self, histogram: &mut Histogram) {
        histogram.resize(self.groups.iter().map(|&g| self.size(g)).sum(), Sum::default());
    }

    /// Fills `out` with the histogram of all rows, whose sums these are, and finds their best split.
    pub fn root(&self, sums: &[Sum], total: Sum, out: &mut Histogram) -> Option<Found> {
        let of = |(piece, out): Groups| {
            self.fill(out, piece, None, sums);
            self.best_of(piece.groups, out, total)
        };
        let pieces = self.pieces(out, sums.len()).into_par_iter();
        best(pieces.map(of).collect::<Vec<_>>().into_iter())
    }

    /// From the histogram of a parent, `large`, and the rows of its smaller child with their sums: fills
    /// `small` with the child's, leaves the other child's in `large`, and finds the best split of both
    /// (smaller first), whose sums are
    /// `totals`.
    pub fn children(
        &self,
        (rows, sums): (&[u32], &[Sum]),
        small: &mut Histogram,
        large: &mut Histogram,
        totals: (Sum, Sum),
    ) -> (Option<Found>, Option<Found>) {
        let of = |((piece, small), (_, large)): (Groups, Groups)| {
            self.fill(small, piece, Some(rows), sums);
            large.iter_mut().zip(&*small).for_each(|(l, s)| *l = *l - *s);
            (self.best_of(piece.groups, small, totals.0), self.best_of(piece.groups, large, totals.1))
        };
        let count = rows.len();
        let pieces = self.pieces(small, count).into_par_iter().zip(self.pieces(large, count));
        let found: Vec<(Option<Found>, Option<Found>)> = pieces.map(of).collect();
        let (a, b): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        (best(a.into_iter()), best(b.into_iter()))
    }

    /// Sums of a group.
    fn size(&self, group: u32) -> usize {
        self.binned.width(group as usize) * LANES
    }

    /// The groups and their sums, a piece for each thread that has enough to do: threads share features rather
    /// than rows, so that a small leaf keeps them all busy and nothing has to be added up afterwards.
    fn pieces<'h>(&self, mut sums: &'h mut [Sum], rows: usize) -> Vec<(Piece<'a>, &'h mut [Sum])> {
        let work = rows * self.groups.len() * LANES + 2 * sums.len();
        let threads = rayon::current_num_threads().min(work / SHARED).max(1);
        let piece = self.groups.len().div_ceil(threads).max(1);
        let take = |(groups, places): (&'a [u32], &'a [u32])| {
            let size = groups.iter().map(|&g| self.size(g)).sum();
            let (head, rest) = std::mem::take(&mut sums).split_at_mut(size);
            sums = rest;
            (Piece { groups, places }, head)
        };
        self.groups.chunks(piece).zip(self.table.places.chunks(piece)).map(take).collect()
    }

    fn best_of(&self, groups: &[u32], mut sums: &[Sum], total: Sum) -> Option<Found> {
        let mut work = Work::default();
        let mut best: Option<Found> = None;
        for &group in groups {
            let (own, rest) = sums.split_at(self.size(group));
            sums = rest;
            let (first, width) = (group as usize * LANES, self.binned.width(group as usize));
            let features = first..self.binned.columns.len().min(first + LANES);
            for (feature, sums) in features.zip(own.chunks_exact(width)) {
                let sums = &sums[..self.binned.cuts[feature].bins()];
                let limits = Limits {
                    min_gain: best.as_ref().map_or(self.limits.min_gain, |b| b.gain),
                    ..self.limits
                };
                let found =
                    best_of_feature(feature, sums, self.categories[feature], total, &limits, &mut work);
                best = found.or(best);
            }
        }
        best
    }

    /// The histogram of some groups over `rows`, or all, and their packed gradients.
    fn fill(&self, out: &mut [Sum], groups: Piece, rows: Option<&[u32]>, sums: &[Sum]) {
        out.fill(Sum::default());
        let Piece { groups, places } = groups;
        let Some((&first, &last)) = places.first().zip(places.last()) else { return };
        let together = places.len() == (last - first) as usize + 1;
        let block = (FETCHED / groups.len()).clamp(64, BLOCK).min(sums.len()).max(1);
        let width = self.table.width;
        if rows.is_none() && together {
            for (sums, bins) in sums.chunks(block).zip(self.table.bins.chunks(block * width)) {
                self.add_groups(out, groups, &bins[first as usize..], width, sums);
            }
            return;
        }
        // [row][group]: scattered rows are fetched here by so little code that the processor waits for many at once
        let mut fetched = Vec::with_capacity(block * groups.len());
        for (at, sums) in sums.chunks(block).enumerate() {
            fetched.clear();
            let mut fetch = |row: usize| {
                let bins = &self.table.bins[row * width..][..width];
                if together {
                    fetched.extend_from_slice(&bins[first as usize..][..groups.len()]);
                } else {
                    fetched.extend(places.iter().map(|&place| bins[place as usize]));
                }
            };
            let at = at * block..at * block + sums.len();
            match rows {
                Some(rows) => rows[at].iter().for_each(|row| fetch(*row as usize)),
                None => at.for_each(fetch),
            }
            self.add_groups(out, groups, &fetched, groups.len(), sums);
        }
    }

    /// Adds the sums of rows to the histograms of some groups; the rows' bins are `apart` from each other.
    fn add_groups(
        &self,
        mut out: &mut [Sum],
        groups: &[u32],
        bins: &[[u8; LANES]],
        apart: usize,
        sums: &[Sum],
    ) {
        for (at, &group) in groups.iter().enumerate() {
            let (own, rest) = std::mem::take(&mut out).split_at_mut(self.size(group));
            out = rest;
            match self.binned.width(group as usize) {
                16 => add::<16>(own, &bins[at..], apart, sums),
                64 => add::<64>(own, &bins[at..], apart, sums),
                128 => add::<128>(own, &bins[at..], apart, sums),
                _ => add::<BINS>(own, &bins[at..], apart, sums),
            }
        }
    }
}

/// Additions, and cuts looked at, that are worth another thread: some ten times what waking it takes.
const SHARED: usize = 20_000;
/// Rows that every group of features sees before the next rows come: their bins stay in the second-level
/// cache.
const BLOCK: usize = 1000;
/// Groups times rows that are fetched at a time where there are many groups.
const FETCHED: usize = 1 << 16;

/// Adds the sums of rows to a group of LANES histograms of W bins; the rows' bins are `apart` from each other.
fn add<const W: usize>(group: &mut [Sum], fetched: &[[u8; LANES]], apart: usize, sums: &[Sum]) {
    let (lanes, _) = group.as_chunks_mut::<W>();
    let Ok(lanes) = <&mut [[Sum; W]; LANES]>::try_from(lanes) else { return };
    for (row, &sum) in fetched.chunks(apart).zip(sums) {
        for (lane, &bin) in lanes.iter_mut().zip(&row[0]) {
            // the remainder is the bin itself, and tells the compiler that it is below W
            let at = bin as usize % W;
            lane[at] = lane[at] + sum;
        }
    }
}

/// The greatest gain; of equals the lowest feature.
fn best(found: impl Iterator<Item = Option<Found>>) -> Option<Found> {
    found.flatten().reduce(|a, b| if b.gain > a.gain { b } else { a })
}
