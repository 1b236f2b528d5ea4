//! A student that is a tree ensemble: what the boosted and the forest family have in common.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::models::trees::engine::{Engine, Scratch};
use crate::models::trees::ensemble::{CategorySet, Ensemble, Link, Missing, Rule, Split, Tree};
use crate::student::contract::Student;
use crate::student::logistic::linear::Logistic;
use crate::student::sample::{Kind, readable};
use crate::student::saved::{Model, Saved, SavedLink, SavedRule, SavedTree};

/// An ensemble over columns of known kinds, on top of a logistic student's logits where it started from one.
pub struct TreeStudent {
    family: &'static str,
    kinds: Vec<Kind>,
    classes: usize,
    start: Option<Logistic>,
    ensemble: Ensemble,
    /// Gives the sums, without the link.
    engine: Engine,
}

/// Rows that one task predicts.
const BLOCK: usize = 4096;

impl TreeStudent {
    /// Refuses an ensemble that does not fit the columns, classes and start, or that is no set of finite
    /// trees (65).
    pub(crate) fn new(
        family: &'static str,
        kinds: Vec<Kind>,
        classes: usize,
        start: Option<Logistic>,
        ensemble: Ensemble,
    ) -> Result<Self> {
        check(&kinds, classes, &ensemble)?;
        if start
            .as_ref()
            .is_some_and(|s| s.kinds() != kinds || s.classes() != classes || ensemble.link == Link::Identity)
        {
            return Err(Error::data("the student's trees and their start do not agree"));
        }
        let engine = Engine::new(&Ensemble { link: Link::Identity, ..ensemble.clone() })?;
        Ok(TreeStudent { family, kinds, classes, start, ensemble, engine })
    }

    fn predict_block(&self, columns: &[&[f32]], scratch: &mut Scratch, out: &mut [f64]) {
        let (width, outputs) = (self.engine.classes(), self.ensemble.outputs);
        let mut sums = vec![0.0; out.len() / self.classes * width];
        self.engine.predict(columns, &mut sums, scratch);
        match &self.start {
            Some(start) => start.logits(columns, out),
            None => out.fill(0.0),
        }
        for (out, sums) in out.chunks_exact_mut(self.classes).zip(sums.chunks_exact_mut(width)) {
            let sums = &mut sums[width - outputs..];
            match sums {
                [z] => *z += out[1] - out[0],
                _ => sums.iter_mut().zip(out.iter()).for_each(|(z, start)| *z += start),
            }
            probabilities(self.ensemble.link, sums, out);
        }
    }
}

impl Student for TreeStudent {
    fn family(&self) -> &'static str {
        self.family
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn uses(&self, column: usize) -> bool {
        let splits = |tree: &Tree| tree.splits.iter().any(|s| s.feature as usize == column);
        self.start.is_some() || self.ensemble.trees.iter().any(splits)
    }

    fn predict(&self, columns: &[&[f32]], out: &mut [f64]) {
        let Some(columns) = readable(columns, &self.kinds, out.len() / self.classes) else {
            out.fill(f64::NAN);
            return;
        };
        out.par_chunks_mut(BLOCK * self.classes).enumerate().for_each_init(
            Scratch::default,
            |scratch, (block, out)| {
                let rows = block * BLOCK..block * BLOCK + out.len() / self.classes;
                let columns: Vec<&[f32]> = columns.iter().map(|c| &c[rows.clone()]).collect();
                self.predict_block(&columns, scratch, out);
            },
        );
    }

    fn saved(&self) -> Saved {
        let e = &self.ensemble;
        let link = match e.link {
            Link::Identity => SavedLink::Identity,
            Link::Sigmoid { .. } => SavedLink::Sigmoid,
            Link::Softmax => SavedLink::Softmax,
        };
        let trees = e.trees.iter().map(saved_tree).collect();
        let start = self.start.as_ref().map(Logistic::linear);
        let model = Model::Trees { link, base: e.base.clone(), scale: e.scale, start, trees };
        Saved::of(self.family, &self.kinds, self.classes, model)
    }
}

fn saved_tree(tree: &Tree) -> SavedTree {
    let rule = |s: &Split| match &s.rule {
        Rule::LessOrEqual(t) => SavedRule::AtMost(*t),
        Rule::Less(t) => SavedRule::AtMost(f64::from(t.next_down())),
        Rule::InSet(set) => SavedRule::Levels(set.categories.clone()),
    };
    SavedTree {
        output: tree.output,
        column: tree.splits.iter().map(|s| s.feature).collect(),
        rule: tree.splits.iter().map(rule).collect(),
        null_left: tree.splits.iter().map(|s| s.missing_left).collect(),
        left: tree.splits.iter().map(|s| s.left).collect(),
        right: tree.splits.iter().map(|s| s.right).collect(),
        leaf: tree.leaves.clone(),
    }
}

/// A normalised mean may not be smaller than this: a sum of zeros would have no distribution.
pub(crate) const LEAST: f64 = 1e-9;

/// From sums to probabilities that sum to 1; an average is normalised, since its classes were averaged one by
/// one.
fn probabilities(link: Link, sums: &[f64], out: &mut [f64]) {
    link.probabilities(sums, out);
    if link == Link::Identity {
        out.iter_mut().for_each(|p| *p = p.max(LEAST));
        let total: f64 = out.iter().sum();
        out.iter_mut().for_each(|p| *p /= total);
    }
}

/// Largest sum that a file's numbers may lead to.
const LARGEST: f64 = 1e100;

fn check(kinds: &[Kind], classes: usize, e: &Ensemble) -> Result<()> {
    e.validate()?;
    let bad = |what: &str| Err(Error::data(format!("the student's trees are broken: {what}")));
    let outputs_fit = match e.link {
        Link::Sigmoid { .. } => classes == 2 && e.outputs == 1,
        Link::Softmax => classes >= 2 && e.outputs == classes,
        Link::Identity => classes >= 2 && (e.outputs == classes || (e.outputs == 1 && classes == 2)),
    };
    if kinds.is_empty() || e.features != kinds.len() || !outputs_fit {
        return bad("columns, classes and outputs do not agree");
    }
    let largest = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let sum: f64 = e.trees.iter().map(|t| largest(&t.leaves)).sum::<f64>() * e.scale.abs() + largest(&e.base);
    if sum.is_nan() || sum > LARGEST {
        return bad("its sums may be too large");
    }
    for split in e.trees.iter().flat_map(|t| &t.splits) {
        let fits = match (&split.rule, kinds[split.feature as usize]) {
            (Rule::LessOrEqual(_), Kind::Number) => true,
            (Rule::InSet(set), Kind::Category { levels }) => {
                set.categories.last().is_none_or(|c| (*c as usize) < levels)
            }
            _ => false,
        };
        if !fits || split.missing != Missing::Nan {
            return bad("a split does not fit its column");
        }
    }
    match e.trees.iter().all(|t| t.width == 1) {
        true => Ok(()),
        false => bad("a tree's leaves have several values"),
    }
}

/// The rule that sends these levels left.
pub(crate) fn levels_left(levels: impl Iterator<Item = usize>) -> Rule {
    Rule::InSet(CategorySet { categories: levels.map(|at| at as u32).collect(), cut_below_zero: false })
}
