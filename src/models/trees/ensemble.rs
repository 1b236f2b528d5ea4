//! A tree ensemble as every format means it: the one form that LightGBM, XGBoost and ONNX files and our own
//! students are read into.
//! [`Ensemble::validate`] is what every reader ends with; the engine takes only what passes it.

use crate::error::{Error, Result};

/// What a split does with a row's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Left where `value <= threshold`, compared as float64 of the row's float32 (LightGBM, ONNX BRANCH_LEQ,
    /// our students).
    LessOrEqual(f64),
    /// Left where `value < threshold`, both float32 (XGBoost, ONNX BRANCH_LT).
    Less(f32),
    /// Left where the value, its fraction cut off, is one of these categories.
    InSet(CategorySet),
}

/// The categories that go left at a categorical split.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CategorySet {
    /// Ascending, without repetition, below 2^24 (a float32 holds each of them).
    pub categories: Vec<u32>,
    /// Whether a value between -1 and 0 is category 0 (LightGBM) or, like other negative values, none
    /// (XGBoost).
    pub cut_below_zero: bool,
}

/// When a value counts as missing; a missing value goes to the split's default side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// NaN is missing.
    Nan,
    /// NaN and zero (|x| <= 1e-35) are missing (LightGBM `zero_as_missing`).
    Zero,
    /// Nothing is missing: NaN is read as 0 for a number (LightGBM missing type none).
    None,
}

/// What LightGBM takes for zero: its float32 constant 1e-35.
pub const ZERO: f32 = 1e-35;

/// An inner node. A child `>= 0` is a split of the same tree, a child `< 0` is leaf `!child`.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Column of the row.
    pub feature: u32,
    pub rule: Rule,
    pub missing: Missing,
    /// Where a missing value goes.
    pub missing_left: bool,
    pub left: i32,
    pub right: i32,
}

/// One tree; split 0 is the root. Without splits it is the single leaf 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub splits: Vec<Split>,
    /// `leaf count * width` values, those of one leaf together.
    pub leaves: Vec<f64>,
    /// Values of a leaf: 1, or one for each output.
    pub width: usize,
    /// The output that a leaf of width 1 adds to.
    pub output: usize,
}

/// From the sums over trees to probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// The sums are the probabilities; a single sum is that of the second class.
    Identity,
    /// P = 1 / (1 + e^(-slope z)) of each sum z; a single sum is that of the second class. Several sums (one
    /// class against the others) are not made to add up to 1, as in LightGBM.
    Sigmoid { slope: f64 },
    /// P = softmax of the sums.
    Softmax,
}

/// Trees whose leaves are summed on top of `base`, then linked to probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// Columns that a row must have.
    pub features: usize,
    /// Sums kept for a row: 1 for a binary model with a sigmoid, else one for each class.
    pub outputs: usize,
    pub trees: Vec<Tree>,
    /// Starting value of each output.
    pub base: Vec<f64>,
    /// Factor on the sum of leaves before the base is added (1 / trees for an average).
    pub scale: f64,
    /// Whether leaves are added in float32 on top of the base, as XGBoost and ONNX Runtime do, or in float64.
    pub sum_in_f32: bool,
    pub link: Link,
}

impl Split {
    /// The side that a value goes to: the meaning of a split, which the engine reproduces faster.
    pub fn goes_left(&self, value: f64) -> bool {
        let missing = match self.missing {
            Missing::Nan => value.is_nan(),
            Missing::Zero => value.is_nan() || value.abs() <= f64::from(ZERO),
            Missing::None => false,
        };
        if missing {
            return self.missing_left;
        }
        let value = if value.is_nan() { 0.0 } else { value };
        match &self.rule {
            Rule::LessOrEqual(threshold) => value <= *threshold,
            Rule::Less(threshold) => value < f64::from(*threshold),
            Rule::InSet(set) => category(cut(value), set.cut_below_zero)
                .is_some_and(|c| set.categories.binary_search(&c).is_ok()),
        }
    }
}

/// The category that a value stands for, if any; `cut_below_zero` as in [`CategorySet`].
pub fn category(value: f32, cut_below_zero: bool) -> Option<u32> {
    let lowest = if cut_below_zero { value > -1.0 } else { value >= 0.0 };
    (lowest && value < CATEGORY_LIMIT as f32).then_some(value as u32)
}

/// A value without its fraction, but for what lies between -1 and 0, which is a category to one library only.
fn cut(value: f64) -> f32 {
    if value > -1.0 && value < 0.0 { value as f32 } else { value.trunc() as f32 }
}

/// Categories from here on are not told apart by a float32.
pub const CATEGORY_LIMIT: u32 = 1 << 24;

impl Tree {
    /// Number of leaves.
    pub fn leaf_count(&self) -> usize {
        self.splits.len() + 1
    }

    /// The leaf that a row falls into; `row` has a value for every feature.
    pub fn leaf(&self, row: impl Fn(usize) -> f64) -> usize {
        let mut at = if self.splits.is_empty() { !0 } else { 0 };
        while at >= 0 {
            let split = &self.splits[at as usize];
            at = if split.goes_left(row(split.feature as usize)) { split.left } else { split.right };
        }
        !at as usize
    }

    fn validate(&self, features: usize, outputs: usize) -> std::result::Result<(), &'static str> {
        if self.width == 0
            || (self.width != 1 && self.width != outputs)
            || (self.width == 1 && self.output >= outputs)
        {
            return Err("a leaf adds to an output that the model does not have");
        }
        if Some(self.leaves.len()) != self.leaf_count().checked_mul(self.width) {
            return Err("the number of leaf values is not the number of splits + 1");
        }
        if !self.leaves.iter().all(|v| v.is_finite()) {
            return Err("a leaf value is not finite");
        }
        self.splits.iter().try_for_each(|split| split.validate(features))?;
        self.validate_shape()
    }

    /// Every split and every leaf hangs below the root exactly once.
    fn validate_shape(&self) -> std::result::Result<(), &'static str> {
        let (splits, leaves) = (self.splits.len(), self.leaf_count());
        let mut seen = vec![false; splits + leaves];
        let mut open = Vec::new();
        if splits > 0 {
            seen[0] = true;
            open.push(0);
        }
        while let Some(at) = open.pop() {
            let split: &Split = &self.splits[at];
            for child in [split.left, split.right] {
                let (index, limit) =
                    if child >= 0 { (child as usize, splits) } else { (!child as usize, leaves) };
                if index >= limit {
                    return Err("a child is out of range");
                }
                let place = if child >= 0 { index } else { splits + index };
                if std::mem::replace(&mut seen[place], true) {
                    return Err("a node has two parents");
                }
                if child >= 0 {
                    open.push(index);
                }
            }
        }
        // n splits reached without repetition have n + 1 leaves: a split that is not reached leaves a leaf
        // that is not
        if splits > 0 && seen.contains(&false) { Err("a node is not reached from the root") } else { Ok(()) }
    }
}

impl Split {
    fn validate(&self, features: usize) -> std::result::Result<(), &'static str> {
        if self.feature as usize >= features {
            return Err("a split is on a feature that the model does not have");
        }
        let sound = match &self.rule {
            // LightGBM parts NaN from all numbers by a threshold of infinity
            Rule::LessOrEqual(threshold) => !threshold.is_nan(),
            Rule::Less(threshold) => *threshold > f32::NEG_INFINITY,
            Rule::InSet(set) => {
                set.categories.is_sorted_by(|a, b| a < b)
                    && set.categories.last().is_none_or(|&c| c < CATEGORY_LIMIT)
            }
        };
        if sound {
            Ok(())
        } else {
            Err("a threshold is not a number, or categories are not ascending below 2^24")
        }
    }
}

impl Ensemble {
    /// Classes that have a probability: two for a single sum.
    pub fn classes(&self) -> usize {
        self.outputs.max(2)
    }

    /// Checks all that the engine relies on: each tree is a tree over features and outputs that exist, all
    /// numbers are finite.
    pub fn validate(&self) -> Result<()> {
        if self.outputs == 0 || self.base.len() != self.outputs {
            return Err(Error::data("a tree ensemble needs one starting value for each output")
                .value(self.base.len()));
        }
        if self.outputs == 1 && self.link == Link::Softmax {
            return Err(Error::data("a softmax needs two outputs or more"));
        }
        let numbers = [self.scale, if let Link::Sigmoid { slope } = self.link { slope } else { 1.0 }];
        if !numbers.iter().chain(&self.base).all(|v| v.is_finite()) {
            return Err(Error::data("the scale, slope or starting value of a tree ensemble is not finite"));
        }
        for (index, tree) in self.trees.iter().enumerate() {
            tree.validate(self.features, self.outputs)
                .map_err(|problem| Error::data(problem).with("tree", index.to_string()))?;
        }
        Ok(())
    }

    /// Probabilities of one row, straight from the definition: what the engine must agree with.
    pub fn predict_row(&self, row: &[f64], out: &mut [f64]) {
        let (mut wide, mut narrow) = (vec![0.0f64; self.outputs], vec![0.0f32; self.outputs]);
        if self.sum_in_f32 && self.scale == 1.0 {
            narrow.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum = *base as f32);
        }
        for tree in &self.trees {
            let leaf = tree.leaf(|feature| row[feature]);
            for k in 0..tree.width {
                let (output, value) =
                    (if tree.width == 1 { tree.output } else { k }, tree.leaves[leaf * tree.width + k]);
                wide[output] += value;
                narrow[output] += value as f32;
            }
        }
        for (k, sum) in wide.iter_mut().enumerate() {
            *sum = match (self.sum_in_f32, self.scale == 1.0) {
                (false, _) => self.base[k] + self.scale * *sum,
                (true, true) => f64::from(narrow[k]),
                (true, false) => f64::from(self.base[k] as f32 + self.scale as f32 * narrow[k]),
            };
        }
        self.link.probabilities(&wide, out);
    }
}

impl Link {
    /// Probabilities (at least two) of the sums of one row.
    pub fn probabilities(&self, sums: &[f64], out: &mut [f64]) {
        match self {
            Link::Identity => {
                let first = out.len() - sums.len();
                out[first..].copy_from_slice(sums);
            }
            Link::Sigmoid { slope } => {
                let first = out.len() - sums.len();
                out[first..].iter_mut().zip(sums).for_each(|(p, z)| *p = 1.0 / (1.0 + (-slope * z).exp()));
            }
            Link::Softmax => {
                let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().zip(sums).for_each(|(p, z)| *p = (z - highest).exp());
                let total: f64 = out.iter().sum();
                out.iter_mut().for_each(|p| *p /= total);
            }
        }
        if sums.len() == 1 {
            out[0] = 1.0 - out[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(left: i32, right: i32) -> Split {
        Split {
            feature: 0,
            rule: Rule::LessOrEqual(0.0),
            missing: Missing::Nan,
            missing_left: false,
            left,
            right,
        }
    }

    fn ensemble(splits: Vec<Split>) -> Ensemble {
        let leaves = vec![0.5; splits.len() + 1];
        let tree = Tree { splits, leaves, width: 1, output: 0 };
        Ensemble {
            features: 1,
            outputs: 1,
            trees: vec![tree],
            base: vec![0.0],
            scale: 1.0,
            sum_in_f32: false,
            link: Link::Identity,
        }
    }

    #[test]
    fn only_trees_pass() {
        assert!(ensemble(vec![]).validate().is_ok());
        assert!(ensemble(vec![split(1, !0), split(!1, !2)]).validate().is_ok());
        for shape in [
            vec![split(0, !0)],
            vec![split(!0, !0)],
            vec![split(!0, !2)],
            vec![split(1, 1), split(!0, !1)],
            vec![split(!0, !1), split(1, !2)],
        ] {
            assert!(ensemble(shape).validate().is_err());
        }
    }

    #[test]
    fn numbers_must_be_finite() {
        let mut model = ensemble(vec![split(!0, !1)]);
        model.trees[0].splits[0].rule = Rule::LessOrEqual(f64::NAN);
        assert!(model.validate().is_err());
        model.trees[0].splits[0].rule = Rule::LessOrEqual(1.0);
        model.trees[0].leaves[1] = f64::INFINITY;
        assert!(model.validate().is_err());
    }

    #[test]
    fn a_single_sum_is_the_second_class() {
        let mut out = [0.0; 2];
        Link::Sigmoid { slope: 2.0 }.probabilities(&[0.0], &mut out);
        assert_eq!(out, [0.5, 0.5]);
        Link::Identity.probabilities(&[0.25], &mut out);
        assert_eq!(out, [0.75, 0.25]);
    }

    #[test]
    fn a_negative_fraction_is_category_zero_only_for_lightgbm() {
        assert_eq!(category(-0.5, true), Some(0));
        assert_eq!(category(-0.5, false), None);
        assert_eq!(category(f32::NAN, true), None);
    }
}
