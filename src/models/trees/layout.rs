//! Where the parts of a tree stand when its leaves are found by bit logic (see `program.rs`).

use crate::models::trees::ensemble::{Split, Tree};

/// How a tree's nodes, slots and leaf numbers are laid out.
pub struct Layout {
    /// Splits, each after its parent; a split's position is its slot.
    pub order: Vec<usize>,
    /// Splits with a split below them; they come first.
    pub inner: usize,
    /// Slots of each split's children.
    pub slots: Vec<[u32; 2]>,
    /// Slot and code of each split's turn.
    pub turns: Vec<(u32, u32)>,
    /// Number of each leaf: the XOR of the codes of the turns on the way to it.
    pub numbers: Vec<u32>,
    /// Binary digits of the leaf numbers.
    pub digits: u32,
    pub slot_count: usize,
}

impl Layout {
    /// Lays out a valid tree.
    pub fn new(tree: &Tree) -> Layout {
        let (order, position, inner) = breadth_first(tree);
        let numbers = left_to_right(tree, &order);
        let count = order.len();
        // where a side's rows are not needed, they go to the last slot
        let mut slots = vec![[2 * count as u32; 2]; count];
        let (mut turns, mut next) = (vec![(0, 0); count], count as u32);
        // the leaf that is reached from a split without taking a turn
        let mut home = vec![0; count];
        for (at, &split) in order.iter().enumerate().rev() {
            let children = [tree.splits[split].left, tree.splits[split].right];
            // a turn into a split costs nothing: its slot is there already
            let turn = usize::from(children[1] >= 0 || children[0] < 0);
            for side in [0, 1] {
                if let Ok(child) = usize::try_from(children[side]) {
                    slots[at][side] = position[child];
                } else if side == turn {
                    slots[at][side] = next;
                    next += 1;
                }
            }
            let [stay, go] = [children[1 - turn], children[turn]]
                .map(|c| if c < 0 { numbers[!c as usize] } else { home[position[c as usize] as usize] });
            home[at] = stay;
            turns[at] = (slots[at][turn], stay ^ go);
        }
        // without any turn a row is at the root's home, which the XOR of no codes must name
        let origin = home.first().copied().unwrap_or(0);
        let numbers = numbers.into_iter().map(|n| n ^ origin).collect();
        let digits = usize::BITS - count.leading_zeros();
        Layout { order, inner, slots, turns, numbers, digits, slot_count: 2 * count + 1 }
    }
}

/// The splits, each after its parent and those with two leaves last; where in that order each one is; and how
/// many come before those.
pub fn breadth_first(tree: &Tree) -> (Vec<usize>, Vec<u32>, usize) {
    let mut order = if tree.splits.is_empty() { Vec::new() } else { vec![0] };
    let mut at = 0;
    while at < order.len() {
        let split: &Split = &tree.splits[order[at]];
        order.extend([split.left, split.right].into_iter().filter_map(|child| usize::try_from(child).ok()));
        at += 1;
    }
    let is_last = |&split: &usize| tree.splits[split].left < 0 && tree.splits[split].right < 0;
    let (last, mut order): (Vec<usize>, Vec<usize>) = order.into_iter().partition(is_last);
    let inner = order.len();
    order.extend(last);
    let mut position = vec![0; order.len()];
    order.iter().zip(0..).for_each(|(&split, at)| position[split] = at);
    (order, position, inner)
}

/// The leaves' numbers from left to right.
fn left_to_right(tree: &Tree, order: &[usize]) -> Vec<u32> {
    let mut sizes = vec![0u32; tree.splits.len()];
    let size = |sizes: &[u32], child: i32| if child < 0 { 1 } else { sizes[child as usize] };
    for &split in order.iter().rev() {
        sizes[split] = size(&sizes, tree.splits[split].left) + size(&sizes, tree.splits[split].right);
    }
    let (mut first, mut numbers) = (vec![0u32; tree.splits.len()], vec![0; tree.leaf_count()]);
    for &at in order {
        let split = &tree.splits[at];
        for (child, number) in [(split.left, first[at]), (split.right, first[at] + size(&sizes, split.left))]
        {
            if child < 0 { numbers[!child as usize] = number } else { first[child as usize] = number }
        }
    }
    numbers
}
