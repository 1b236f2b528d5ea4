//! An [`Ensemble`] compiled for evaluation of many rows at once.
//!
//! A *slab* is `ROWS` rows; a `Lane` has one bit for each. Every distinct question that the splits ask
//! ("is column 3 <= 0.25, NaN to the left?") is one *condition*, answered once for all the trees of a
//! [`Batch`]. A tree is then bit logic on lanes: the rows that reach a node, split by its condition, reach
//! its children. The leaf that a row ends in is read off as a binary number, one lane (*plane*) for each
//! digit: a leaf's number is the XOR of a code over the *turns* on the way to it, where each node has one
//! child that is a turn and one that is not.

use std::collections::HashMap;
use std::ops::Range;

use crate::models::trees::code::{Node, NumberColumn, SetColumn, Source, Step, TreeCode, Way};
use crate::models::trees::ensemble::{Ensemble, Rule, Split, Tree};
use crate::models::trees::layout::{Layout, breadth_first};
use crate::models::trees::question::{Question, columns, question};

/// Conditions that are answered at a time: their lanes stay in the second-level cache.
const CONDITIONS: usize = 16_384;

/// Consecutive trees that share the answers to their conditions. Numeric columns' conditions come first, in
/// order, then those of sets.
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

impl<T: Copy> Batch<T> {
    /// Compiles all trees of a valid ensemble; `number` turns a leaf value into the type that sums are kept
    /// in.
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
        let spares = columns
            .iter()
            .zip(0..)
            .flat_map(|(column, spare)| std::iter::repeat_n(spare, column.search.thresholds.len()));
        let spares = spares.chain(std::iter::repeat(columns.len() as u32));
        let index: HashMap<&Question, u32> =
            questions.iter().zip(0u32..).zip(spares).map(|((q, at), spare)| (q, at + spare)).collect();
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
            let (way, numbers, count) = if is_walked(tree) {
                batch.add_walk(tree)
            } else {
                batch.add_logic(tree, |split| index[&question(split)])
            };
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
            self.turns.extend(
                layout.turns.iter().filter(|(_, code)| code >> plane & 1 == 1).map(|(slot, _)| *slot),
            );
            self.planes.push(start..self.turns.len() as u32);
        }
        self.slots = self.slots.max(layout.slot_count);
        let way = Way::Logic {
            nodes: nodes..self.nodes.len() as u32,
            inner: layout.inner as u32,
            planes: planes..self.planes.len() as u32,
        };
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
            let next = [split.right, split.left]
                .map(|child| if child < 0 { splits + !child as u32 } else { position[child as usize] });
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

/// As many trees from `start` on (at least one) as ask no more than [`CONDITIONS`] questions; their end, and
/// the questions in order.
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
