//! Sums of gradients by bin, and the best split that they show.
//!
//! A row's gradient and hessian are rounded to integers and packed into one i64, so that a histogram costs
//! one addition for each row and feature, and sums are exact: order, thread count and subtraction cannot
//! change them.

use rayon::prelude::*;

use crate::models::trees::simd::vectorised;
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
    fn score(&self, s: Sum) -> f64 {
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

    /// Fills `out` with the histogram of `rows` and their sums, and finds their best split.
    pub fn root(&self, rows: (&[u32], &[Sum]), total: Sum, out: &mut Histogram) -> Option<Found> {
        let of = |(piece, out): Groups| {
            self.fill(out, piece, rows);
            self.best_of(piece.groups, out, total)
        };
        best(self.pieces(out).into_par_iter().map(of).collect::<Vec<_>>().into_iter())
    }

    /// From the histogram of a parent, `large`, and the rows of its smaller child with their sums: fills
    /// `small` with the child's, leaves the other child's in `large`, and finds the best split of both
    /// (smaller first), whose sums are
    /// `totals`.
    pub fn children(
        &self,
        rows: (&[u32], &[Sum]),
        small: &mut Histogram,
        large: &mut Histogram,
        totals: (Sum, Sum),
    ) -> (Option<Found>, Option<Found>) {
        let of = |((piece, small), (_, large)): (Groups, Groups)| {
            self.fill(small, piece, rows);
            large.iter_mut().zip(&*small).for_each(|(l, s)| *l = *l - *s);
            (self.best_of(piece.groups, small, totals.0), self.best_of(piece.groups, large, totals.1))
        };
        let pieces = self.pieces(small).into_par_iter().zip(self.pieces(large));
        let found: Vec<(Option<Found>, Option<Found>)> = pieces.map(of).collect();
        let (a, b): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        (best(a.into_iter()), best(b.into_iter()))
    }

    /// Sums of a group.
    fn size(&self, group: u32) -> usize {
        self.binned.width(group as usize) * LANES
    }

    /// The groups and their sums, a piece for each thread: threads share features rather than rows, so that a
    /// small leaf keeps them all busy and nothing has to be added up afterwards.
    fn pieces<'h>(&self, mut sums: &'h mut [Sum]) -> Vec<(Piece<'a>, &'h mut [Sum])> {
        let piece = self.groups.len().div_ceil(rayon::current_num_threads()).max(1);
        let take = |(groups, places): (&'a [u32], &'a [u32])| {
            let size = groups.iter().map(|&g| self.size(g)).sum();
            let (head, rest) = std::mem::take(&mut sums).split_at_mut(size);
            sums = rest;
            (Piece { groups, places }, head)
        };
        self.groups.chunks(piece).zip(self.table.places.chunks(piece)).map(take).collect()
    }

    fn best_of(&self, groups: &[u32], mut sums: &[Sum], total: Sum) -> Option<Found> {
        best(groups.iter().map(|&group| {
            let (own, rest) = sums.split_at(self.size(group));
            sums = rest;
            let (first, width) = (group as usize * LANES, self.binned.width(group as usize));
            let features = first..self.binned.columns.len().min(first + LANES);
            best(features.zip(own.chunks_exact(width)).map(|(f, sums)| {
                let sums = &sums[..self.binned.cuts[f].bins()];
                best_of_feature(f, sums, self.categories[f], total, &self.limits)
            }))
        }))
    }

    /// The histogram of some groups over `rows` and their packed gradients.
    fn fill(&self, out: &mut [Sum], groups: Piece, (rows, sums): (&[u32], &[Sum])) {
        out.fill(Sum::default());
        let Piece { groups, places } = groups;
        let Some((&first, &last)) = places.first().zip(places.last()) else { return };
        let together = places.len() == (last - first) as usize + 1;
        let block = (FETCHED / groups.len()).clamp(64, BLOCK).min(rows.len()).max(1);
        // [row][group]: scattered rows are fetched here by so little code that the processor waits for many at once
        let mut fetched = vec![[0; LANES]; block * groups.len()];
        for (rows, sums) in rows.chunks(block).zip(sums.chunks(block)) {
            for (&row, fetched) in rows.iter().zip(fetched.chunks_exact_mut(groups.len())) {
                let bins = &self.table.bins[row as usize * self.table.width..][..self.table.width];
                if together {
                    fetched.copy_from_slice(&bins[first as usize..][..groups.len()]);
                } else {
                    fetched.iter_mut().zip(places).for_each(|(to, &place)| *to = bins[place as usize]);
                }
            }
            let mut out = &mut *out;
            for (at, &group) in groups.iter().enumerate() {
                let (own, rest) = std::mem::take(&mut out).split_at_mut(self.size(group));
                out = rest;
                let fetched = &fetched[at..];
                match self.binned.width(group as usize) {
                    16 => add::<16>(own, fetched, groups.len(), sums),
                    64 => add::<64>(own, fetched, groups.len(), sums),
                    128 => add::<128>(own, fetched, groups.len(), sums),
                    _ => add::<BINS>(own, fetched, groups.len(), sums),
                }
            }
        }
    }
}

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

/// The best cut of one feature: of the bins in their order, or of levels in the order of their own best value
/// (which holds the best of all two-way partitions: Fisher 1958), with null on either side.
fn best_of_feature(
    feature: usize,
    sums: &[Sum],
    category: bool,
    total: Sum,
    limits: &Limits,
) -> Option<Found> {
    let null = sums[0];
    let mut order: [u8; BINS] = std::array::from_fn(|i| i as u8);
    let order = &mut order[1..sums.len()];
    let order: &[u8] = if category { by_value(order, sums, limits) } else { order };
    let mut lefts = [Sum::default(); BINS];
    let lefts = &mut lefts[..order.len()];
    let mut prefix = Sum::default();
    for (left, &bin) in lefts.iter_mut().zip(order) {
        prefix = prefix + sums[bin as usize];
        *left = prefix;
    }
    let mut best: Option<(f64, usize, bool, Sum)> = None;
    for null_left in [false, true] {
        let with = if null_left { null } else { Sum::default() };
        if let Some((gain, at)) = best_cut(lefts, with, total, limits)
            && best.is_none_or(|(g, ..)| gain > g)
        {
            best = Some((gain, at, null_left, lefts[at] + with));
        }
        if null == Sum::default() {
            break;
        }
    }
    let (gain, at, mut null_left, left_sum) = best?;
    if null == Sum::default() {
        // no null was seen: it follows the heavier side
        null_left = limits.scale.unpack(left_sum).1 >= limits.scale.unpack(total - left_sum).1;
    }
    let mut left = [0u64; BINS / 64];
    order[..=at].iter().for_each(|&bin| left[bin as usize / 64] |= 1 << (bin % 64));
    left[0] |= u64::from(null_left);
    Some(Found { feature, gain, left, left_sum })
}

/// The gain and the place of the first best of the cuts that leave `lefts[at] + with` on the left; none
/// without enough gain.
fn best_cut(lefts: &[Sum], with: Sum, total: Sum, limits: &Limits) -> Option<(f64, usize)> {
    let (ridge, least) = (limits.ridge, limits.min_hessian);
    let (g, h) = limits.scale.unpack(total);
    let mut gains = [0.0; BINS];
    let gains = &mut gains[..lefts.len()];
    // no branch: all cuts are worth a few instructions of the processor's widest kind
    vectorised(
        #[inline(always)]
        || {
            for (gain, left) in gains.iter_mut().zip(lefts) {
                let (gl, hl) = limits.scale.unpack(*left + with);
                let (gr, hr) = (g - gl, h - hl);
                // gl^2 / (hl + ridge) + gr^2 / (hr + ridge) with one division
                let scores =
                    (gl * gl * (hr + ridge) + gr * gr * (hl + ridge)) / ((hl + ridge) * (hr + ridge));
                *gain = if hl >= least && hr >= least { scores } else { 0.0 };
            }
        },
    );
    let parent = limits.score(total);
    let (mut best, mut at) = (parent + limits.min_gain, None);
    for (i, &gain) in gains.iter().enumerate() {
        if gain > best {
            (best, at) = (gain, Some(i));
        }
    }
    at.map(|at| (best - parent, at))
}

/// The occupied bins by the value that each would have as a leaf; ties by bin.
fn by_value<'a>(order: &'a mut [u8], sums: &[Sum], limits: &Limits) -> &'a [u8] {
    let occupied = partition(order, |bin| sums[bin as usize] != Sum::default());
    let order = &mut order[..occupied];
    order.sort_by(|&a, &b| {
        limits.value(sums[a as usize]).total_cmp(&limits.value(sums[b as usize])).then(a.cmp(&b))
    });
    order
}

/// Moves the bins that pass to the front, in their order; returns their number.
fn partition(order: &mut [u8], keep: impl Fn(u8) -> bool) -> usize {
    let mut kept = 0;
    for at in 0..order.len() {
        if keep(order[at]) {
            order.swap(kept, at);
            kept += 1;
        }
    }
    kept
}
