//! Trees as one `TreeEnsemble` node (ai.onnx.ml 5), in float64 throughout.

use crate::student::export::graph::{Graph, doubles, integer, integers, small};
use crate::student::saved::{SavedRule, SavedTree};

/// `nodes_modes`: x <= split, and x is a member of a set.
const AT_MOST: u8 = 0;
const MEMBER: u8 = 6;

/// The columns of the node's attributes.
#[derive(Default)]
struct Nodes {
    features: Vec<i64>,
    modes: Vec<u8>,
    splits: Vec<f64>,
    /// The sets of the member nodes in their order, a NaN after each.
    members: Vec<f64>,
    null_left: Vec<i64>,
    left: Vec<i64>,
    left_is_leaf: Vec<i64>,
    right: Vec<i64>,
    right_is_leaf: Vec<i64>,
    roots: Vec<i64>,
    leaf_outputs: Vec<i64>,
    leaves: Vec<f64>,
}

/// Sums of leaves [rows, outputs], float64.
pub fn sums(graph: &mut Graph, columns: &str, trees: &[SavedTree], outputs: usize) -> String {
    let mut nodes = Nodes::default();
    trees.iter().for_each(|tree| nodes.add(tree));
    if trees.is_empty() {
        nodes.leaf_alone(0.0, 0);
    }
    let mut attributes = vec![
        integer("aggregate_function", 1),
        integer("post_transform", 0),
        integer("n_targets", outputs as i64),
        integers("tree_roots", nodes.roots),
        integers("nodes_featureids", nodes.features),
        small("nodes_modes", nodes.modes),
        doubles("nodes_splits", &nodes.splits),
        integers("nodes_truenodeids", nodes.left),
        integers("nodes_trueleafs", nodes.left_is_leaf),
        integers("nodes_falsenodeids", nodes.right),
        integers("nodes_falseleafs", nodes.right_is_leaf),
        integers("nodes_missing_value_tracks_true", nodes.null_left),
        integers("leaf_targetids", nodes.leaf_outputs),
        doubles("leaf_weights", &nodes.leaves),
    ];
    if !nodes.members.is_empty() {
        attributes.push(doubles("membership_values", &nodes.members));
    }
    graph.ml_node("TreeEnsemble", &[columns], attributes)
}

impl Nodes {
    fn add(&mut self, tree: &SavedTree) {
        if tree.column.is_empty() {
            return self.leaf_alone(tree.leaf.first().copied().unwrap_or(0.0), tree.output);
        }
        let (first_node, first_leaf) = (self.features.len() as i64, self.leaves.len() as i64);
        self.roots.push(first_node);
        let place = |child: i32| {
            if child >= 0 { (first_node + i64::from(child), 0) } else { (first_leaf + i64::from(!child), 1) }
        };
        for i in 0..tree.column.len() {
            let (mode, split) = match &tree.rule[i] {
                SavedRule::AtMost(t) => (AT_MOST, *t),
                // nothing but null goes left: no number is that small
                SavedRule::Levels(levels) if levels.is_empty() => (AT_MOST, f64::MIN),
                SavedRule::Levels(levels) => {
                    self.members.extend(levels.iter().map(|at| f64::from(*at)));
                    self.members.push(f64::NAN);
                    (MEMBER, 0.0)
                }
            };
            let ((left, left_is_leaf), (right, right_is_leaf)) = (place(tree.left[i]), place(tree.right[i]));
            self.node(
                i64::from(tree.column[i]),
                mode,
                split,
                i64::from(tree.null_left[i]),
                [left, left_is_leaf, right, right_is_leaf],
            );
        }
        self.leaves.extend_from_slice(&tree.leaf);
        self.leaf_outputs.extend(tree.leaf.iter().map(|_| tree.output as i64));
    }

    /// A tree without splits: a node both of whose sides are the leaf, as the operator asks for.
    fn leaf_alone(&mut self, value: f64, output: usize) {
        let leaf = self.leaves.len() as i64;
        self.roots.push(self.features.len() as i64);
        self.node(0, AT_MOST, 0.0, 0, [leaf, 1, leaf, 1]);
        self.leaves.push(value);
        self.leaf_outputs.push(output as i64);
    }

    fn node(&mut self, feature: i64, mode: u8, split: f64, null_left: i64, children: [i64; 4]) {
        self.features.push(feature);
        self.modes.push(mode);
        self.splits.push(split);
        self.null_left.push(null_left);
        let [left, left_is_leaf, right, right_is_leaf] = children;
        self.left.push(left);
        self.left_is_leaf.push(left_is_leaf);
        self.right.push(right);
        self.right_is_leaf.push(right_is_leaf);
    }
}
