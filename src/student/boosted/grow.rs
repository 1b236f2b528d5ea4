//! One tree, grown leaf by leaf: always the leaf whose split gains most.

use rayon::prelude::*;

use crate::student::boosted::bins::{BINS, Binned};
use crate::student::boosted::histogram::{Found, Histogram, Limits, Search, Sum};

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

/// Histograms are reused from tree to tree.
pub struct Grower<'a> {
    binned: &'a Binned,
    categories: Vec<bool>,
    max_leaves: usize,
    rows: Vec<u32>,
    packed: Vec<Sum>,
    spare: Vec<Histogram>,
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
    /// Their gradients, `[row]` of all rows.
    pub packed: &'a [Sum],
    /// The groups of features that it may split, ascending.
    pub groups: &'a [u32],
    pub limits: Limits,
}

impl<'a> Grower<'a> {
    /// `categories` tells which binned features are categories.
    pub fn new(binned: &'a Binned, categories: Vec<bool>, max_leaves: usize) -> Self {
        Grower { binned, categories, max_leaves, rows: Vec::new(), packed: Vec::new(), spare: Vec::new() }
    }

    /// Grows a tree and adds `rate` times each row's leaf to `raw`, for all rows, whether or not the tree saw
    /// them.
    pub fn grow(&mut self, task: &Task, rate: f64, raw: &mut [f64]) -> Grown {
        self.rows.clear();
        self.rows.extend_from_slice(task.rows);
        self.packed.clear();
        self.packed.extend(task.rows.iter().map(|&row| task.packed[row as usize]));
        let mut histogram = self.spare.pop().unwrap_or_default();
        self.search(task).fit(&mut histogram);
        let sum = self.packed.iter().copied().sum();
        let best = self.search(task).root((&self.rows, &self.packed), sum, &mut histogram);
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
            let right = self.split(&mut leaves[at], &branches[node].found, node, task);
            leaves.push(right);
        }
        let values: Vec<f64> = leaves.iter().map(|l| rate * task.limits.value(l.sum)).collect();
        if task.rows.len() == raw.len() {
            for (leaf, value) in leaves.iter().zip(&values) {
                self.rows[leaf.start..leaf.end].iter().for_each(|&row| raw[row as usize] += value);
            }
        } else {
            add_leaves(self.binned, &branches, &parted, &values, raw);
        }
        self.spare.extend(leaves.into_iter().map(|l| l.histogram));
        Grown { branches, values }
    }

    /// Makes `leaf` its own left child and returns the right one.
    fn split(&mut self, leaf: &mut Leaf, found: &Found, node: usize, task: &Task) -> Leaf {
        let middle = leaf.start + part(&mut self.rows[leaf.start..leaf.end], self.binned, found);
        let right_sum = leaf.sum - found.left_sum;
        let left_is_small = middle - leaf.start <= leaf.end - middle;
        let (small, totals) = if left_is_small {
            (leaf.start..middle, (found.left_sum, right_sum))
        } else {
            (middle..leaf.end, (right_sum, found.left_sum))
        };
        let rows = &self.rows[small];
        self.packed.clear();
        self.packed.extend(rows.iter().map(|&row| task.packed[row as usize]));
        let mut histogram = self.spare.pop().unwrap_or_default();
        self.search(task).fit(&mut histogram);
        let (a, b) =
            self.search(task).children((rows, &self.packed), &mut histogram, &mut leaf.histogram, totals);
        let mut right = Leaf {
            start: middle,
            end: leaf.end,
            sum: right_sum,
            best: b,
            histogram,
            parent: Some((node, false)),
        };
        (leaf.end, leaf.sum, leaf.best, leaf.parent) = (middle, found.left_sum, a, Some((node, true)));
        if left_is_small {
            std::mem::swap(&mut leaf.histogram, &mut right.histogram);
        } else {
            std::mem::swap(&mut leaf.best, &mut right.best);
        }
        right
    }

    fn search<'s>(&'s self, task: &Task<'s>) -> Search<'s> {
        Search { binned: self.binned, categories: &self.categories, groups: task.groups, limits: task.limits }
    }
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
            side.part(bins, leaves, *leaf as u16, new);
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
const BLOCK: usize = 1 << 14;

/// Moves the rows that go left to the front, both sides in their order; returns their number.
fn part(rows: &mut [u32], binned: &Binned, found: &Found) -> usize {
    let bins = &binned.by_column[found.feature];
    let left: [bool; BINS] = std::array::from_fn(|bin| found.goes_left(bin as u8));
    let parts: Vec<(Vec<u32>, Vec<u32>)> = match rows.len() {
        0..=BLOCK => vec![halves(rows, bins, &left)],
        _ => rows.par_chunks(BLOCK).map(|block| halves(block, bins, &left)).collect(),
    };
    let middle = parts.iter().map(|(left, _)| left.len()).sum();
    let (mut to_left, mut to_right) = rows.split_at_mut(middle);
    for (left, right) in &parts {
        let (head, rest) = to_left.split_at_mut(left.len());
        head.copy_from_slice(left);
        to_left = rest;
        let (head, rest) = to_right.split_at_mut(right.len());
        head.copy_from_slice(right);
        to_right = rest;
    }
    middle
}

/// The rows that go left and those that go right. Each is written to both sides and counts on one: which one
/// cannot be foreseen, and a branch would guess.
fn halves(rows: &[u32], bins: &[u8], left: &[bool; BINS]) -> (Vec<u32>, Vec<u32>) {
    let (mut to_left, mut to_right, mut gone) = (vec![0; rows.len()], vec![0; rows.len()], 0);
    for (at, &row) in rows.iter().enumerate() {
        to_left[gone] = row;
        to_right[at - gone] = row;
        gone += usize::from(left[bins[row as usize] as usize]);
    }
    to_left.truncate(gone);
    to_right.truncate(rows.len() - gone);
    (to_left, to_right)
}
