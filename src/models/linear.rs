//! Models that are linear, whole or in the leaves of trees: XGBoost's `gblinear` and LightGBM's `linear_tree`.
//! They are scored row by row from their definition.

use super::trees::ensemble::{Ensemble, Link};
use crate::error::{Error, Result};

/// XGBoost's `gblinear`: float32 sums of the bias, the base and each value times its weight; missing values add
/// nothing.
#[derive(Debug, Clone)]
pub struct Linear {
    pub features: usize,
    /// Sums: 1 for two classes with a sigmoid, else one for each class.
    pub outputs: usize,
    /// `[features + 1, outputs]`, row-major; the last row is the bias.
    pub weights: Vec<f32>,
    pub base: Vec<f64>,
    pub link: Link,
}

impl Linear {
    /// Checks lengths and numbers.
    pub fn validate(&self) -> Result<()> {
        let count = self.features.checked_add(1).and_then(|n| n.checked_mul(self.outputs));
        if self.outputs == 0 || Some(self.weights.len()) != count || self.base.len() != self.outputs {
            return Err(Error::data(
                "a linear model has not one weight for each feature and class, and a bias",
            )
            .value(self.weights.len()));
        }
        match self.weights.iter().all(|w| w.is_finite()) && self.base.iter().all(|b| b.is_finite()) {
            true => Ok(()),
            false => Err(Error::data("a weight of a linear model is not finite")),
        }
    }

    /// Probabilities for a row, at least two.
    pub fn classes(&self) -> usize {
        self.outputs.max(2)
    }

    /// Probabilities of n rows, row-major, from columns of n values.
    pub fn predict(&self, columns: &[&[f32]], out: &mut [f64]) {
        let mut sums = vec![0.0; self.outputs];
        for (row, out) in out.chunks_exact_mut(self.classes()).enumerate() {
            for (k, sum) in sums.iter_mut().enumerate() {
                let mut total = self.weights[self.features * self.outputs + k] + self.base[k] as f32;
                for (feature, column) in columns.iter().enumerate().filter(|(_, c)| !c[row].is_nan()) {
                    total += column[row] * self.weights[feature * self.outputs + k];
                }
                *sum = f64::from(total);
            }
            self.link.probabilities(&sums, out);
        }
    }
}

/// Trees of LightGBM whose leaves are linear functions of the row, in float64.
#[derive(Debug, Clone)]
pub struct LinearTrees {
    /// The trees with what a leaf gives where one of its features is missing.
    pub trees: Ensemble,
    /// For each tree its leaves' functions.
    pub leaves: Vec<Vec<Leaf>>,
}

/// `constant + sum of coefficient * value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    pub constant: f64,
    /// Feature and coefficient.
    pub terms: Vec<(u32, f64)>,
}

impl LinearTrees {
    /// Checks the trees, and that functions are of features that there are.
    pub fn validate(&self) -> Result<()> {
        self.trees.validate()?;
        let sound = |leaf: &Leaf| {
            let known = |(f, c): &(u32, f64)| (*f as usize) < self.trees.features && c.is_finite();
            leaf.constant.is_finite() && leaf.terms.iter().all(known)
        };
        let lengths = self
            .trees
            .trees
            .iter()
            .zip(&self.leaves)
            .all(|(tree, l)| tree.width == 1 && tree.leaf_count() == l.len());
        match lengths
            && self.trees.trees.len() == self.leaves.len()
            && self.leaves.iter().flatten().all(sound)
        {
            true => Ok(()),
            false => {
                Err(Error::data("a leaf's linear function is of a feature that is not there, or not finite"))
            }
        }
    }

    /// Probabilities of n rows, row-major, from columns of n values.
    pub fn predict(&self, columns: &[Vec<f64>], out: &mut [f64]) {
        let Ensemble { outputs, ref base, scale, link, .. } = self.trees;
        let mut sums = vec![0.0; outputs];
        for (row, out) in out.chunks_exact_mut(self.trees.classes()).enumerate() {
            sums.fill(0.0);
            for (tree, leaves) in self.trees.trees.iter().zip(&self.leaves) {
                let at = tree.leaf(|feature| columns[feature][row]);
                sums[tree.output] +=
                    leaves[at].value(|feature| columns[feature][row]).unwrap_or(tree.leaves[at]);
            }
            sums.iter_mut().zip(base).for_each(|(sum, base)| *sum = base + scale * *sum);
            link.probabilities(&sums, out);
        }
    }
}

impl Leaf {
    /// None where a value is missing. LightGBM reads what is nearly zero as zero.
    fn value(&self, of: impl Fn(usize) -> f64) -> Option<f64> {
        let mut total = self.constant;
        for (feature, coefficient) in &self.terms {
            let value = of(*feature as usize);
            if value.is_nan() {
                return None;
            }
            let value = if value.abs() <= f64::from(super::trees::ensemble::ZERO) { 0.0 } else { value };
            total += coefficient * value;
        }
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_add_nothing_to_a_linear_model() {
        let link = Link::Sigmoid { slope: 1.0 };
        let model = Linear { features: 2, outputs: 1, weights: vec![1.0, 2.0, 0.5], base: vec![-0.5], link };
        model.validate().unwrap();
        let mut out = [0.0; 4];
        model.predict(&[&[0.0, f32::NAN], &[0.0, 0.0]], &mut out);
        assert_eq!(out, [0.5; 4]);
        assert!(Linear { weights: vec![1.0; 2], ..model.clone() }.validate().is_err());
        assert!(Linear { weights: vec![1.0, f32::INFINITY, 0.0], ..model }.validate().is_err());
    }
}
