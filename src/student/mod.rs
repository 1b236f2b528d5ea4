//! The student: a function from an account's columns to class probabilities, fitted to *soft* labels.
//!
//! In: columns of float32, NaN for null (a category is its position in its level list, unknown or null = NaN,
//! as a teacher with `encode = "code"` sees it), a soft label for each row, and a weight for each row. Out: a
//! [`Student`], which predicts, is saved as JSON with bit-equal predictions after a round trip, and is
//! exported as ONNX.
//!
//! | family | what it is | where it is best |
//! |---|---|---|
//! | [`Family::Logistic`] | multinomial logistic regression on the exact soft cross-entropy | teachers that are log-linear themselves |
//! | [`Family::Boosted`] | gradient-boosted histogram trees on the soft cross-entropy | nearly everywhere |
//! | [`Family::Forest`] | smartcore's extra trees on probabilities | a second opinion |
//! | [`Family::Auto`] | the one with the lowest log-loss on held-out accounts, ties to the smaller | the default |
//!
//! # Which rows, and what each counts
//! Every account has the same chance to be in the sample (its id's hash decides) and the same weight. Mean KL
//! of 50,000 other accounts, boosted trees on samples of 1,000,000 accounts x 50, weights undoing unequal
//! chances; "rare" has the second class's log-odds lowered by 2.5:
//!
//! | sample | 20,000 | 60,000 | 20,000, rare | 60,000, rare |
//! |---|---|---|---|---|
//! | equal chances | .0109 | .0102 | .0019 | .0018 |
//! | equal numbers of each soft class | .0113 | .0105 | .0040 | .0019 |
//! | the rarer class up to four times as often | .0111 | .0103 | .0019 | .0018 |
//! | chances by sqrt(p (1 - p)) + .05 | .0108 | .0101 | .0019 | .0018 |
//! | equal chances, weight 1 + certainty | | .0102 | | .0018 |
//! | equal chances, weight .1 + certainty | | .0105 | | .0018 |
//!
//! So classes are not balanced: it costs what it was meant to save. Weights by certainty leave the KL and
//! double the calibration error (.0022, .0042).
//!
//! Every family is deterministic: the same rows and seed give the same bits, whatever the number of threads.

pub mod boosted;
mod contract;
pub mod export;
mod fidelity;
mod forest;
pub mod importance;
mod json;
pub mod logistic;
pub mod numeric;
mod sample;
pub mod sampled;
mod saved;
mod trees;

pub use crate::student::contract::Student;
pub use crate::student::export::{Input, to_onnx};
pub use crate::student::fidelity::{Fidelity, fidelity};
pub use crate::student::json::{from_json, restore, to_json};
pub use crate::student::sample::{Kind, Sample};
pub use crate::student::saved::Saved;

use crate::error::{Error, Result};
use crate::student::logistic::Logistic;
use crate::student::trees::TreeStudent;

/// Which model to fit; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Auto,
    Logistic,
    Boosted,
    Forest,
}

impl Family {
    /// The families that are fitted, smallest model first.
    pub const ALL: [Family; 3] = [Family::Logistic, Family::Boosted, Family::Forest];

    /// The name in the pipeline file.
    pub fn name(self) -> &'static str {
        match self {
            Family::Auto => "auto",
            Family::Logistic => "logistic",
            Family::Boosted => "boosted",
            Family::Forest => "forest",
        }
    }

    /// The family of that name; an unknown one is a configuration error.
    pub fn parse(name: &str) -> Result<Family> {
        [Family::Auto, Family::Logistic, Family::Boosted, Family::Forest]
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| {
                Error::config("unknown student family").value(name).hint("auto, logistic, boosted or forest")
            })
    }
}

/// What can be set; the defaults were chosen by measurement (see [`boosted`]).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub boosted: boosted::Settings,
    pub forest: forest::Settings,
}

/// One family's result on the held-out accounts.
#[derive(Debug, Clone)]
pub struct Tried {
    pub family: &'static str,
    /// Or why it could not be fitted.
    pub fidelity: std::result::Result<Fidelity, String>,
}

/// What [`fit`] found.
pub struct Fitted {
    pub student: Box<dyn Student>,
    /// Of that student on the held-out accounts.
    pub fidelity: Fidelity,
    /// Every family that was fitted, smallest first.
    pub tried: Vec<Tried>,
}

/// Log-losses on held-out accounts closer than this (nats) are a tie, which the smaller family wins.
const TIE: f64 = 1e-5;

/// A forest whose first trees leave more than this many times the KL of the best student is not grown on.
/// The other trees took less than a third of it off in eleven trials (at 5 trees of 40).
const HOPELESS: f64 = 2.0;
/// A mean KL (nats) on held-out accounts above which [`Family::Auto`] asks the forest, too: it is slow, and
/// was never the best where another family keeps the soft labels this well.
const GOOD: f64 = 0.01;
/// Rows x columns x classes above which [`Family::Auto`] does not ask the forest: it takes minutes there, and more
/// rows improve boosted trees while they improve a forest little.
const FOREST_WORK: usize = 2_000_000;
/// A logistic student of some of the rows whose log-loss (nats) is this much above the best is fitted to all
/// of them: that may make it the best.
const CLOSE: f64 = 1e-3;

/// Fits `family` to `train` and measures it on `held_out`, which must be other accounts with the same
/// columns.
///
/// [`Family::Auto`] keeps the family with the lowest log-loss on `held_out`; one that cannot be fitted is
/// left out, and its error is returned only where no family can. `seed` fixes every random choice.
pub fn fit(
    family: Family,
    train: &Sample,
    held_out: &Sample,
    seed: u64,
    settings: &Settings,
) -> Result<Fitted> {
    // on a thread of the pool: from outside, each of the many thousand small parallel steps would wake it and
    // wait
    rayon::scope(|_| fit_in_pool(family, train, held_out, seed, settings))
}

fn fit_in_pool(
    family: Family,
    train: &Sample,
    held_out: &Sample,
    seed: u64,
    settings: &Settings,
) -> Result<Fitted> {
    train.check()?;
    held_out.check()?;
    if train.kinds != held_out.kinds || train.classes != held_out.classes {
        return Err(Error::bug("training and held-out accounts have different columns or classes"));
    }
    let auto = family == Family::Auto;
    let families: &[Family] = if auto { &Family::ALL } else { &[family] };
    let mut found = Found::default();
    let mut linear = None;
    let work = train.rows() * train.columns.len() * train.classes;
    for &family in families {
        let enough = found.best.as_ref().is_some_and(|(_, best)| best.kl <= GOOD) || work > FOREST_WORK;
        if family == Family::Forest && auto && enough {
            continue;
        }
        let few = auto && family == Family::Logistic;
        let student = match (family, &found.best) {
            (Family::Forest, Some((_, best))) => {
                let promising = |first: &TreeStudent| fidelity(first, held_out).kl <= HOPELESS * best.kl;
                forest::fit_if(train, seed, &settings.forest, promising)
                    .map(|s| Box::new(s) as Box<dyn Student>)
            }
            _ => fit_after(family, &mut linear, few, train, seed, settings),
        };
        found.add(family.name(), student, held_out);
    }
    if auto && logistic::takes_few(train) && found.is_close("logistic") {
        found.tried.retain(|t| t.family != "logistic");
        found.add("logistic", logistic::fit(train).map(|s| Box::new(s) as Box<dyn Student>), held_out);
        found.tried.sort_by_key(|t| Family::ALL.iter().position(|f| f.name() == t.family));
    }
    match (found.best, found.first_error) {
        (Some((student, fidelity)), _) => Ok(Fitted { student, fidelity, tried: found.tried }),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::bug("no family of students was tried")),
    }
}

/// The best of the students so far, and what became of each.
#[derive(Default)]
struct Found {
    best: Option<(Box<dyn Student>, Fidelity)>,
    tried: Vec<Tried>,
    first_error: Option<Error>,
}

impl Found {
    fn add(&mut self, family: &'static str, student: Result<Box<dyn Student>>, held_out: &Sample) {
        match student {
            Ok(student) => {
                let measured = fidelity(student.as_ref(), held_out);
                self.tried.push(Tried { family, fidelity: Ok(measured) });
                if self.best.as_ref().is_none_or(|(_, b)| measured.log_loss < b.log_loss - TIE) {
                    self.best = Some((student, measured));
                }
            }
            Err(error) => {
                self.tried.push(Tried { family, fidelity: Err(error.to_string()) });
                self.first_error.get_or_insert(error);
            }
        }
    }

    /// Whether that family is the best or nearly so.
    fn is_close(&self, family: &str) -> bool {
        let loss = |t: &Tried| t.fidelity.as_ref().ok().filter(|_| t.family == family).map(|f| f.log_loss);
        let own = self.tried.iter().find_map(loss);
        own.zip(self.best.as_ref()).is_some_and(|(own, (_, best))| own < best.log_loss + CLOSE)
    }
}

/// Fits one family to all rows of `train`; [`Family::Auto`] needs [`fit`].
pub fn fit_one(family: Family, train: &Sample, seed: u64, settings: &Settings) -> Result<Box<dyn Student>> {
    train.check()?;
    rayon::scope(|_| fit_after(family, &mut None, false, train, seed, settings))
}

/// [`fit_one`], which keeps the logistic student in `linear` and starts the boosted one from it, so that it
/// is fitted once; with `few` to some of many rows.
fn fit_after(
    family: Family,
    linear: &mut Option<(Logistic, f64)>,
    few: bool,
    train: &Sample,
    seed: u64,
    settings: &Settings,
) -> Result<Box<dyn Student>> {
    Ok(match family {
        Family::Logistic => Box::new(linear.insert(logistic::fit_judged(train, few)?).0.clone()),
        Family::Boosted => {
            // trees can do without a start
            let start = linear.take().or_else(|| logistic::fit_judged(train, true).ok());
            let many = train.rows() >= settings.boosted.start_rows;
            let start = start.filter(|(_, left)| many || *left <= settings.boosted.start_share);
            let start = start.map(|(start, _)| start);
            Box::new(boosted::fit(train, start, &settings.boosted)?)
        }
        Family::Forest => Box::new(forest::fit(train, seed, &settings.forest)?),
        Family::Auto => return Err(Error::bug("auto needs held-out accounts")),
    })
}

#[cfg(test)]
mod tests;
