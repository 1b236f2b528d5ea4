//! One tree, grown leaf by leaf: always the leaf whose split gains most.

use rayon::prelude::*;

use crate::models::trees::simd::vectorised;
use crate::student::boosted::bins::{BINS, Binned, LANES};
use crate::student::boosted::histogram::{Histogram, Search, Table};
use crate::student::boosted::sums::{Found, Limits, Sum};

/// A split of a grown tree. A child `>= 0` is a split, a child `< 0` is leaf `!child`, as in
/// `teacher::trees::ensemble`.
pub struct Branch {
    pub found: Found,
    pub left: i32,
    pub right: i32,
}

/// Branch 0 is the root; without branches the tree is the leaf 0.
pub struct Grown {
    pub branches: Vec<Branch>,
    pub values: Vec<f64>,
}

/// Working memory is reused from tree to tree.
pub struct Grower<'a> {
    binned: &'a Binned,
    categories: Vec<bool>,
    max_leaves: usize,
    rows: Vec<u32>,
    right: Vec<u32>,
    packed: Vec<Sum>,
    spare: Vec<Histogram>,
    /// Bins of the drawn rows, `[drawn row][group]`.
    drawn: Vec<[u8; LANES]>,
}

struct Leaf {
    start: usize,
    end: usize,
    sum: Sum,
    best: Option<Found>,
    histogram: Histogram,
    /// Where the tree points to this leaf: a branch and whether it is its left child.
    parent: Option<(usize, bool)>,
}

/// What a tree is grown on.
pub struct Task<'a> {
    /// The rows that it sees, ascending.
    pub rows: &'a [u32],
    /// Their gradients.
    pub packed: &'a [Sum],
    /// The groups of features that it may split, ascending.
    pub groups: &'a [u32],
    pub limits: Limits,
}

impl<'a> Grower<'a> {
    /// `categories` tells which binned features are categories.
    pub fn new(binned: &'a Binned, categories: Vec<bool>, max_leaves: usize) -> Self {
        let (rows, right, packed) = (Vec::new(), Vec::new(), Vec::new());
        let (spare, drawn) = (Vec::new(), Vec::new());
        Grower { binned, categories, max_leaves, rows, right, packed, spare, drawn }
    }

    /// Grows a tree and adds `rate` times each row's leaf to `raw`, for all rows, whether or not the tree saw
    /// them.
    pub fn grow(&mut self, task: &Task, rate: f64, raw: &mut [f64]) -> Grown {
        let all = task.rows.len() == raw.len();
        let mut drawn = std::mem::take(&mut self.drawn);
        let places: Vec<u32> = (0..task.groups.len() as u32).collect();
        let seen = if all {
            let table = Table {
                bins: self.binned.by_row.as_chunks().0,
                width: self.binned.stride() / LANES,
                places: task.groups,
            };
            Seen { table, by_column: Some(&self.binned.by_column) }
        } else {
            // close together: every leaf comes back to its rows
            gather(self.binned, task, &mut drawn);
            let table = Table { bins: &drawn, width: places.len(), places: &places };
            Seen { table, by_column: None }
        };
        let grown = self.grow_on(task, &seen, rate, raw, all);
        self.drawn = drawn;
        grown
    }

    fn grow_on(&mut self, task: &Task, seen: &Seen, rate: f64, raw: &mut [f64], all: bool) -> Grown {
        self.rows.clear();
        self.rows.extend(0..task.rows.len() as u32);
        let mut histogram = self.spare.pop().unwrap_or_default();
        self.search(task, seen).fit(&mut histogram);
        let sum = task.packed.iter().copied().sum();
        let best = self.search(task, seen).root(task.packed, sum, &mut histogram);
        let mut leaves = vec![Leaf { start: 0, end: self.rows.len(), sum, best, histogram, parent: None }];
        let mut branches: Vec<Branch> = Vec::new();
        // branch k parts the leaf `parted[k]`: what goes left stays, what goes right becomes leaf k + 1
        let mut parted: Vec<usize> = Vec::new();
        while leaves.len() < self.max_leaves
            && let Some((at, found)) = pick(&mut leaves)
        {
            let node = branches.len();
            parted.push(at);
            if let Some((above, is_left)) = leaves[at].parent {
                let child = if is_left { &mut branches[above].left } else { &mut branches[above].right };
                *child = node as i32;
            }
            branches.push(Branch { left: !(at as i32), right: !(leaves.len() as i32), found });
            let last = leaves.len() + 1 == self.max_leaves;
            let right = self.split(&mut leaves[at], node, &branches[node].found, last, task, seen);
            leaves.push(right);
        }
        let values: Vec<f64> = leaves.iter().map(|l| rate * task.limits.value(l.sum)).collect();
        if all {
            for (leaf, value) in leaves.iter().zip(&values) {
                self.rows[leaf.start..leaf.end].iter().for_each(|&row| raw[row as usize] += value);
            }
        } else {
            add_leaves(self.binned, &branches, &parted, &values, raw);
        }
        self.spare.extend(leaves.into_iter().map(|l| l.histogram));
        Grown { branches, values }
    }

    /// Makes `leaf` its own left child and returns the right one; after the last split of a tree neither is
    /// searched.
    fn split(
        &mut self,
        leaf: &mut Leaf,
        node: usize,
        found: &Found,
        last: bool,
        task: &Task,
        seen: &Seen,
    ) -> Leaf {
        let rows = &mut self.rows[leaf.start..leaf.end];
        let middle = leaf.start + part(rows, &mut self.right, &seen.column(found.feature, task), found);
        let right_sum = leaf.sum - found.left_sum;
        let (parent, histogram) = (Some((node, false)), Histogram::new());
        let mut right = Leaf { start: middle, end: leaf.end, sum: right_sum, best: None, histogram, parent };
        (leaf.end, leaf.sum, leaf.parent) = (middle, found.left_sum, Some((node, true)));
        if last {
            return right;
        }
        // the rows of the smaller child are counted, the larger one has what is left of its parent's sums
        right.histogram = self.spare.pop().unwrap_or_default();
        self.search(task, seen).fit(&mut right.histogram);
        let (small, large) = if leaf.end - leaf.start <= right.end - right.start {
            std::mem::swap(&mut leaf.histogram, &mut right.histogram);
            (&mut *leaf, &mut right)
        } else {
            (&mut right, &mut *leaf)
        };
        let rows = &self.rows[small.start..small.end];
        self.packed.clear();
        self.packed.extend(rows.iter().map(|&row| task.packed[row as usize]));
        (small.best, large.best) = self.search(task, seen).children(
            (rows, &self.packed),
            &mut small.histogram,
            &mut large.histogram,
            (small.sum, large.sum),
        );
        right
    }

    fn search<'s>(&'s self, task: &Task<'s>, seen: &Seen<'s>) -> Search<'s> {
        Search {
            binned: self.binned,
            categories: &self.categories,
            groups: task.groups,
            table: seen.table,
            limits: task.limits,
        }
    }
}

/// The rows that a tree sees, counted from the first of them.
struct Seen<'a> {
    table: Table<'a>,
    /// The bins by column, where they are all rows.
    by_column: Option<&'a [Vec<u8>]>,
}

impl Seen<'_> {
    /// Where the bins of a feature stand.
    fn column(&self, feature: usize, task: &Task) -> Column<'_> {
        if let Some(columns) = self.by_column {
            return Column { bins: &columns[feature], apart: 1 };
        }
        let group = task.groups.partition_point(|g| (*g as usize) < feature / LANES);
        let bins = self.table.bins.as_flattened();
        Column { bins: &bins[group * LANES + feature % LANES..], apart: self.table.width * LANES }
    }
}

/// The bins of a feature, each `apart` from the one of the next row.
struct Column<'a> {
    bins: &'a [u8],
    apart: usize,
}

/// The bins of a task's rows and groups.
fn gather(binned: &Binned, task: &Task, out: &mut Vec<[u8; LANES]>) {
    let (width, from) = (task.groups.len(), binned.stride() / LANES);
    out.resize(task.rows.len() * width, [0; LANES]);
    let (bins, _) = binned.by_row.as_chunks::<LANES>();
    // (without a group there is nothing to gather)
    let blocks = out.par_chunks_mut(BLOCK * width.max(1)).zip(task.rows.par_chunks(BLOCK));
    blocks.for_each(|(out, rows)| {
        for (out, &row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
            let bins = &bins[row as usize * from..][..from];
            match width == from {
                true => out.copy_from_slice(bins),
                false => out.iter_mut().zip(task.groups).for_each(|(to, &group)| *to = bins[group as usize]),
            }
        }
    });
}

/// Adds each row's leaf to `raw`. Rows are not walked down the tree one by one: every branch moves some of the
/// rows that are in its leaf to a new one, and looks at one column of bins for many rows at a time.
fn add_leaves(binned: &Binned, branches: &[Branch], parted: &[usize], values: &[f64], raw: &mut [f64]) {
    let found: Vec<(&Found, usize, Side)> =
        branches.iter().zip(parted).map(|(b, &leaf)| (&b.found, leaf, Side::of(&b.found))).collect();
    raw.par_chunks_mut(TURNED).enumerate().for_each(|(block, raw)| {
        let mut leaves = [0u16; TURNED];
        let leaves = &mut leaves[..raw.len()];
        for ((found, leaf, side), new) in found.iter().zip(1..) {
            let bins = &binned.by_column[found.feature][block * TURNED..][..raw.len()];
            vectorised(
                #[inline(always)]
                || side.part(bins, leaves, *leaf as u16, new),
            );
        }
        raw.iter_mut().zip(leaves).for_each(|(raw, leaf)| *raw += values[usize::from(*leaf)]);
    });
}

/// Rows whose leaves are found together: their numbers stay in the first-level cache.
const TURNED: usize = 1 << 12;

/// The bins that go right.
enum Side {
    /// All above this one and, or but, null.
    Above(u8, bool),
    /// Those of which this is true.
    Set(Box<[bool; BINS]>),
}

impl Side {
    fn of(found: &Found) -> Side {
        let right: [bool; BINS] = std::array::from_fn(|bin| !found.goes_left(bin as u8));
        let last = (1..BINS).rev().find(|&bin| !right[bin]).unwrap_or(0);
        match right[1..=last].iter().any(|right| *right) {
            true => Side::Set(Box::new(right)),
            false => Side::Above(last as u8, right[0]),
        }
    }

    /// Moves the rows of `leaf` that go right to the leaf `new`.
    #[inline(always)]
    fn part(&self, bins: &[u8], leaves: &mut [u16], leaf: u16, new: u16) {
        // the wanted bit of `change` or none, so that no row is a branch of the program
        let change = leaf ^ new;
        match self {
            Side::Above(last, null) => {
                let null = u16::from(*null);
                for (leaf_of, &bin) in leaves.iter_mut().zip(bins) {
                    let goes = u16::from(bin > *last) | (u16::from(bin == 0) & null);
                    let here = u16::from(*leaf_of == leaf);
                    *leaf_of ^= change & (goes & here).wrapping_neg();
                }
            }
            Side::Set(right) => {
                for (leaf_of, &bin) in leaves.iter_mut().zip(bins) {
                    let goes = u16::from(right[usize::from(bin)] & (*leaf_of == leaf));
                    *leaf_of ^= change & goes.wrapping_neg();
                }
            }
        }
    }
}

/// Takes the best split of all leaves, of equals that of the first leaf.
fn pick(leaves: &mut [Leaf]) -> Option<(usize, Found)> {
    let gain = |leaf: &Leaf| leaf.best.as_ref().map(|f| f.gain);
    let mut best: Option<(usize, f64)> = None;
    for (at, leaf) in leaves.iter().enumerate() {
        if let Some(g) = gain(leaf)
            && best.is_none_or(|(_, b)| g > b)
        {
            best = Some((at, g));
        }
    }
    let (at, _) = best?;
    Some((at, leaves[at].best.take()?))
}

/// Rows are parted in blocks of this many, side by side.
const BLOCK: usize = 1 << 13;

/// Moves the rows that go left to the front, both sides in their order; returns their number. `right` is
/// working memory.
fn part(rows: &mut [u32], right: &mut Vec<u32>, column: &Column, found: &Found) -> usize {
    let left: [bool; BINS] = std::array::from_fn(|bin| found.goes_left(bin as u8));
    if right.len() < rows.len() {
        right.resize(rows.len(), 0);
    }
    let blocks = rows.par_chunks_mut(BLOCK).zip(right.par_chunks_mut(BLOCK));
    let counts: Vec<usize> = blocks.map(|(rows, right)| halves(rows, right, column, &left)).collect();
    let mut middle = 0;
    for (block, &count) in counts.iter().enumerate() {
        rows.copy_within(block * BLOCK..block * BLOCK + count, middle);
        middle += count;
    }
    let mut at = middle;
    for (block, &count) in counts.iter().enumerate() {
        let count = BLOCK.min(rows.len() - block * BLOCK) - count;
        rows[at..at + count].copy_from_slice(&right[block * BLOCK..][..count]);
        at += count;
    }
    middle
}

/// Moves the rows that go left to the front and writes the others to `right`; returns the number of the
/// former. Each is written to both sides and counts on one: which one cannot be foreseen, and a branch would
/// guess.
fn halves(rows: &mut [u32], right: &mut [u32], column: &Column, left: &[bool; BINS]) -> usize {
    let mut gone = 0;
    for at in 0..rows.len() {
        let row = rows[at];
        rows[gone] = row;
        right[at - gone] = row;
        gone += usize::from(left[usize::from(column.bins[row as usize * column.apart])]);
    }
    gone
}
