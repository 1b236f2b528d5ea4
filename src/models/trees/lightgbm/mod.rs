//! LightGBM's text model file -> [`Ensemble`].
//!
//! | objective | link |
//! |---|---|
//! | `binary sigmoid:s` | sigmoid of slope s |
//! | `cross_entropy` | sigmoid |
//! | `multiclass` | softmax |
//! | `multiclassova sigmoid:s` | sigmoid of each class |
//! | none (a custom objective) | as `model.objective` of teacher.toml says, else refused |
//! | others | refused by name |
//!
//! Linear trees become [`LinearTrees`]. `average_output` (random forests) divides by the number of iterations; dart has its weights in the leaves.

mod fields;
mod tail;

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::models::linear::{Leaf, LinearTrees};
use crate::models::said::Said;
use crate::models::trees::ensemble::{
    CATEGORY_LIMIT, CategorySet, Ensemble, Link, Missing, Rule, Split, Tree, ZERO,
};
use crate::models::trees::lightgbm::fields::{Fields, refused};
use crate::models::trees::lightgbm::tail::Tail;
use crate::models::{Read, Scorer, Told};

/// Reads a text model file of trees without linear leaves; see [`read`].
pub fn parse(bytes: &[u8]) -> Result<Ensemble> {
    match read(bytes, &Told::default())?.scorer {
        Scorer::Trees(model) => Ok(model),
        _ => Err(refused("the model has linear trees")),
    }
}

/// Reads a text model file of LightGBM 2 to 4. What cannot be scored exactly is refused; a damaged file is
/// refused in time and memory proportional to its size.
pub fn read(bytes: &[u8], told: &Told) -> Result<Read> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("tree") {
        return Err(Error::data("this is not a LightGBM text model file: its first line is not `tree`")
            .hint("save it with Booster.save_model"));
    }
    let header = Fields::read(&mut lines, |line| line.starts_with("Tree=") || line == "end of trees");
    let outputs: usize = header.number("num_tree_per_iteration")?;
    let classes: usize = header.number("num_class")?;
    let features = header
        .number::<usize>("max_feature_idx")?
        .checked_add(1)
        .ok_or_else(|| refused("max_feature_idx is out of range"))?;
    let (mut trees, mut leaves, mut is_linear, mut rows) = (Vec::new(), Vec::new(), false, None);
    let mut next = header.stopped_at;
    while let Some(line) = next
        && line != "end of trees"
    {
        let fields = Fields::read(&mut lines, |line| line.starts_with("Tree=") || line == "end of trees");
        next = fields.stopped_at;
        let at = |e: Error| e.with("tree", trees.len().to_string());
        let tree = tree(&fields, trees.len() % outputs.max(1)).map_err(at)?;
        is_linear |= has_linear_leaves(&fields)?;
        leaves.push(linear_leaves(&fields, &tree).map_err(at)?);
        rows = rows
            .or_else(|| fields.numbers::<u64>("leaf_count", tree.leaf_count()).ok().map(|n| n.iter().sum()));
        trees.push(tree);
    }
    if next.is_none() {
        return Err(refused("the file is cut off: `end of trees` is missing"));
    }
    let tail = Tail::read(lines)?;
    if outputs == 0 || classes != outputs || !trees.len().is_multiple_of(outputs) || trees.is_empty() {
        return Err(
            refused("the number of trees is not that of its classes times its iterations").value(trees.len())
        );
    }
    let mut said = tail.said(&header, features);
    said.rows = rows.filter(|_| tail.is_whole_sample());
    cut_rounds(told, &mut trees, outputs, &mut said)?;
    leaves.truncate(trees.len());
    let link = link(&header, &tail, told, &mut said)?;
    let scale = if header.has("average_output") { outputs as f64 / trees.len() as f64 } else { 1.0 };
    let base = vec![0.0; outputs];
    let model = Ensemble { features, outputs, trees, base, scale, sum_in_f32: false, link };
    model.validate()?;
    if !is_linear {
        return Ok(Read { scorer: Scorer::Trees(model), said });
    }
    let model = LinearTrees { trees: model, leaves };
    model.validate()?;
    Ok(Read { scorer: Scorer::LinearTrees(model), said })
}

/// Keeps the rounds that teacher.toml says; the file has no more than those up to its best iteration.
fn cut_rounds(told: &Told, trees: &mut Vec<Tree>, outputs: usize, said: &mut Said) -> Result<()> {
    let Some(rounds) = told.rounds else { return Ok(()) };
    let all = trees.len() / outputs;
    if rounds == 0 || rounds > all {
        return Err(refused("the model has not as many rounds as teacher.toml says")
            .with("key", "model.rounds")
            .with("the file says", all.to_string())
            .with("teacher.toml says", rounds.to_string()));
    }
    trees.truncate(rounds * outputs);
    said.notes.push(format!("the first {rounds} of {all} rounds count, as teacher.toml says"));
    Ok(())
}

fn has_linear_leaves(fields: &Fields) -> Result<bool> {
    Ok(fields.has("is_linear") && fields.number::<i32>("is_linear")? != 0)
}

/// The functions of a tree's leaves; constants where it is not linear.
fn linear_leaves(fields: &Fields, tree: &Tree) -> Result<Vec<Leaf>> {
    let count = tree.leaf_count();
    if !has_linear_leaves(fields)? {
        return Ok(tree.leaves.iter().map(|v| Leaf { constant: *v, terms: Vec::new() }).collect());
    }
    let constants: Vec<f64> = fields.numbers("leaf_const", count)?;
    let sizes: Vec<usize> = fields.numbers("num_features", count)?;
    let total = sizes.iter().try_fold(0usize, |n, size| n.checked_add(*size));
    let total = total.ok_or_else(|| refused("`num_features` is out of range"))?;
    let (features, coefficients) =
        (fields.numbers::<u32>("leaf_features", total)?, fields.numbers::<f64>("leaf_coeff", total)?);
    let mut terms = features.into_iter().zip(coefficients);
    let leaf = |(constant, size): (f64, usize)| Leaf { constant, terms: terms.by_ref().take(size).collect() };
    Ok(constants.into_iter().zip(sizes).map(leaf).collect())
}

/// The link of the model's objective: as the file says, else as teacher.toml does.
fn link(header: &Fields, tail: &Tail, told: &Told, said: &mut Said) -> Result<Link> {
    let file = header.text("objective").ok();
    let objective = match (file, told.objective.as_deref()) {
        (Some(file), Some(own)) if objective(file)? != objective(own)? => {
            return Err(refused("the model file and teacher.toml name different objectives")
                .with("key", "model.objective")
                .with("the file says", file)
                .with("teacher.toml says", own));
        }
        (Some(file), _) => file,
        (None, Some(own)) => {
            said.notes.push(format!("the objective is custom: {own}, as teacher.toml says"));
            own
        }
        (None, None) => {
            let named = tail.parameters.get("objective").copied().unwrap_or("none");
            return Err(refused("the model has a custom objective, whose probabilities are not known")
                .with("key", "model.objective")
                .with("the file says", format!("objective: {named}"))
                .hint(
                    "train with a built-in objective; or, if a sigmoid or softmax of its sums is right, say \
                     objective = \"binary\" (or \"multiclass\") under [model] in teacher.toml",
                ));
        }
    };
    let (name, slope) = self::objective(objective)?;
    match name {
        "binary" | "multiclassova" => Ok(Link::Sigmoid { slope }),
        "cross_entropy" => Ok(Link::Sigmoid { slope: 1.0 }),
        "multiclass" => Ok(Link::Softmax),
        _ => Err(refused("the model's objective does not give class probabilities")
            .value(objective)
            .hint("objectives read: binary, cross_entropy, multiclass, multiclassova")),
    }
}

/// The name and slope of an objective's line, such as `binary sigmoid:1`.
fn objective(line: &str) -> Result<(&str, f64)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let slope = words.find_map(|w| w.strip_prefix("sigmoid:")).map_or(Ok(1.0), f64::from_str);
    Ok((name, slope.map_err(|_| refused("the objective's sigmoid is not a number").value(line))?))
}

fn tree(fields: &Fields, output: usize) -> Result<Tree> {
    let leaf_count: usize = fields.number("num_leaves")?;
    let leaves: Vec<f64> = fields.numbers("leaf_value", leaf_count)?;
    let count = leaf_count.checked_sub(1).ok_or_else(|| refused("a tree has no leaves"))?;
    let mut splits = Vec::new();
    if count > 0 {
        let features: Vec<u32> = fields.numbers("split_feature", count)?;
        let kinds: Vec<u8> = fields.numbers("decision_type", count)?;
        let thresholds: Vec<f64> = fields.numbers("threshold", count)?;
        let lefts: Vec<i32> = fields.numbers("left_child", count)?;
        let rights: Vec<i32> = fields.numbers("right_child", count)?;
        let sets = Sets::read(fields)?;
        for i in 0..count {
            let (rule, missing, missing_left) = decision(kinds[i], thresholds[i], &sets)?;
            splits.push(Split {
                feature: features[i],
                rule,
                missing,
                missing_left,
                left: lefts[i],
                right: rights[i],
            });
        }
    }
    Ok(Tree { splits, leaves, width: 1, output })
}

/// What a node's `decision_type` means: bit 0 categorical, bit 1 default left, bits 2 and 3 the missing type.
fn decision(kind: u8, threshold: f64, sets: &Sets) -> Result<(Rule, Missing, bool)> {
    if kind & 1 != 0 {
        // of a categorical split only NaN is missing, and it always goes right
        return Ok((Rule::InSet(sets.categories(threshold)?), Missing::Nan, false));
    }
    let missing = match (kind >> 2) & 3 {
        0 => Missing::None,
        1 => Missing::Zero,
        2 => Missing::Nan,
        _ => return Err(refused("a split's missing type is unknown").value(kind)),
    };
    Ok((Rule::LessOrEqual(beside_zero(threshold)), missing, kind & 2 != 0))
}

/// LightGBM reads every value of a row with |x| <= 1e-35 as 0 before it looks at a threshold. Moving a
/// threshold inside that range to the range's edge has the same effect on every value.
fn beside_zero(threshold: f64) -> f64 {
    let zero = f64::from(ZERO);
    if (0.0..zero).contains(&threshold) {
        zero
    } else if (-zero..0.0).contains(&threshold) {
        f64::from((-ZERO).next_down())
    } else {
        threshold
    }
}

/// The bit sets of a tree's categorical splits.
struct Sets {
    boundaries: Vec<usize>,
    words: Vec<u32>,
}

impl Sets {
    fn read(fields: &Fields) -> Result<Sets> {
        let count: usize = if fields.has("num_cat") { fields.number("num_cat")? } else { 0 };
        if count == 0 {
            return Ok(Sets { boundaries: vec![0], words: Vec::new() });
        }
        let boundaries: Vec<usize> = fields.numbers("cat_boundaries", count.saturating_add(1))?;
        let words = fields.numbers("cat_threshold", boundaries.last().copied().unwrap_or(0))?;
        if boundaries[0] != 0 || !boundaries.is_sorted() {
            return Err(refused("`cat_boundaries` is not ascending from 0"));
        }
        Ok(Sets { boundaries, words })
    }

    /// The categories of set number `threshold`.
    fn categories(&self, threshold: f64) -> Result<CategorySet> {
        let index = threshold as usize;
        if index as f64 != threshold || index + 1 >= self.boundaries.len() {
            return Err(
                refused("a categorical split names a set that the tree does not have").value(threshold)
            );
        }
        let words = &self.words[self.boundaries[index]..self.boundaries[index + 1]];
        if words.len() > CATEGORY_LIMIT as usize / 32 {
            return Err(refused(
                "a categorical split has categories of 2^24 or more, which float32 values cannot tell apart",
            ));
        }
        let bits = words.iter().zip(0u32..).flat_map(|(word, w)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| w * 32 + bit)
        });
        Ok(CategorySet { categories: bits.collect(), cut_below_zero: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\nobjective=binary sigmoid:1\n\n\
        Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=0 1\nthreshold=0.5 0\ndecision_type=10 1\nleft_child=1 -1\nright_child=-2 -3\n\
        leaf_value=-1 2 0.25\ncat_boundaries=0 1\ncat_threshold=5\nis_linear=0\nshrinkage=1\n\nend of trees\n";

    fn error(from: &str, to: &str) -> String {
        assert!(MODEL.contains(from), "{from}");
        parse(MODEL.replace(from, to).as_bytes()).expect_err(to).to_string()
    }

    #[test]
    fn a_model_is_read() {
        let model = parse(MODEL.as_bytes()).unwrap();
        assert_eq!((model.features, model.outputs, model.trees.len()), (2, 1, 1));
        let leaf = |a: f64, b: f64| model.trees[0].leaf(|f| [a, b][f]);
        assert_eq!([leaf(0.5, 2.9), leaf(0.5, 1.0), leaf(0.6, 0.0), leaf(f64::NAN, f64::NAN)], [0, 2, 1, 2]);
    }

    #[test]
    fn what_cannot_be_scored_exactly_is_refused_by_name() {
        assert!(error("is_linear=0", "is_linear=1").contains("leaf_const"));
        assert!(error("objective=binary sigmoid:1\n", "").contains("custom objective"));
        assert!(error("binary", "poisson").contains("poisson"));
    }

    #[test]
    fn damaged_files_are_refused() {
        for (from, to) in [
            ("end of trees", ""),
            ("num_leaves=3", "num_leaves=1000000000"),
            ("num_leaves=3", "num_leaves=0"),
            ("threshold=0.5", "threshold=nan"),
            ("left_child=1", "left_child=0"),
            ("left_child=1", "left_child=7"),
            ("right_child=-2", "right_child=-9"),
            ("split_feature=0 1", "split_feature=0 2"),
            ("leaf_value=-1", "leaf_value=inf"),
            ("threshold=0.5 0", "threshold=0.5 1"),
            ("cat_boundaries=0 1", "cat_boundaries=0 1000000000"),
            ("decision_type=10", "decision_type=14"),
            ("num_tree_per_iteration=1", "num_tree_per_iteration=0"),
            ("max_feature_idx=1", "max_feature_idx=18446744073709551615"),
        ] {
            error(from, to);
        }
    }

    #[test]
    fn thresholds_within_zero_move_to_its_edge() {
        assert_eq!(beside_zero(1e-36), f64::from(ZERO));
        assert!(beside_zero(-1e-36) < -f64::from(ZERO));
        assert_eq!(beside_zero(0.5), 0.5);
    }
}
