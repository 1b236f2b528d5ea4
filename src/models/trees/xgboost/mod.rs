//! XGBoost's JSON and UBJSON model files -> [`Ensemble`].
//!
//! | booster | objective | link |
//! |---|---|---|
//! | gbtree, dart, gblinear | `binary:logistic`, `reg:logistic` | sigmoid |
//! | gbtree, dart, gblinear | `multi:softprob`, `multi:softmax` | softmax |
//! | vector leaves, other objectives | | refused by name |
//!
//! Leaves are added in float32, tree by tree, on top of the base score, as XGBoost does. Rounds behind early
//! stopping's best iteration count as in the library: not where the scikit-learn wrapper saved the model, whose
//! `predict_proba` leaves them out, but all where `xgb.train` did.

mod file;
mod said;

use std::collections::{BTreeSet, HashMap};

use crate::error::Result;
use crate::models::linear::Linear;
use crate::models::said::Said;
use crate::models::trees::ensemble::{
    CATEGORY_LIMIT, CategorySet, Ensemble, Link, Missing, Rule, Split, Tree,
};
use crate::models::trees::ubjson;
use crate::models::trees::xgboost::file::{
    Boosted, Booster, File, Learner, Nodes, number, refused, unreadable,
};
use crate::models::trees::xgboost::said::{observe, said};
use crate::models::{Read, Scorer, Told};

/// Reads a model of trees; see [`read`].
pub fn parse(bytes: &[u8]) -> Result<Ensemble> {
    match read(bytes, &Told::default())?.scorer {
        Scorer::Trees(model) => Ok(model),
        _ => Err(refused("the model's booster is not made of trees").value("gblinear")),
    }
}

/// Reads a model that `save_model` wrote as JSON or UBJSON (told apart by the bytes), of XGBoost 1 to 3. What
/// cannot be scored exactly is refused; a damaged file is refused in time and memory proportional to its size.
pub fn read(bytes: &[u8], told: &Told) -> Result<Read> {
    // in JSON an object starts with a quoted name, in UBJSON with the name's length
    let opening = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).take(2).collect::<Vec<_>>();
    let file: File = match opening.as_slice() {
        b"{\"" => serde_json::from_slice(bytes).map_err(|e| unreadable("JSON", &e))?,
        [b'{', b'L' | b'l' | b'I' | b'i' | b'U' | b'#' | b'$'] => {
            ubjson::from_slice(bytes).map_err(|e| unreadable("UBJSON", &e))?
        }
        _ => {
            return Err(refused("this is neither XGBoost's JSON nor its UBJSON")
                .hint("save it with Booster.save_model(\"model.json\")"));
        }
    };
    let learner = file.learner;
    let (link, outputs) = link(&learner)?;
    let parameters = &learner.learner_model_param;
    let features = number(&parameters.num_feature, "num_feature")?;
    let base = base(&parameters.base_score, outputs, link)?;
    let mut said = said(&learner, features);
    if learner.gradient_booster.name == "gblinear" {
        let weights = learner.gradient_booster.model.map(|m| m.weights).unwrap_or_default();
        let model = Linear { features, outputs, weights, base, link };
        model.validate()?;
        return Ok(Read { scorer: Scorer::Linear(model), said });
    }
    let (mut boosted, weights) = trees_of(learner.gradient_booster)?;
    if boosted.trees.len() != boosted.tree_info.len()
        || weights.as_ref().is_some_and(|w| w.len() != boosted.trees.len())
    {
        return Err(refused("the model's lists of trees differ in length").value(boosted.trees.len()));
    }
    if boosted.trees.is_empty() || !boosted.trees.len().is_multiple_of(outputs) {
        return Err(refused("the number of trees is not that of its classes times its iterations")
            .value(boosted.trees.len()));
    }
    let count = trees_that_count(&boosted, outputs, &learner.attributes, told, &mut said)?;
    boosted.trees.truncate(count);
    let mut trees = Vec::with_capacity(count);
    for (index, (nodes, output)) in boosted.trees.iter().zip(&boosted.tree_info).enumerate() {
        let weight = weights.as_ref().map_or(1.0, |w| w[index]);
        trees.push(nodes.read(*output, weight).map_err(|e| e.with("tree", index.to_string()))?);
    }
    let model = Ensemble { features, outputs, trees, base, scale: 1.0, sum_in_f32: true, link };
    model.validate()?;
    if let Some(categories) = &boosted.cats {
        categories.name(&mut said)?;
    }
    observe(&model, &mut said);
    Ok(Read { scorer: Scorer::Trees(model), said })
}

/// Trees that the library's own `predict` takes.
fn trees_that_count(
    boosted: &Boosted,
    outputs: usize,
    attributes: &HashMap<String, String>,
    told: &Told,
    said: &mut Said,
) -> Result<usize> {
    let all = boosted.trees.len();
    let parallel =
        boosted.parameters.as_ref().and_then(|p| p.num_parallel_tree.parse().ok()).unwrap_or(1usize);
    let per_round = parallel.max(1).saturating_mul(outputs);
    let bounds: Vec<usize> = match boosted.iteration_indptr.as_slice() {
        [] => (0..=all / per_round).map(|round| round * per_round).collect(),
        given => given.to_vec(),
    };
    let rounds = bounds.len() - 1;
    if bounds.first() != Some(&0) || bounds.last() != Some(&all) || !bounds.is_sorted() {
        return Err(refused("the rounds of the model do not hold all its trees").value(all));
    }
    let best = attributes.get("best_iteration").and_then(|text| text.parse::<usize>().ok());
    let best = best.map(|last| last.saturating_add(1));
    let (wanted, by, key) = match (told.rounds, best) {
        (Some(own), _) => (own, "as teacher.toml says", "model.rounds"),
        (None, Some(best)) if attributes.contains_key("scikit_learn") => {
            (best, "those of best_iteration, as predict_proba takes them", "best_iteration")
        }
        (None, Some(best)) if best < rounds => {
            said.notes.push(format!(
                "all {rounds} rounds count, as Booster.predict takes them; best_iteration stands in the file: \
                 rounds = {best} under [model] in teacher.toml leaves out those behind it"
            ));
            return Ok(all);
        }
        _ => return Ok(all),
    };
    match bounds.get(wanted).filter(|_| wanted > 0) {
        Some(count) => {
            if wanted < rounds || told.rounds.is_some() {
                said.notes.push(format!("the first {wanted} of {rounds} rounds count, {by}"));
            }
            Ok(*count)
        }
        None => Err(refused("the model has not as many rounds as are said to count")
            .with("key", key)
            .value(wanted)
            .with("the file says", format!("{rounds} rounds"))),
    }
}

/// The link and the number of sums that the objective and class count mean.
fn link(learner: &Learner) -> Result<(Link, usize)> {
    let classes = number(&learner.learner_model_param.num_class, "num_class")?;
    let targets =
        learner.learner_model_param.num_target.as_deref().map_or(Ok(1), |text| number(text, "num_target"))?;
    if targets > 1 {
        return Err(refused("the model has several targets, which are not read").value(targets));
    }
    match learner.objective.name.as_str() {
        "binary:logistic" | "reg:logistic" if classes <= 1 => Ok((Link::Sigmoid { slope: 1.0 }, 1)),
        "multi:softprob" | "multi:softmax" if classes >= 2 => Ok((Link::Softmax, classes)),
        "binary:logistic" | "reg:logistic" | "multi:softprob" | "multi:softmax" => {
            Err(refused("`num_class` does not fit the objective").value(classes))
        }
        name => Err(refused("the model's objective does not give class probabilities")
            .value(name)
            .hint("objectives read: binary:logistic, reg:logistic, multi:softprob, multi:softmax")),
    }
}

/// The trees of a booster, and dart's weight for each.
fn trees_of(booster: Booster) -> Result<(Boosted, Option<Vec<f32>>)> {
    let (name, missing) = (booster.name.clone(), || refused("the model has no trees"));
    match name.as_str() {
        "gbtree" => Ok((booster.model.ok_or_else(missing)?, None)),
        "dart" => {
            let inner = booster.gbtree.ok_or_else(missing)?;
            Ok((inner.model.ok_or_else(missing)?, Some(booster.weight_drop.ok_or_else(missing)?)))
        }
        _ => Err(refused("the model's booster is not made of trees")
            .value(name)
            .hint("boosters read: gbtree, dart, gblinear")),
    }
}

/// The starting sums: `base_score` is one number (before version 3.1), or a list in brackets of one for all
/// outputs or one for each; with a sigmoid it is a probability.
fn base(text: &str, outputs: usize, link: Link) -> Result<Vec<f64>> {
    let bad = || {
        refused("`base_score` is not a finite number, or one for each class")
            .value(text.chars().take(60).collect::<String>())
    };
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let scores = inner
        .split(',')
        .map(|word| word.trim().parse::<f32>().map_err(|_| bad()))
        .collect::<Result<Vec<f32>>>()?;
    let sums: Vec<f64> = match link {
        Link::Sigmoid { .. } => scores.iter().map(|&p| f64::from(-(1.0 / p - 1.0).ln())).collect(),
        _ => scores.iter().map(|&s| f64::from(s)).collect(),
    };
    if sums.iter().any(|s| !s.is_finite()) {
        return Err(bad());
    }
    match sums.as_slice() {
        [one] => Ok(vec![*one; outputs]),
        _ if sums.len() == outputs => Ok(sums),
        _ => Err(bad()),
    }
}

impl Nodes {
    /// The tree below node 0; nodes that pruning has cut off stay in the file and are passed over.
    fn read(&self, output: usize, weight: f32) -> Result<Tree> {
        if self.tree_param.size_leaf_vector.as_deref().is_some_and(|size| !matches!(size, "" | "0" | "1")) {
            return Err(refused(
                "the model has vector leaves (multi_strategy=multi_output_tree), which are not read",
            ));
        }
        let count = self.left_children.len();
        let lengths = [
            self.right_children.len(),
            self.split_indices.len(),
            self.split_conditions.len(),
            self.default_left.len(),
        ];
        if count == 0
            || lengths.iter().any(|&l| l != count)
            || !(self.split_type.is_empty() || self.split_type.len() == count)
        {
            return Err(refused("a tree's lists of nodes are empty or differ in length").value(count));
        }
        let sets = self.sets()?;
        let mut tree = Tree { splits: Vec::new(), leaves: Vec::new(), width: 1, output };
        let mut seen = vec![false; count];
        let mut open = vec![(0usize, None)];
        while let Some((node, parent)) = open.pop() {
            if node >= count || std::mem::replace(&mut seen[node], true) {
                return Err(refused("a node's child is out of range or has two parents").value(node));
            }
            let is_leaf = self.left_children[node] == -1;
            let here = if is_leaf { !(tree.leaves.len() as i32) } else { tree.splits.len() as i32 };
            match parent {
                Some((above, true)) => tree.splits[above as usize].left = here,
                Some((above, false)) => tree.splits[above as usize].right = here,
                None => {}
            }
            if is_leaf {
                tree.leaves.push(f64::from(self.split_conditions[node] * weight));
                continue;
            }
            let (split, swapped) = self.split(node, &sets)?;
            tree.splits.push(split);
            for (child, is_left) in [(self.right_children[node], false), (self.left_children[node], true)] {
                let child =
                    usize::try_from(child).map_err(|_| refused("a node has one child").value(node))?;
                open.push((child, Some((here, is_left != swapped))));
            }
        }
        Ok(tree)
    }

    /// The split at a node, and whether its children change sides: at a categorical split the set goes right.
    fn split(&self, node: usize, sets: &[Option<CategorySet>]) -> Result<(Split, bool)> {
        let default_left = self.default_left[node].is_set();
        let (rule, swapped) = match self.split_type.get(node).copied().unwrap_or(0) {
            0 => (Rule::Less(self.split_conditions[node]), false),
            1 => {
                let set = sets[node]
                    .clone()
                    .ok_or_else(|| refused("a categorical split has no categories").value(node))?;
                (Rule::InSet(set), true)
            }
            kind => return Err(refused("a split's type is unknown").value(kind)),
        };
        let split = Split {
            feature: self.split_indices[node],
            rule,
            missing: Missing::Nan,
            missing_left: default_left != swapped,
            left: 0,
            right: 0,
        };
        Ok((split, swapped))
    }

    fn sets(&self) -> Result<Vec<Option<CategorySet>>> {
        let count = self.categories_nodes.len();
        if self.categories_segments.len() != count || self.categories_sizes.len() != count {
            return Err(refused("a tree's lists of categories differ in length"));
        }
        let mut sets = vec![None; self.left_children.len()];
        let mut unused = self.categories.len();
        for i in 0..count {
            let (node, start, size) =
                (self.categories_nodes[i], self.categories_segments[i], self.categories_sizes[i]);
            let range = start..start.saturating_add(size);
            // segments never overlap, so together they are no longer than the list
            let fits = self.categories.get(range).filter(|_| size <= unused && node < sets.len());
            let found = fits.ok_or_else(|| refused("a tree's categories are out of range").value(node))?;
            unused -= size;
            if found.iter().any(|&c| c >= CATEGORY_LIMIT) {
                return Err(
                    refused("a category is 2^24 or more, which float32 values cannot tell apart").value(node)
                );
            }
            let categories = found.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect();
            sets[node] = Some(CategorySet { categories, cut_below_zero: false });
        }
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"{"learner":{"learner_model_param":{"base_score":"[5E-1]","num_class":"0","num_feature":"2","num_target":"1"},
        "objective":{"name":"binary:logistic"},"gradient_booster":{"name":"gbtree","model":{"tree_info":[0],"trees":[{
        "left_children":[1,-1,3,-1,-1],"right_children":[2,-1,4,-1,-1],"split_indices":[0,0,1,0,0],"split_conditions":[0.5,1.0,0.0,2.0,3.0],
        "default_left":[1,0,0,0,0],"split_type":[0,0,1,0,0],"categories":[1,3],"categories_nodes":[2],"categories_segments":[0],
        "categories_sizes":[2],"tree_param":{"size_leaf_vector":"1"}}]}}},"version":[3,2,0]}"#;

    fn error(from: &str, to: &str) -> String {
        assert!(MODEL.contains(from), "{from}");
        parse(MODEL.replace(from, to).as_bytes()).expect_err(to).to_string()
    }

    #[test]
    fn a_model_is_read() {
        let model = parse(MODEL.as_bytes()).unwrap();
        assert_eq!((model.features, model.outputs, model.base[0]), (2, 1, 0.0));
        let tree = &model.trees[0];
        let leaf = |a: f64, b: f64| tree.leaves[tree.leaf(|f| [a, b][f])];
        assert_eq!(
            [
                leaf(0.4, 0.0),
                leaf(f64::NAN, 0.0),
                leaf(0.5, 2.0),
                leaf(0.5, 3.7),
                leaf(0.5, f64::NAN),
                leaf(0.5, -0.5)
            ],
            [1.0, 1.0, 2.0, 3.0, 3.0, 2.0]
        );
    }

    #[test]
    fn what_cannot_be_scored_exactly_is_refused_by_name() {
        assert!(error("binary:logistic", "rank:ndcg").contains("rank:ndcg"));
        assert!(error(r#""name":"gbtree""#, r#""name":"gblinear""#).contains("linear model"));
        assert!(
            error(r#""size_leaf_vector":"1""#, r#""size_leaf_vector":"3""#).contains("multi_output_tree")
        );
        assert!(parse(b"binf\0\0").is_err());
    }

    #[test]
    fn damaged_files_are_refused() {
        for (from, to) in [
            ("[1,-1,3,-1,-1]", "[0,-1,3,-1,-1]"),
            ("[1,-1,3,-1,-1]", "[1,-1,9,-1,-1]"),
            ("[2,-1,4,-1,-1]", "[2,-1,-1,-1,-1]"),
            ("[2,-1,4,-1,-1]", "[1,-1,4,-1,-1]"),
            ("[0,0,1,0,0]", "[0,0,2,0,0]"),
            ("[0.5,1.0,0.0,2.0,3.0]", "[1e99,1.0,0.0,2.0,3.0]"),
            (r#""categories_sizes":[2]"#, r#""categories_sizes":[1000000000]"#),
            (r#""categories_nodes":[2]"#, r#""categories_nodes":[7]"#),
            ("[1,3]", "[1,4000000000]"),
            ("[5E-1]", "[1]"),
            ("[5E-1]", "[5E-1,5E-1]"),
            (r#""tree_info":[0]"#, r#""tree_info":[1]"#),
            (r#""tree_info":[0]"#, r#""tree_info":[]"#),
            (r#""num_class":"0""#, r#""num_class":"1000000000""#),
        ] {
            error(from, to);
        }
        let manyfold = MODEL
            .replace("binary:logistic", "multi:softprob")
            .replace(r#""num_class":"0""#, r#""num_class":"1000000000""#);
        assert!(parse(manyfold.as_bytes()).is_err());
        assert!(parse(&[br#"{"a":"#.repeat(100_000).as_slice(), b"1"].concat()).is_err());
    }
}
