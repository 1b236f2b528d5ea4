//! The node of an ONNX graph that is a tree ensemble -> [`Ensemble`]: lists over all nodes of all trees, and lists of the classes' weights in leaves.

use std::collections::{HashMap, HashSet};

use super::ensemble::{Ensemble, Link, Missing, Rule, Split, Tree};
use super::onnx::{Attributes, refused};
use crate::error::Result;

/// A leaf has a value for every class, also where the file lists few: more of them than this are for a runtime.
const LEAF_VALUES: usize = 1 << 26;

/// The ensemble of a `TreeEnsembleClassifier`, or None where it does what the engine does not.
pub(super) fn ensemble(node: &Attributes, features: usize) -> Result<Option<Ensemble>> {
    let doubles = ["nodes_values_as_tensor", "class_weights_as_tensor", "base_values_as_tensor"].iter().any(|name| node.has(name));
    let classes = node.ints("classlabels_int64s").len().max(node.strings("classlabels_strings").len());
    let ids = node.ints("class_ids");
    if doubles || classes < 2 || ids.is_empty() {
        return Ok(None);
    }
    // two classes of which one alone has weights: one sum, that of the second class
    let single = classes == 2 && ids.iter().all(|id| *id == ids[0]);
    let positive = node.floats("class_weights").iter().all(|w| *w >= 0.0);
    let post = node.find("post_transform").map_or(&b"NONE"[..], |a| &a.s);
    let link = match (post, single) {
        (b"NONE", true) if positive => Link::Identity,
        (b"NONE", false) => Link::Identity,
        (b"LOGISTIC", true) if !positive => Link::Sigmoid { slope: 1.0 },
        (b"LOGISTIC", false) => Link::Sigmoid { slope: 1.0 },
        (b"SOFTMAX", false) => Link::Softmax,
        _ => return Ok(None),
    };
    let outputs = if single { 1 } else { classes };
    let base = match node.floats("base_values") {
        [] => vec![0.0; outputs],
        values if values.len() == outputs => values.iter().map(|&v| f64::from(v)).collect(),
        _ => return Ok(None),
    };
    if node.ints("nodes_treeids").len().saturating_mul(outputs) > LEAF_VALUES {
        return Ok(None);
    }
    let Some(trees) = Nodes::read(node)?.trees(node, outputs, single)? else { return Ok(None) };
    Ok(Some(Ensemble { features, outputs, trees, base, scale: 1.0, sum_in_f32: true, link }))
}

/// The lists that describe all nodes of all trees, of equal length.
struct Nodes<'a> {
    trees: &'a [i64],
    ids: &'a [i64],
    features: &'a [i64],
    modes: &'a [Vec<u8>],
    values: &'a [f32],
    yes: &'a [i64],
    no: &'a [i64],
    missing_yes: &'a [i64],
    places: HashMap<(i64, i64), usize>,
}

impl<'a> Nodes<'a> {
    fn read(node: &Attributes<'a>) -> Result<Nodes<'a>> {
        let nodes = Nodes {
            trees: node.ints("nodes_treeids"),
            ids: node.ints("nodes_nodeids"),
            features: node.ints("nodes_featureids"),
            modes: node.strings("nodes_modes"),
            values: node.floats("nodes_values"),
            yes: node.ints("nodes_truenodeids"),
            no: node.ints("nodes_falsenodeids"),
            missing_yes: node.ints("nodes_missing_value_tracks_true"),
            places: node.ints("nodes_treeids").iter().copied().zip(node.ints("nodes_nodeids").iter().copied()).zip(0..).collect(),
        };
        let count = nodes.trees.len();
        let lengths = [
            nodes.ids.len(),
            nodes.features.len(),
            nodes.modes.len(),
            nodes.values.len(),
            nodes.yes.len(),
            nodes.no.len(),
            nodes.places.len(),
        ];
        if count == 0 || lengths.iter().any(|&l| l != count) || !(nodes.missing_yes.is_empty() || nodes.missing_yes.len() == count) {
            return Err(refused("the lists of nodes of the tree ensemble are empty, differ in length or name a node twice").value(count));
        }
        Ok(nodes)
    }

    /// The trees in the order of their first nodes, which are their roots.
    fn trees(&self, node: &Attributes, outputs: usize, single: bool) -> Result<Option<Vec<Tree>>> {
        let weights = self.weights(node, outputs, single)?;
        let (mut trees, mut root) = (Vec::new(), 0);
        for together in self.trees.chunk_by(|a, b| a == b) {
            let Some(tree) = self.tree(root, &weights, outputs)? else { return Ok(None) };
            // another root, or a tree in several places: who knows what that means
            if tree.splits.len() + tree.leaf_count() != together.len() {
                return Ok(None);
            }
            trees.push(tree.on_one_output(outputs));
            root += together.len();
        }
        Ok(Some(trees))
    }

    /// For each leaf node the classes and weights that it adds.
    fn weights(&self, node: &Attributes, outputs: usize, single: bool) -> Result<HashMap<usize, Vec<(usize, f64)>>> {
        let (trees, ids, classes, values) =
            (node.ints("class_treeids"), node.ints("class_nodeids"), node.ints("class_ids"), node.floats("class_weights"));
        if [trees.len(), ids.len(), values.len()].iter().any(|&l| l != classes.len()) {
            return Err(refused("the lists of weights of the tree ensemble differ in length").value(classes.len()));
        }
        let mut weights: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
        for i in 0..classes.len() {
            let place = self.places.get(&(trees[i], ids[i]));
            let class = usize::try_from(if single { 0 } else { classes[i] }).ok().filter(|c| *c < outputs);
            let (Some(&place), Some(class)) = (place, class) else {
                return Err(refused("a weight of the tree ensemble is of a node or class that is not there").value(i));
            };
            weights.entry(place).or_default().push((class, f64::from(values[i])));
        }
        Ok(weights)
    }

    /// The tree below `root`; None where it has a comparison that the engine does not know.
    fn tree(&self, root: usize, weights: &HashMap<usize, Vec<(usize, f64)>>, outputs: usize) -> Result<Option<Tree>> {
        let mut tree = Tree { splits: Vec::new(), leaves: Vec::new(), width: outputs, output: 0 };
        let mut seen = HashSet::from([root]);
        let mut open: Vec<(usize, Option<(usize, bool)>)> = vec![(root, None)];
        while let Some((node, parent)) = open.pop() {
            let is_leaf = self.modes[node] == b"LEAF";
            let here = if is_leaf { !((tree.leaves.len() / outputs) as i32) } else { tree.splits.len() as i32 };
            match parent {
                Some((above, true)) => tree.splits[above].left = here,
                Some((above, false)) => tree.splits[above].right = here,
                None => {}
            }
            if is_leaf {
                let start = tree.leaves.len();
                tree.leaves.resize(start + outputs, 0.0);
                weights.get(&node).into_iter().flatten().for_each(|(class, weight)| tree.leaves[start + class] += weight);
                continue;
            }
            let Some((split, swapped)) = self.split(node)? else { return Ok(None) };
            let at = tree.splits.len();
            tree.splits.push(split);
            for (child, is_yes) in [(self.no[node], false), (self.yes[node], true)] {
                let place =
                    self.places.get(&(self.trees[root], child)).ok_or_else(|| refused("a node's child is not there").value(child))?;
                if !seen.insert(*place) {
                    return Err(refused("a node has two parents").value(child));
                }
                open.push((*place, Some((at, is_yes != swapped))));
            }
        }
        Ok(Some(tree))
    }

    /// The split of a node, and whether its sides are changed: `x > t` is asked as `x <= t`.
    fn split(&self, node: usize) -> Result<Option<(Split, bool)>> {
        let threshold = self.values[node];
        let (rule, swapped) = match self.modes[node].as_slice() {
            b"BRANCH_LEQ" => (Rule::LessOrEqual(f64::from(threshold)), false),
            b"BRANCH_LT" => (Rule::Less(threshold), false),
            b"BRANCH_GT" => (Rule::LessOrEqual(f64::from(threshold)), true),
            b"BRANCH_GTE" => (Rule::Less(threshold), true),
            _ => return Ok(None),
        };
        let feature = u32::try_from(self.features[node])
            .map_err(|_| refused("a split is on a feature that is not there").value(self.features[node]))?;
        let missing_yes = self.missing_yes.get(node).is_some_and(|&m| m != 0);
        // the engine's left is the yes of the comparison as it is asked
        let split = Split { feature, rule, missing: Missing::Nan, missing_left: missing_yes != swapped, left: 0, right: 0 };
        Ok(Some((split, swapped)))
    }
}

impl Tree {
    /// The same tree with one value for a leaf, where all values but those of one output are 0.
    fn on_one_output(self, outputs: usize) -> Tree {
        let is_used = |k: &usize| self.leaves.iter().skip(*k).step_by(outputs).any(|v| *v != 0.0);
        match (0..outputs).filter(is_used).collect::<Vec<usize>>().as_slice() {
            [output] => {
                let leaves = self.leaves.iter().copied().skip(*output).step_by(outputs).collect();
                Tree { leaves, width: 1, output: *output, ..self }
            }
            _ => self,
        }
    }
}
