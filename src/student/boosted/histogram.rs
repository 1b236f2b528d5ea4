//! Sums of gradients by bin, and the best split that they show.

use rayon::prelude::*;

use crate::student::boosted::best::{Work, best_of_feature};
use crate::student::boosted::bins::{BINS, Binned, LANES};
use crate::student::boosted::sums::{Found, Limits, Sum};

/// Some groups of columns, and their places in the [`Table`].
#[derive(Clone, Copy)]
struct Piece<'a> {
    groups: &'a [u32],
    places: &'a [u32],
}

/// Some groups of columns and their sums.
type Groups<'a> = (Piece<'a>, &'a mut [Sum]);

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
