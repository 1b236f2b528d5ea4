//! What a compiled forest is made of: columns of thresholds and sets, nodes, and lanes of one bit a row.

use std::ops::Range;

use crate::models::trees::ensemble::Missing;

/// Rows of a slab.
pub const ROWS: usize = 512;

/// One bit for each row of a slab; row r is bit `r % 64` of word `r / 64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Lane(pub [u64; ROWS / 64]);

impl Lane {
    /// The rows of both.
    #[inline(always)]
    pub fn and(self, other: Lane) -> Lane {
        Lane(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// The rows of this one alone.
    #[inline(always)]
    pub fn and_not(self, other: Lane) -> Lane {
        Lane(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The rows of either.
    #[inline(always)]
    pub fn or(self, other: Lane) -> Lane {
        Lane(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The rows of one but not both.
    #[inline(always)]
    pub fn xor(self, other: Lane) -> Lane {
        Lane(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }
}

/// The thresholds that are asked of one column: `value <= threshold`. They have one condition more than there
/// are thresholds, which always holds.
#[derive(Debug)]
pub struct NumberColumn {
    pub source: Source,
    pub search: Search,
}

/// A feature as some splits read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    pub feature: usize,
    /// Zeros are read as NaN.
    pub zero_is_missing: bool,
    pub nan: Nan,
}

/// What NaN is read as, so that `value <= threshold` sends it where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Nan {
    /// As it is: it answers no.
    Itself,
    /// Negative infinity: it answers yes.
    Lowest,
    Zero,
}

/// Ascending thresholds, and the same ones level by level for a binary search of many values at once.
#[derive(Debug)]
pub struct Search {
    pub thresholds: Vec<f32>,
    /// Steps of the search: the least m with fewer than 2^m thresholds.
    pub levels: u32,
    /// Level l has 2^l thresholds, in [`Search::level`]; level by level, each is the middle of what is left.
    /// Infinity stands where there is none.
    pub tree: Vec<f32>,
}

impl Search {
    /// Of ascending thresholds.
    pub fn new(thresholds: Vec<f32>) -> Search {
        let levels = usize::BITS - thresholds.len().leading_zeros();
        let mut tree = vec![f32::INFINITY; Search::level(levels)];
        for level in 0..levels {
            let step = 1usize << (levels - 1 - level);
            for path in 0..1 << level {
                let middle = path * 2 * step + step - 1;
                tree[Search::level(level) + path] = thresholds.get(middle).copied().unwrap_or(f32::INFINITY);
            }
        }
        Search { thresholds, levels, tree }
    }

    /// Where a level starts: none takes less than a vector register of 16.
    pub fn level(level: u32) -> usize {
        if level <= 4 { 16 * level as usize } else { 48 + (1 << level) }
    }
}

/// The sets that are asked of one column, as lists of *bins*: a bin is a category's position in `categories`,
/// then there is one for a value that is none of them, then one for a missing value.
#[derive(Debug)]
pub struct SetColumn {
    pub feature: usize,
    pub missing: Missing,
    pub cut_below_zero: bool,
    pub categories: Vec<u32>,
    pub sets: Vec<BinSet>,
}

/// A value is in the set if its bin is listed, or if it is not and the list is of those outside.
#[derive(Debug)]
pub struct BinSet {
    pub bins: Vec<u32>,
    pub outside: bool,
}

/// A split: the rows of the node's slot (its position) that its condition holds for go to slot `left`, the
/// others to `right`.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub condition: u32,
    pub left: u32,
    pub right: u32,
}

/// Where in a batch a tree's parts are.
#[derive(Debug)]
pub struct TreeCode {
    pub way: Way,
    /// By the number that the way gives.
    pub leaves: Range<u32>,
    pub width: u32,
    pub output: u32,
}

/// How the leaves of a tree are found.
#[derive(Debug)]
pub enum Way {
    /// By bit logic; the first `inner` nodes have a split below them, the others two leaves: of these only
    /// the right rows are needed.
    Logic { nodes: Range<u32>, inner: u32, planes: Range<u32> },
    /// From step to step, by the position of the last one: for large trees, of which a slab's rows see
    /// little.
    Walk { steps: Range<u32> },
}

/// A split, or a leaf that leads to itself.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub struct Step {
    pub threshold: f32,
    /// Position in `Batch::walked`.
    pub column: u32,
    /// Where to go if not `value <= threshold`, and if so.
    pub next: [u32; 2],
}
