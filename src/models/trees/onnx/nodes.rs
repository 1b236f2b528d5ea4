//! The node of an ONNX graph that is a tree ensemble -> [`Ensemble`].
//!
//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor` list all nodes of all trees, leaves among them, and
//! the weights that leaves add to classes or targets; `TreeEnsemble` lists splits and leaves apart, and the
//! trees' roots. Both become `Nodes`.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::models::onnx_proto::NodeProto;
use crate::models::trees::ensemble::{Ensemble, Link, Missing, Rule, Split, Tree};
use crate::models::trees::onnx::attributes::{Attributes, refused};

/// A leaf has a value for every class, also where the file lists few: with more values than this for each
/// that is listed, a model is for a runtime.
const SPREAD: usize = 64;

/// The ensemble of a node over `features` columns (`wide`: of float64), or None where it does what the engine
/// does not.
pub(super) fn ensemble(node: &NodeProto, features: usize, wide: bool) -> Result<Option<Ensemble>> {
    let attributes = Attributes(node);
    let read = match node.op_type.as_str() {
        "TreeEnsembleClassifier" => classifier(&attributes, wide)?,
        "TreeEnsembleRegressor" => regressor(&attributes, wide)?,
        _ => trees(&attributes, wide)?,
    };
    let Some((nodes, Sums { outputs, base, average, link })) = read else { return Ok(None) };
    let trees = nodes.trees(outputs)?;
    let Some(trees) = trees.filter(|trees| !trees.is_empty()) else { return Ok(None) };
    let scale = if average { 1.0 / trees.len() as f64 } else { 1.0 };
    Ok(Some(Ensemble { features, outputs, trees, base, scale, sum_in_f32: !wide, link }))
}

/// What becomes of the leaves' weights.
struct Sums {
    outputs: usize,
    base: Vec<f64>,
    average: bool,
    link: Link,
}

fn classifier(node: &Attributes, wide: bool) -> Result<Option<(Nodes, Sums)>> {
    let classes = node.ints("classlabels_int64s").len().max(node.strings("classlabels_strings").len());
    let ids = node.ints("class_ids");
    let Some(weights) = node.numbers("class_weights") else { return Ok(None) };
    if classes < 2 || ids.is_empty() {
        return Ok(None);
    }
    // two classes of which one alone has weights: one sum, that of the second class
    let single = classes == 2 && ids.iter().all(|id| *id == ids[0]);
    let positive = weights.iter().all(|w| *w >= 0.0);
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
    let Some(base) = base(node, outputs) else { return Ok(None) };
    let zeros = vec![0; ids.len()];
    let lists = (node.ints("class_treeids"), node.ints("class_nodeids"), if single { &zeros } else { ids });
    let Some(nodes) = listed(node, lists, &weights, outputs, wide)? else { return Ok(None) };
    Ok(Some((nodes, Sums { outputs, base, average: false, link })))
}

fn regressor(node: &Attributes, wide: bool) -> Result<Option<(Nodes, Sums)>> {
    let outputs = usize::try_from(node.int("n_targets").unwrap_or(1)).unwrap_or(0);
    let post = node.find("post_transform").map_or(&b"NONE"[..], |a| &a.s);
    let aggregate = node.find("aggregate_function").map_or(&b"SUM"[..], |a| &a.s);
    let (Some(link), Some(weights)) = (link_of(post, outputs), node.numbers("target_weights")) else {
        return Ok(None);
    };
    if !matches!(aggregate, b"SUM" | b"AVERAGE") || outputs > weights.len() {
        return Ok(None);
    }
    let Some(base) = base(node, outputs) else { return Ok(None) };
    let lists = (node.ints("target_treeids"), node.ints("target_nodeids"), node.ints("target_ids"));
    let Some(nodes) = listed(node, lists, &weights, outputs, wide)? else { return Ok(None) };
    Ok(Some((nodes, Sums { outputs, base, average: aggregate == b"AVERAGE", link })))
}

/// `TreeEnsemble`, of version 5 of the operators of machine learning.
fn trees(node: &Attributes, wide: bool) -> Result<Option<(Nodes, Sums)>> {
    const AVERAGE: i64 = 0;
    const SUM: i64 = 1;
    let outputs = usize::try_from(node.int("n_targets").unwrap_or(1)).unwrap_or(0);
    // the numbers of the links are others in ONNX's text than in its runtime
    if node.int("post_transform").unwrap_or(0) != 0 {
        return Ok(None);
    }
    let aggregate = node.int("aggregate_function").unwrap_or(SUM);
    let tensors = (node.tensor("nodes_splits"), node.tensor("leaf_weights"), node.tensor("nodes_modes"));
    let (Some(splits), Some(leaves), Some(modes)) = tensors else {
        return Err(refused("a tree ensemble lacks its lists"));
    };
    let lists = (splits.floats(), leaves.floats(), modes.integers());
    let (Some(link), (Some(splits), Some(weights), Some(modes))) = (link_of(b"NONE", outputs), lists) else {
        return Ok(None);
    };
    if ![AVERAGE, SUM].contains(&aggregate) || outputs > weights.len() {
        return Ok(None);
    }
    let (features, missing) = (node.ints("nodes_featureids"), node.ints("nodes_missing_value_tracks_true"));
    let sides = [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")];
    let [yes, no] = sides.map(|(ids, are_leaves)| (node.ints(ids), node.ints(are_leaves)));
    let count = modes.len();
    let lengths = [splits.len(), features.len(), yes.0.len(), yes.1.len(), no.0.len(), no.1.len()];
    let targets = node.ints("leaf_targetids");
    if lengths.iter().any(|&l| l != count)
        || !(missing.is_empty() || missing.len() == count)
        || targets.len() != weights.len()
    {
        return Err(refused("the lists of the tree ensemble differ in length").value(count));
    }
    let child = |side: (&[i64], &[i64]), i: usize| -> Result<Child> {
        let (is_leaf, id) = (side.1[i] != 0, side.0[i]);
        let place = usize::try_from(id).ok().filter(|p| *p < if is_leaf { weights.len() } else { count });
        let place = place.ok_or_else(|| refused("a node's child is not there").value(id))?;
        Ok(if is_leaf { Child::Leaf(place) } else { Child::Inner(place) })
    };
    let mut inner = Vec::with_capacity(count);
    for i in 0..count {
        let Some(mode) = Mode::of_number(modes[i]) else { return Ok(None) };
        let Some(ask) = mode.ask(splits[i], wide) else { return Ok(None) };
        let node = Inner::new(
            features[i],
            ask,
            missing.get(i).is_some_and(|&m| m != 0),
            child(yes, i)?,
            child(no, i)?,
        )?;
        inner.push(Some(node));
    }
    let mut roots = Vec::new();
    for &root in node.ints("tree_roots") {
        let place = usize::try_from(root)
            .ok()
            .filter(|p| *p < count)
            .ok_or_else(|| refused("a tree's root is not there").value(root))?;
        roots.push(Child::Inner(place));
    }
    let mut adds = Vec::with_capacity(weights.len());
    for (leaf, (&target, &weight)) in targets.iter().zip(&weights).enumerate() {
        let target = usize::try_from(target).ok().filter(|t| *t < outputs);
        adds.push((
            leaf,
            target.ok_or_else(|| refused("a leaf is of a target that is not there").value(leaf))?,
            weight,
        ));
    }
    Ok(Some((
        Nodes { inner, roots, adds },
        Sums { outputs, base: vec![0.0; outputs], average: aggregate == AVERAGE, link },
    )))
}

fn link_of(post: &[u8], outputs: usize) -> Option<Link> {
    match post {
        b"NONE" if outputs > 0 => Some(Link::Identity),
        b"LOGISTIC" if outputs > 0 => Some(Link::Sigmoid { slope: 1.0 }),
        b"SOFTMAX" if outputs > 1 => Some(Link::Softmax),
        _ => None,
    }
}

fn base(node: &Attributes, outputs: usize) -> Option<Vec<f64>> {
    match node.numbers("base_values")? {
        values if values.is_empty() => Some(vec![0.0; outputs]),
        values => (values.len() == outputs).then_some(values),
    }
}

/// How a split compares, and whether it sends a value that passes to its other side: `x > t` is asked as `x
/// <= t`.
#[derive(Clone, Copy)]
enum Mode {
    AtMost { swapped: bool },
    Below { swapped: bool },
}

impl Mode {
    fn of_name(name: &[u8]) -> Option<Mode> {
        match name {
            b"BRANCH_LEQ" => Some(Mode::AtMost { swapped: false }),
            b"BRANCH_GT" => Some(Mode::AtMost { swapped: true }),
            b"BRANCH_LT" => Some(Mode::Below { swapped: false }),
            b"BRANCH_GTE" => Some(Mode::Below { swapped: true }),
            _ => None,
        }
    }

    fn of_number(number: i64) -> Option<Mode> {
        let names: [&[u8]; 4] = [b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT"];
        Mode::of_name(names.get(usize::try_from(number).ok()?)?)
    }

    /// The engine's question, and whether its sides are changed. None: a threshold that the type of the
    /// column does not hold.
    fn ask(self, threshold: f64, wide: bool) -> Option<(Rule, bool)> {
        let exact = wide || threshold.is_nan() || f64::from(threshold as f32) == threshold;
        match self {
            // below negative infinity there is nothing
            _ if !exact || threshold == f64::NEG_INFINITY => None,
            Mode::AtMost { swapped } => Some((Rule::LessOrEqual(threshold), swapped)),
            Mode::Below { swapped } if wide => Some((Rule::LessOrEqual(threshold.next_down()), swapped)),
            Mode::Below { swapped } => Some((Rule::Less(threshold as f32), swapped)),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Child {
    Inner(usize),
    Leaf(usize),
}

/// A split; its left is the yes of the comparison as the engine asks it.
struct Inner {
    split: Split,
    left: Child,
    right: Child,
}

impl Inner {
    fn new(
        feature: i64,
        (rule, swapped): (Rule, bool),
        missing_yes: bool,
        yes: Child,
        no: Child,
    ) -> Result<Inner> {
        let feature = u32::try_from(feature)
            .map_err(|_| refused("a split is on a feature that is not there").value(feature))?;
        let (left, right) = if swapped { (no, yes) } else { (yes, no) };
        let split = Split {
            feature,
            rule,
            missing: Missing::Nan,
            missing_left: missing_yes != swapped,
            left: 0,
            right: 0,
        };
        Ok(Inner { split, left, right })
    }
}

/// All nodes of all trees.
struct Nodes {
    /// None where a leaf stands.
    inner: Vec<Option<Inner>>,
    roots: Vec<Child>,
    /// Leaf, output, and what it adds; by leaf.
    adds: Vec<(usize, usize, f64)>,
}

/// The nodes of a classifier or regressor; `adds` are the tree, node and output of each weight. The first
/// node of a tree is its root.
fn listed(
    node: &Attributes,
    adds: (&[i64], &[i64], &[i64]),
    weights: &[f64],
    outputs: usize,
    wide: bool,
) -> Result<Option<Nodes>> {
    let (trees, ids, features) =
        (node.ints("nodes_treeids"), node.ints("nodes_nodeids"), node.ints("nodes_featureids"));
    let (modes, yes, no) =
        (node.strings("nodes_modes"), node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids"));
    let missing = node.ints("nodes_missing_value_tracks_true");
    let Some(values) = node.numbers("nodes_values") else { return Ok(None) };
    let places: HashMap<(i64, i64), usize> =
        trees.iter().copied().zip(ids.iter().copied()).zip(0..).collect();
    let count = trees.len();
    let lengths = [ids.len(), features.len(), modes.len(), values.len(), yes.len(), no.len(), places.len()];
    if count == 0 || lengths.iter().any(|&l| l != count) || !(missing.is_empty() || missing.len() == count) {
        return Err(refused(
            "the lists of nodes of the tree ensemble are empty, differ in length or name a node twice",
        )
        .value(count));
    }
    let is_leaf = |place: usize| modes[place] == b"LEAF";
    let at = |place: usize| if is_leaf(place) { Child::Leaf(place) } else { Child::Inner(place) };
    let mut inner = Vec::with_capacity(count);
    for place in 0..count {
        if is_leaf(place) {
            inner.push(None);
            continue;
        }
        let Some(mode) = Mode::of_name(&modes[place]) else { return Ok(None) };
        let Some(ask) = mode.ask(values[place], wide) else { return Ok(None) };
        let child = |id: i64| -> Result<Child> {
            let place = places
                .get(&(trees[place], id))
                .ok_or_else(|| refused("a node's child is not there").value(id))?;
            Ok(at(*place))
        };
        let missing_yes = missing.get(place).is_some_and(|&m| m != 0);
        inner.push(Some(Inner::new(
            features[place],
            ask,
            missing_yes,
            child(yes[place])?,
            child(no[place])?,
        )?));
    }
    if [adds.0.len(), adds.1.len(), adds.2.len()].iter().any(|&l| l != weights.len()) {
        return Err(
            refused("the lists of weights of the tree ensemble differ in length").value(weights.len())
        );
    }
    let mut sorted = Vec::with_capacity(weights.len());
    for (i, &weight) in weights.iter().enumerate() {
        let place = places.get(&(adds.0[i], adds.1[i]));
        let output = usize::try_from(adds.2[i]).ok().filter(|o| *o < outputs);
        let (Some(&place), Some(output)) = (place, output) else {
            return Err(
                refused("a weight of the tree ensemble is of a node or class that is not there").value(i)
            );
        };
        sorted.push((place, output, weight));
    }
    sorted.sort_by_key(|(place, ..)| *place);
    let starts: Vec<usize> = (0..count).filter(|&i| i == 0 || trees[i] != trees[i - 1]).collect();
    let names: HashSet<i64> = starts.iter().map(|&i| trees[i]).collect();
    let nodes = Nodes { inner, roots: starts.iter().map(|&i| at(i)).collect(), adds: sorted };
    // another root, or a tree in several places: who knows what that means
    let is_plain = names.len() == starts.len() && nodes.reached()? == count;
    Ok(is_plain.then_some(nodes))
}

impl Nodes {
    /// How many of the nodes, leaves among them, hang below the roots; each must do so once.
    fn reached(&self) -> Result<usize> {
        let mut seen = vec![false; self.inner.len()];
        let mut open = self.roots.clone();
        while let Some(Child::Inner(place) | Child::Leaf(place)) = open.pop() {
            if std::mem::replace(&mut seen[place], true) {
                return Err(refused("a node has two parents").value(place));
            }
            open.extend(self.inner[place].iter().flat_map(|inner| [inner.left, inner.right]));
        }
        Ok(seen.iter().filter(|seen| **seen).count())
    }

    /// The trees in the order of their roots; None where their leaves spread over too many outputs.
    fn trees(&self, outputs: usize) -> Result<Option<Vec<Tree>>> {
        let mut seen = vec![false; self.inner.len()];
        let mut values_left = SPREAD * (self.adds.len() + 1024);
        let mut trees = Vec::with_capacity(self.roots.len());
        for root in &self.roots {
            let Some(tree) = self.tree(*root, outputs, &mut seen, &mut values_left)? else { return Ok(None) };
            trees.push(tree);
        }
        Ok(Some(trees))
    }

    fn tree(
        &self,
        root: Child,
        outputs: usize,
        seen: &mut [bool],
        values_left: &mut usize,
    ) -> Result<Option<Tree>> {
        let (mut splits, mut leaves): (Vec<Split>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut open: Vec<(Child, Option<(usize, bool)>)> = vec![(root, None)];
        while let Some((child, parent)) = open.pop() {
            let here = match child {
                Child::Leaf(_) => !(leaves.len() as i32),
                Child::Inner(_) => splits.len() as i32,
            };
            match parent {
                Some((above, true)) => splits[above].left = here,
                Some((above, false)) => splits[above].right = here,
                None => {}
            }
            match child {
                Child::Leaf(leaf) => leaves.push(leaf),
                Child::Inner(place) => {
                    let Some(inner) = &self.inner[place] else {
                        return Err(refused("a leaf stands where a split should").value(place));
                    };
                    if std::mem::replace(&mut seen[place], true) {
                        return Err(refused("a node has two parents").value(place));
                    }
                    let at = splits.len();
                    splits.push(inner.split.clone());
                    open.extend([(inner.right, Some((at, false))), (inner.left, Some((at, true)))]);
                }
            }
        }
        Ok(self.with_leaves(splits, &leaves, outputs, values_left))
    }

    /// The tree with one value for a leaf where its leaves add to one output alone, else with one for each
    /// output.
    fn with_leaves(
        &self,
        splits: Vec<Split>,
        leaves: &[usize],
        outputs: usize,
        values_left: &mut usize,
    ) -> Option<Tree> {
        let adds = |leaf: usize| {
            let start = self.adds.partition_point(|(l, ..)| *l < leaf);
            self.adds[start..]
                .iter()
                .take_while(move |(l, ..)| *l == leaf)
                .map(|&(_, output, weight)| (output, weight))
        };
        let mut used = leaves
            .iter()
            .flat_map(|&leaf| adds(leaf))
            .filter(|(_, weight)| *weight != 0.0)
            .map(|(output, _)| output);
        let first = used.next().unwrap_or(0);
        let (width, output) = if used.all(|output| output == first) { (1, first) } else { (outputs, 0) };
        *values_left = values_left.checked_sub(leaves.len().checked_mul(width)?)?;
        let mut values = vec![0.0; leaves.len() * width];
        for (place, &leaf) in leaves.iter().enumerate() {
            for (output, weight) in adds(leaf).filter(|(_, weight)| *weight != 0.0) {
                values[place * width + if width == 1 { 0 } else { output }] += weight;
            }
        }
        Some(Tree { splits, leaves: values, width, output })
    }
}
