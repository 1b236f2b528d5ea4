//! An [`Ensemble`] compiled for evaluation of many rows at once.
//!
//! A *slab* is [`ROWS`] rows; a [`Lane`] has one bit for each. Every distinct question that the splits ask ("is column 3 <= 0.25, NaN to the left?") is
//! one *condition*, answered once for all the trees of a [`Batch`]. A tree is then bit logic on lanes: the rows that reach a node, split by its condition,
//! reach its children. The leaf that a row ends in is read off as a binary number, one lane (*plane*) for each digit: a leaf's number is the XOR
//! of a code over the *turns* on the way to it, where each node has one child that is a turn and one that is not.

use std::collections::HashMap;
use std::ops::Range;

use super::ensemble::{Ensemble, Missing, Rule, Split, Tree};
use super::layout::{Layout, breadth_first};
use super::question::{Question, columns, question};

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

/// Conditions that are answered at a time: their lanes stay in the second-level cache.
const CONDITIONS: usize = 16_384;

/// Consecutive trees that share the answers to their conditions. Numeric columns' conditions come first, in order, then those of sets.
#[derive(Debug)]
pub struct Batch<T> {
    pub columns: Vec<NumberColumn>,
    pub sets: Vec<SetColumn>,
    pub conditions: usize,
    pub nodes: Vec<Node>,
    /// Slots whose XOR is a plane.
    pub turns: Vec<u32>,
    /// Ranges of `turns`, one for each plane.
    pub planes: Vec<Range<u32>>,
    pub leaves: Vec<T>,
    pub trees: Vec<TreeCode>,
    pub steps: Vec<Step>,
    /// Columns that steps read.
    pub walked: Vec<Source>,
    /// Slots that the largest tree needs.
    pub slots: usize,
}

/// The thresholds that are asked of one column: `value <= threshold`. They have one condition more than there are thresholds, which always holds.
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
    /// Level l has 2^l thresholds, in [`Search::level`]; level by level, each is the middle of what is left. Infinity stands where there is none.
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

/// The sets that are asked of one column, as lists of *bins*: a bin is a category's position in `categories`, then there is one for a value that is
/// none of them, then one for a missing value.
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

/// A split: the rows of the node's slot (its position) that its condition holds for go to slot `left`, the others to `right`.
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
    /// By bit logic; the first `inner` nodes have a split below them, the others two leaves: of these only the right rows are needed.
    Logic { nodes: Range<u32>, inner: u32, planes: Range<u32> },
    /// From step to step, by the position of the last one: for large trees, of which a slab's rows see little.
    Walk { steps: Range<u32> },
}

/// A split, or a leaf that leads to itself.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub struct Step {
    pub threshold: f32,
    /// Position in [`Batch::walked`].
    pub column: u32,
    /// Where to go if not `value <= threshold`, and if so.
    pub next: [u32; 2],
}

impl<T: Copy> Batch<T> {
    /// Compiles all trees of a valid ensemble; `number` turns a leaf value into the type that sums are kept in.
    pub fn compile_all(model: &Ensemble, number: impl Fn(f64) -> T) -> Vec<Batch<T>> {
        let mut batches = Vec::new();
        let mut start = 0;
        while start < model.trees.len() {
            let (end, questions) = gather(&model.trees, start);
            batches.push(Batch::compile(&model.trees[start..end], questions, &number));
            start = end;
        }
        batches
    }

    fn compile(trees: &[Tree], questions: Vec<Question>, number: &impl Fn(f64) -> T) -> Batch<T> {
        let (columns, sets) = columns(&questions);
        // the conditions follow the questions, with a spare one after each column of numbers
        let spares = columns.iter().zip(0..).flat_map(|(column, spare)| std::iter::repeat_n(spare, column.search.thresholds.len()));
        let spares = spares.chain(std::iter::repeat(columns.len() as u32));
        let index: HashMap<&Question, u32> = questions.iter().zip(0u32..).zip(spares).map(|((q, at), spare)| (q, at + spare)).collect();
        let mut batch = Batch {
            conditions: questions.len() + columns.len(),
            columns,
            sets,
            nodes: Vec::new(),
            turns: Vec::new(),
            planes: Vec::new(),
            leaves: Vec::new(),
            trees: Vec::new(),
            steps: Vec::new(),
            walked: Vec::new(),
            slots: 1,
        };
        for tree in trees {
            let (start, width) = (batch.leaves.len(), tree.width);
            let (way, numbers, count) =
                if is_walked(tree) { batch.add_walk(tree) } else { batch.add_logic(tree, |split| index[&question(split)]) };
            // numbers that no leaf has are never looked up
            batch.leaves.resize(start + count * width, number(0.0));
            for (values, at) in tree.leaves.chunks_exact(width).zip(numbers) {
                let places = &mut batch.leaves[start + at as usize * width..];
                values.iter().zip(places).for_each(|(&value, place)| *place = number(value));
            }
            let leaves = start as u32..batch.leaves.len() as u32;
            batch.trees.push(TreeCode { way, leaves, width: width as u32, output: tree.output as u32 });
        }
        batch
    }

    /// Adds a tree's splits; its way, the leaves' numbers and how many numbers there are.
    fn add_logic(&mut self, tree: &Tree, condition: impl Fn(&Split) -> u32) -> (Way, Vec<u32>, usize) {
        let layout = Layout::new(tree);
        let (nodes, planes) = (self.nodes.len() as u32, self.planes.len() as u32);
        for (&split, [left, right]) in layout.order.iter().zip(layout.slots) {
            self.nodes.push(Node { condition: condition(&tree.splits[split]), left, right });
        }
        for plane in 0..layout.digits {
            let start = self.turns.len() as u32;
            self.turns.extend(layout.turns.iter().filter(|(_, code)| code >> plane & 1 == 1).map(|(slot, _)| *slot));
            self.planes.push(start..self.turns.len() as u32);
        }
        self.slots = self.slots.max(layout.slot_count);
        let way =
            Way::Logic { nodes: nodes..self.nodes.len() as u32, inner: layout.inner as u32, planes: planes..self.planes.len() as u32 };
        (way, layout.numbers, 1 << layout.digits)
    }

    /// As [`Batch::add_logic`].
    fn add_walk(&mut self, tree: &Tree) -> (Way, Vec<u32>, usize) {
        let (order, position, _) = breadth_first(tree);
        let (start, splits) = (self.steps.len() as u32, order.len() as u32);
        for &at in &order {
            let split = &tree.splits[at];
            let Question::Number { source, threshold } = question(split) else { continue };
            let column = self.walked.iter().position(|s| *s == source).unwrap_or_else(|| {
                self.walked.push(source);
                self.walked.len() - 1
            });
            let next = [split.right, split.left].map(|child| if child < 0 { splits + !child as u32 } else { position[child as usize] });
            self.steps.push(Step { threshold: threshold.value(), column: column as u32, next });
        }
        let leaves = (0..tree.leaf_count() as u32).map(|leaf| splits + leaf);
        self.steps.extend(leaves.clone().map(|at| Step { threshold: 0.0, column: 0, next: [at; 2] }));
        (Way::Walk { steps: start..self.steps.len() as u32 }, leaves.collect(), 2 * order.len() + 1)
    }
}

/// Digits that a leaf's number may have where leaves are found by bit logic.
pub const LOGIC_DIGITS: usize = 32;

/// Bit logic costs each row as much as a tree has splits, walking as much as it is deep.
const WALKED_LEAVES: usize = 2048;

fn is_walked(tree: &Tree) -> bool {
    tree.leaf_count() > WALKED_LEAVES && !tree.splits.iter().any(|split| matches!(split.rule, Rule::InSet(_)))
}

/// As many trees from `start` on (at least one) as ask no more than [`CONDITIONS`] questions; their end, and the questions in order.
fn gather(trees: &[Tree], start: usize) -> (usize, Vec<Question<'_>>) {
    let mut known: HashMap<Question, ()> = HashMap::new();
    let mut end = start;
    for tree in &trees[start..] {
        let asking = if is_walked(tree) { &[] } else { tree.splits.as_slice() };
        let new: Vec<Question> = asking.iter().map(question).filter(|q| !known.contains_key(q)).collect();
        if end > start && known.len() + new.len() > CONDITIONS {
            break;
        }
        known.extend(new.into_iter().map(|q| (q, ())));
        end += 1;
    }
    let mut questions: Vec<Question> = known.into_keys().collect();
    questions.sort_unstable();
    (end, questions)
}
