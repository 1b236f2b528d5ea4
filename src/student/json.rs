//! A student as JSON. Numbers are written so that they are read back bit-equal; what is read is checked like
//! a stranger's file.

use crate::error::{Error, Result};
use crate::models::trees::ensemble::{Ensemble, Link, Missing, Rule, Split, Tree};
use crate::student::contract::Student;
use crate::student::logistic::linear::Logistic;
use crate::student::sample::{Kind, MAX_LEVELS};
use crate::student::saved::{FORMAT, Linear, Model, Saved, SavedLink, SavedRule, SavedTree, VERSION};
use crate::student::trees::{TreeStudent, levels_left};

/// Limits on what a file may claim.
const MAX_COLUMNS: usize = 100_000;
const MAX_CLASSES: usize = 10_000;
const MAX_BYTES: usize = 1 << 30;

/// The student as JSON.
pub fn to_json(student: &dyn Student) -> Result<String> {
    serde_json::to_string(&student.saved())
        .map_err(|e| Error::bug(format!("the student cannot be written: {e}")))
}

/// Reads what [`to_json`] wrote. Anything else is refused (65): another format or a newer version, unknown
/// fields, numbers that are not finite, lengths that disagree, trees that are no trees.
pub fn from_json(text: &str) -> Result<Box<dyn Student>> {
    if text.len() > MAX_BYTES {
        return Err(Error::data("a student's file is too large").value(text.len()));
    }
    restore(serde_json::from_str(text).map_err(|e| Error::data(format!("not a student: {e}")))?)
}

/// The model of a serialised form, which may lie in another file; refuses (65) what [`from_json`] does.
pub fn restore(saved: Saved) -> Result<Box<dyn Student>> {
    if saved.format != FORMAT || saved.version != VERSION {
        return Err(
            Error::data("not a student of this version").value(format!("{} {}", saved.format, saved.version))
        );
    }
    if saved.columns.len() > MAX_COLUMNS || saved.classes > MAX_CLASSES {
        return Err(Error::data("too many columns or classes for a student").value(format!(
            "{} {}",
            saved.columns.len(),
            saved.classes
        )));
    }
    let too_wide = |k: &Kind| matches!(k, Kind::Category { levels } if *levels > MAX_LEVELS);
    if saved.columns.iter().any(too_wide) {
        return Err(Error::data("a student's column has too many levels"));
    }
    student(saved)
}

fn student(saved: Saved) -> Result<Box<dyn Student>> {
    match (saved.model, saved.family.as_str()) {
        (Model::Logistic(linear), "logistic") => {
            Ok(Box::new(logistic(linear, saved.columns, saved.classes)?))
        }
        (Model::Trees { link, base, scale, start, trees }, "boosted" | "forest") => {
            let family = if saved.family == "boosted" { "boosted" } else { "forest" };
            let trees = trees.into_iter().map(tree).collect::<Result<_>>()?;
            let link = match link {
                SavedLink::Identity => Link::Identity,
                SavedLink::Sigmoid => Link::Sigmoid { slope: 1.0 },
                SavedLink::Softmax => Link::Softmax,
            };
            let (features, outputs) = (saved.columns.len(), base.len());
            let ensemble = Ensemble { features, outputs, trees, base, scale, sum_in_f32: false, link };
            let start =
                start.map(|linear| logistic(linear, saved.columns.clone(), saved.classes)).transpose()?;
            Ok(Box::new(TreeStudent::new(family, saved.columns, saved.classes, start, ensemble)?))
        }
        (_, family) => Err(Error::data("a student's family and model do not agree").value(family)),
    }
}

fn logistic(linear: Linear, kinds: Vec<Kind>, classes: usize) -> Result<Logistic> {
    Logistic::new(kinds, classes, linear.bias, linear.terms)
}

fn tree(saved: SavedTree) -> Result<Tree> {
    let n = saved.column.len();
    if [saved.rule.len(), saved.null_left.len(), saved.left.len(), saved.right.len()] != [n; 4] {
        return Err(Error::data("the lists of a student's tree differ in length"));
    }
    let rules = saved.rule.into_iter().map(|rule| match rule {
        SavedRule::AtMost(t) => Rule::LessOrEqual(t),
        SavedRule::Levels(levels) => levels_left(levels.into_iter().map(|at| at as usize)),
    });
    let splits = rules.enumerate().map(|(i, rule)| Split {
        feature: saved.column[i],
        rule,
        missing: Missing::Nan,
        missing_left: saved.null_left[i],
        left: saved.left[i],
        right: saved.right[i],
    });
    Ok(Tree { splits: splits.collect(), leaves: saved.leaf, width: 1, output: saved.output })
}
