//! A student as JSON. Numbers are written so that they are read back bit-equal; what is read is checked like a stranger's file.

use super::logistic::{Logistic, Term};
use super::trees::TreeStudent;
use super::{Kind, Student};
use crate::error::{Error, Result};
use crate::teacher::trees::ensemble::{Ensemble, Link, Missing, Rule, Split, Tree};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "coldstart-student";
const VERSION: u32 = 1;
/// Limits on what a file may claim.
const MAX_COLUMNS: usize = 100_000;
const MAX_CLASSES: usize = 10_000;
const MAX_BYTES: usize = 1 << 30;

/// The serialisable form of every family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    format: String,
    version: u32,
    family: String,
    pub(super) classes: usize,
    pub(super) columns: Vec<Kind>,
    pub(super) model: Model,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Model {
    Logistic(Linear),
    /// The link's argument is scale * sum of leaves + base + the linear start.
    Trees {
        link: SavedLink,
        base: Vec<f64>,
        scale: f64,
        start: Option<Linear>,
        trees: Vec<SavedTree>,
    },
}

/// A logistic student's functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Linear {
    pub bias: Vec<f64>,
    pub terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SavedLink {
    Identity,
    Sigmoid,
    Softmax,
}

/// A tree by columns, one entry for each split; leaves are one more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedTree {
    pub output: usize,
    pub column: Vec<u32>,
    pub rule: Vec<SavedRule>,
    pub null_left: Vec<bool>,
    /// A child >= 0 is a split, a child < 0 is leaf !child.
    pub left: Vec<i32>,
    pub right: Vec<i32>,
    pub leaf: Vec<f64>,
}

/// A threshold, or the levels that go left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SavedRule {
    AtMost(f64),
    Levels(Vec<u32>),
}

/// The student as JSON.
pub fn to_json(student: &dyn Student) -> Result<String> {
    serde_json::to_string(&student.saved()).map_err(|e| Error::bug(format!("the student cannot be written: {e}")))
}

/// Reads what [`to_json`] wrote. Anything else is refused (65): another format or a newer version, unknown fields, numbers that are not
/// finite, lengths that disagree, trees that are no trees.
pub fn from_json(text: &str) -> Result<Box<dyn Student>> {
    if text.len() > MAX_BYTES {
        return Err(Error::data("a student's file is too large").value(text.len()));
    }
    let saved: Saved = serde_json::from_str(text).map_err(|e| Error::data(format!("not a student: {e}")))?;
    if saved.format != FORMAT || saved.version != VERSION {
        return Err(Error::data("not a student of this version").value(format!("{} {}", saved.format, saved.version)));
    }
    if saved.columns.len() > MAX_COLUMNS || saved.classes > MAX_CLASSES {
        return Err(Error::data("too many columns or classes for a student").value(format!("{} {}", saved.columns.len(), saved.classes)));
    }
    let too_wide = |k: &Kind| matches!(k, Kind::Category { levels } if *levels > super::sample::MAX_LEVELS);
    if saved.columns.iter().any(too_wide) {
        return Err(Error::data("a student's column has too many levels"));
    }
    saved.student()
}

impl Saved {
    pub(crate) fn logistic(model: &Logistic) -> Saved {
        Saved::of("logistic", model.kinds(), model.classes(), Model::Logistic(Linear::new(model)))
    }

    pub(crate) fn trees(family: &str, kinds: &[Kind], classes: usize, start: Option<&Logistic>, e: &Ensemble) -> Saved {
        let link = match e.link {
            Link::Identity => SavedLink::Identity,
            Link::Sigmoid { .. } => SavedLink::Sigmoid,
            Link::Softmax => SavedLink::Softmax,
        };
        let trees = e.trees.iter().map(SavedTree::new).collect();
        Saved::of(family, kinds, classes, Model::Trees { link, base: e.base.clone(), scale: e.scale, start: start.map(Linear::new), trees })
    }

    fn of(family: &str, kinds: &[Kind], classes: usize, model: Model) -> Saved {
        Saved { format: FORMAT.into(), version: VERSION, family: family.into(), classes, columns: kinds.to_vec(), model }
    }

    fn student(self) -> Result<Box<dyn Student>> {
        match (self.model, self.family.as_str()) {
            (Model::Logistic(linear), "logistic") => Ok(Box::new(linear.student(self.columns, self.classes)?)),
            (Model::Trees { link, base, scale, start, trees }, "boosted" | "forest") => {
                let family = if self.family == "boosted" { "boosted" } else { "forest" };
                let trees = trees.into_iter().map(SavedTree::tree).collect::<Result<_>>()?;
                let link = match link {
                    SavedLink::Identity => Link::Identity,
                    SavedLink::Sigmoid => Link::Sigmoid { slope: 1.0 },
                    SavedLink::Softmax => Link::Softmax,
                };
                let (features, outputs) = (self.columns.len(), base.len());
                let ensemble = Ensemble { features, outputs, trees, base, scale, sum_in_f32: false, link };
                let start = start.map(|linear| linear.student(self.columns.clone(), self.classes)).transpose()?;
                Ok(Box::new(TreeStudent::new(family, self.columns, self.classes, start, ensemble)?))
            }
            (_, family) => Err(Error::data("a student's family and model do not agree").value(family)),
        }
    }
}

impl Linear {
    fn new(model: &Logistic) -> Linear {
        Linear { bias: model.bias().to_vec(), terms: model.terms().to_vec() }
    }

    fn student(self, kinds: Vec<Kind>, classes: usize) -> Result<Logistic> {
        Logistic::new(kinds, classes, self.bias, self.terms)
    }
}

impl SavedTree {
    fn new(tree: &Tree) -> SavedTree {
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

    fn tree(self) -> Result<Tree> {
        let n = self.column.len();
        if [self.rule.len(), self.null_left.len(), self.left.len(), self.right.len()] != [n; 4] {
            return Err(Error::data("the lists of a student's tree differ in length"));
        }
        let rules = self.rule.into_iter().map(|rule| match rule {
            SavedRule::AtMost(t) => Rule::LessOrEqual(t),
            SavedRule::Levels(levels) => super::trees::levels_left(levels.into_iter().map(|at| at as usize)),
        });
        let splits = rules.enumerate().map(|(i, rule)| Split {
            feature: self.column[i],
            rule,
            missing: Missing::Nan,
            missing_left: self.null_left[i],
            left: self.left[i],
            right: self.right[i],
        });
        Ok(Tree { splits: splits.collect(), leaves: self.leaf, width: 1, output: self.output })
    }
}
