//! Sums of gradients by bin, and the best split that they show.
//!
//! A row's gradient and hessian are rounded to integers and packed into one i64, so that a histogram costs one addition for each
//! row and feature, and sums are exact: order, thread count and subtraction cannot change them.

use super::bins::{BINS, Binned, LANES};
use rayon::prelude::*;

/// Bits of the hessian's sum; the gradient's has the others.
const H_BITS: u32 = 30;
const H_MASK: i64 = (1 << H_BITS) - 1;

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
    /// The finest scale at which no sum over these rows overflows: |sum g| < 2^33, sum h < 2^30. `h` must not be negative.
    pub fn new(g: &[f64], h: &[f64]) -> Scale {
        let rows = g.len() as f64;
        let (g, h): (f64, f64) = (g.iter().map(|v| v.abs()).sum(), h.iter().sum());
        let step = |mass: f64, bits: i32| {
            if mass > 0.0 { mass / (2f64.powi(bits) - rows).max(1.0) } else { 1.0 }
        };
        Scale { g: step(g, 33), h: step(h, H_BITS as i32) }
    }

    pub fn pack(self, g: f64, h: f64) -> Sum {
        Sum(((g / self.g).round() as i64) * (1 << H_BITS) + (h / self.h).round() as i64)
    }

    pub fn unpack(self, s: Sum) -> (f64, f64) {
        ((s.0 >> H_BITS) as f64 * self.g, (s.0 & H_MASK) as f64 * self.h)
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

    fn enough(&self, s: Sum) -> bool {
        self.scale.unpack(s).1 >= self.min_hessian
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

/// Sums by bin of every feature, BINS for each, whole groups of LANES features.
pub type Histogram = Vec<Sum>;

/// A histogram of the right size for `binned`.
pub fn empty(binned: &Binned) -> Histogram {
    vec![Sum::default(); binned.groups.len() * LANES * BINS]
}

/// Builds histograms of binned rows and finds the best splits that they show.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub binned: &'a Binned,
    /// Which binned features are categories.
    pub categories: &'a [bool],
    pub limits: Limits,
}

impl Search<'_> {
    /// Fills `out` with the histogram of all rows, whose sums are `packed`, and finds their best split.
    pub fn root(&self, packed: &[Sum], total: Sum, out: &mut Histogram) -> Option<Found> {
        let groups = out.chunks_mut(LANES * BINS).enumerate().collect();
        best(side_by_side(groups, packed.len(), |(g, chunk)| {
            fill(chunk, self.binned.groups[g].iter().zip(packed));
            self.best_of_group(g, chunk, total)
        }))
    }

    /// From the histogram of a parent, `large`, and the rows of its smaller child with their sums: fills `small` with the child's, leaves
    /// the other child's in `large`, and finds the best split of both (smaller first), whose sums are `totals`.
    pub fn children(
        &self,
        rows: (&[u32], &[Sum]),
        small: &mut Histogram,
        large: &mut Histogram,
        totals: (Sum, Sum),
    ) -> (Option<Found>, Option<Found>) {
        let groups = small.chunks_mut(LANES * BINS).zip(large.chunks_mut(LANES * BINS)).enumerate().collect();
        let found = side_by_side(groups, rows.0.len(), |(g, (small, large))| {
            let bins = &self.binned.groups[g];
            fill(small, rows.0.iter().map(|&row| &bins[row as usize]).zip(rows.1));
            large.iter_mut().zip(small.iter()).for_each(|(l, s)| *l = *l - *s);
            (self.best_of_group(g, small, totals.0), self.best_of_group(g, large, totals.1))
        });
        let (a, b) = found.into_iter().unzip();
        (best(a), best(b))
    }

    fn best_of_group(&self, g: usize, chunk: &[Sum], total: Sum) -> Option<Found> {
        let features = g * LANES..self.binned.columns.len().min((g + 1) * LANES);
        let of = |f: usize| {
            let sums = &chunk[(f - g * LANES) * BINS..][..self.binned.cuts[f].bins()];
            best_of_feature(f, sums, self.categories[f], total, &self.limits)
        };
        best(features.map(of).collect())
    }
}

/// Additions below which threads would wait for each other longer than they work.
const SMALL: usize = 1 << 15;

/// The results of all groups in their order, on all threads where there is enough to do.
fn side_by_side<T: Send, R: Send>(groups: Vec<T>, rows: usize, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if groups.len() * LANES * (rows + 2 * BINS) < SMALL {
        groups.into_iter().map(work).collect()
    } else {
        groups.into_par_iter().map(work).collect()
    }
}

/// Sums the rows' packed gradients by bin, for each lane of a group.
#[inline(always)]
fn fill<'a>(out: &mut [Sum], rows: impl Iterator<Item = (&'a [u8; LANES], &'a Sum)>) {
    out.fill(Sum::default());
    let (lanes, _) = out.as_chunks_mut::<BINS>();
    let Ok(lanes) = <&mut [[Sum; BINS]; LANES]>::try_from(lanes) else { return };
    for (bins, &sum) in rows {
        for (lane, &bin) in lanes.iter_mut().zip(bins) {
            lane[bin as usize] = lane[bin as usize] + sum;
        }
    }
}

/// The greatest gain; of equals the lowest feature.
fn best(found: Vec<Option<Found>>) -> Option<Found> {
    found.into_iter().flatten().reduce(|a, b| if b.gain > a.gain { b } else { a })
}

/// The best cut of one feature: of the bins in their order, or of levels in the order of their own best value (which holds
/// the best of all two-way partitions: Fisher 1958), with null on either side.
fn best_of_feature(feature: usize, sums: &[Sum], category: bool, total: Sum, limits: &Limits) -> Option<Found> {
    let null = sums[0];
    let mut order: [u8; BINS] = std::array::from_fn(|i| i as u8);
    let order = &mut order[1..sums.len()];
    let order: &[u8] = if category { by_value(order, sums, limits) } else { order };
    let (parent, mut prefix) = (limits.score(total), Sum::default());
    let mut best: Option<(f64, usize, bool, Sum)> = None;
    for (at, &bin) in order.iter().enumerate() {
        let sum = sums[bin as usize];
        prefix = prefix + sum;
        if sum == Sum::default() {
            continue; // the cut before it is the same cut
        }
        for null_left in [false, true] {
            let left = if null_left { prefix + null } else { prefix };
            let right = total - left;
            if (null_left && null == Sum::default()) || !limits.enough(left) || !limits.enough(right) {
                continue;
            }
            let gain = limits.score(left) + limits.score(right) - parent;
            if gain > limits.min_gain && best.is_none_or(|(g, ..)| gain > g) {
                best = Some((gain, at, null_left, left));
            }
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

/// The occupied bins by the value that each would have as a leaf; ties by bin.
fn by_value<'a>(order: &'a mut [u8], sums: &[Sum], limits: &Limits) -> &'a [u8] {
    let occupied = partition(order, |bin| sums[bin as usize] != Sum::default());
    let order = &mut order[..occupied];
    order.sort_by(|&a, &b| limits.value(sums[a as usize]).total_cmp(&limits.value(sums[b as usize])).then(a.cmp(&b)));
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
