//! The teachers, own-calibrated, on each other's histories: all that training needs.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::models::trees::simd::vectorised;
use crate::relevance::maths::probability::{CALIBRATED_FLOOR, SHARE_FLOOR, floor, softmax, spaced_rows};
use crate::relevance::maths::real::{LANES, Lanes, Real};
use crate::relevance::transfer::calibrate::{Calibration, Part, foreign_slope, own_calibration};
use crate::relevance::transfer::reliability::Tables;

const SOURCE_ROWS: usize = 400;
const SOURCE_WEIGHT: f64 = 200.0;
/// Rows of a history that stand for it when it plays the target.
pub const PSEUDO_ROWS: usize = 300;

/// A teacher as it comes.
#[derive(Debug, Clone)]
pub struct Teacher {
    pub name: String,
    /// Labelled rows that trained its model.
    pub rows: u64,
    pub history: Option<Known>,
}

/// What is known of a labelled history.
#[derive(Debug, Clone)]
pub enum Known {
    Rows(History),
    /// Its rows may not leave their owner.
    Tables(Tables),
}

/// A labelled history with what every teacher says of it.
#[derive(Debug, Clone)]
pub struct History {
    /// Class of each row, an index into the target's classes.
    pub labels: Vec<u16>,
    /// Rows that did not train the teacher's own model; all false is as none.
    pub held_out: Option<Vec<bool>>,
    /// Raw scores of each teacher over the target's classes, `[K]` of `[n, C]`.
    pub scores: Vec<Vec<f64>>,
    /// s of the rows that stand for the history, those of [`pseudo_rows`], `[m, K]`.
    pub support: Vec<f64>,
}

/// The rows of a history of `rows` rows that stand for it when it plays the target.
pub fn pseudo_rows(rows: usize) -> Vec<usize> {
    spaced_rows(rows, PSEUDO_ROWS)
}

/// The teachers, own-calibrated, on all histories.
#[derive(Debug)]
pub struct SourceScores {
    pub classes: usize,
    pub names: Vec<String>,
    /// ln n_k, n_k clipped to [100, 10000].
    pub log_rows: Vec<f64>,
    pub calibrations: Vec<Calibration>,
    histories: Vec<Option<Source>>,
}

/// A history with own-calibrated scores.
#[derive(Debug)]
enum Source {
    Rows(Calibrated),
    Tables(Tables),
}

#[derive(Debug)]
struct Calibrated {
    labels: Vec<u16>,
    held_out: Option<Vec<usize>>,
    /// ln of own-calibrated scores, `[K]` of `[n, C]`.
    ln_own: Vec<Vec<f64>>,
    /// s of the pseudo rows `[m, K]`.
    support: Vec<f64>,
    pseudo_rows: Vec<usize>,
    /// Raw scores on the pseudo rows, `[K]` of `[m, C]`.
    pseudo_raw: Vec<Vec<f64>>,
}

impl SourceScores {
    /// Calibrates every teacher on its own held-out rows; the scores are turned into calibrated ones in
    /// place.
    pub fn new(teachers: Vec<Teacher>, classes: usize) -> Result<Self> {
        let count = teachers.len();
        for teacher in &teachers {
            teacher.check(count, classes)?;
        }
        let names = teachers.iter().map(|t| t.name.clone()).collect();
        let log_rows = teachers.iter().map(|t| (t.rows as f64).clamp(100.0, 10_000.0).ln()).collect();
        let calibrations: Vec<Calibration> =
            teachers.par_iter().enumerate().map(|(k, t)| t.calibration(k, classes)).collect();
        let source = |known: Known| match known {
            Known::Rows(history) => Source::Rows(Calibrated::new(history, &calibrations, classes)),
            Known::Tables(mut tables) => {
                tables.calibrate(&calibrations);
                Source::Tables(tables)
            }
        };
        let histories = teachers.into_par_iter().map(|t| t.history.map(source)).collect();
        Ok(SourceScores { classes, names, log_rows, calibrations, histories })
    }

    /// Teachers K.
    pub fn teachers(&self) -> usize {
        self.names.len()
    }

    /// Whether teacher `k` has a labelled history.
    pub fn learned(&self, k: usize) -> bool {
        self.histories[k].is_some()
    }

    /// The rows of history `q` that stand for it, and their labels; none where there are no rows.
    pub fn pseudo_target(&self, q: usize) -> Option<PseudoRows<'_>> {
        match self.histories[q].as_ref()? {
            Source::Rows(history) => Some(PseudoRows { classes: self.classes, history }),
            Source::Tables(_) => None,
        }
    }

    /// Rows that may judge teacher `k` on history `q`: those held out at home, all abroad.
    fn judges<'a>(history: &'a Calibrated, home: bool) -> Rows<'a> {
        match &history.held_out {
            Some(rows) if home => Rows::Some(rows),
            _ => Rows::All(history.labels.len()),
        }
    }

    /// Foreign slope of teacher `k` from the histories of `sources`; 1 for a teacher without history (step
    /// 3).
    pub(super) fn slope(&self, k: usize, sources: &[usize]) -> f64 {
        if !self.learned(k) {
            return 1.0;
        }
        let parts: Vec<Part> = sources
            .iter()
            .filter_map(|&q| self.histories[q].as_ref().map(|h| (q, h)))
            .flat_map(|(q, h)| match h {
                Source::Rows(history) => self.part(k, q == k, history).into_iter().collect(),
                Source::Tables(tables) => tables.parts(k, SOURCE_WEIGHT),
            })
            .collect();
        foreign_slope(&parts, self.classes)
    }

    fn part(&self, k: usize, home: bool, history: &Calibrated) -> Option<Part> {
        let judges = Self::judges(history, home);
        let rows: Vec<usize> =
            spaced_rows(judges.len(), SOURCE_ROWS).into_iter().map(|i| judges.at(i)).collect();
        let ln_own = rows
            .iter()
            .flat_map(|r| &history.ln_own[k][r * self.classes..(r + 1) * self.classes])
            .copied()
            .collect();
        let weight = SOURCE_WEIGHT / rows.len() as f64;
        (!rows.is_empty()).then(|| Part {
            ln_own,
            labels: rows.iter().map(|r| history.labels[*r]).collect(),
            weight,
        })
    }

    /// Log-loss of teacher `k` under a foreign slope on history `q`, none without one, or without a table of
    /// this teacher.
    pub(super) fn cross_loss(&self, k: usize, slope: f64, q: usize) -> Option<f64> {
        let history = match self.histories[q].as_ref()? {
            Source::Rows(history) => history,
            Source::Tables(tables) => return tables.cross_loss(k, slope),
        };
        let judges = Self::judges(history, k == q);
        let (classes, ln_own) = (self.classes, &history.ln_own[k]);
        let mut p = vec![Lanes::default(); classes];
        let (mut sum, mut product) = (0.0, Lanes::splat(1.0));
        for first in (0..judges.len()).step_by(LANES) {
            let count = LANES.min(judges.len() - first);
            for i in 0..count {
                let row = judges.at(first + i) * classes;
                let z = &ln_own[row..row + classes];
                p.iter_mut().zip(z).for_each(|(p, z)| p.0[i] = slope * z);
            }
            let total = vectorised(
                #[inline(always)]
                || floored(&mut p),
            );
            for i in 0..count {
                let y = history.labels[judges.at(first + i)];
                product.0[i] *= total.0[i] / p[usize::from(y)].0[i];
            }
            // One logarithm serves many rows; a factor is at most about 1 / .001, so thirty of them are far
            // from overflow.
            if first / LANES % 30 == 29 {
                sum += product.ln().rows().iter().sum::<f64>();
                product = Lanes::splat(1.0);
            }
        }
        Some((sum + product.ln().rows().iter().sum::<f64>()) / judges.len() as f64)
    }

    /// Class shares `[C]` of history `k`, at least .01.
    pub(super) fn share(&self, k: usize) -> Option<Vec<f64>> {
        let labels = match self.histories[k].as_ref()? {
            Source::Rows(history) => &history.labels,
            Source::Tables(tables) => return Some(tables.share()),
        };
        let mut share = vec![0.0; self.classes];
        labels.iter().for_each(|y| share[usize::from(*y)] += 1.0 / labels.len() as f64);
        floor(&mut share, SHARE_FLOOR);
        Some(share)
    }
}

/// Logits to max(softmax, .001), in place; returns their sum, by which they are to be divided.
#[inline(always)]
fn floored(p: &mut [Lanes]) -> Lanes {
    softmax(p);
    p.iter_mut().fold(Lanes::default(), |sum, p| {
        *p = p.at_least(Lanes::splat(CALIBRATED_FLOOR));
        sum + *p
    })
}

enum Rows<'a> {
    All(usize),
    Some(&'a [usize]),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Rows::All(n) => *n,
            Rows::Some(rows) => rows.len(),
        }
    }

    fn at(&self, i: usize) -> usize {
        match self {
            Rows::All(_) => i,
            Rows::Some(rows) => rows[i],
        }
    }
}

impl Teacher {
    fn check(&self, teachers: usize, classes: usize) -> Result<()> {
        let h = match &self.history {
            None => return Ok(()),
            Some(Known::Rows(history)) => history,
            Some(Known::Tables(t)) => {
                let fits = t.tables.len() == teachers
                    && t.counts.len() == classes
                    && t.calibration.bias.len() == classes;
                let mut tables = t.tables.iter().flatten();
                return match fits
                    && tables.all(|t| {
                        t.scores.len() == t.labels.len() * classes && t.weights.len() == t.labels.len()
                    }) {
                    true => Ok(()),
                    false => Err(Error::bug(format!(
                        "the tables of the history of teacher {} do not fit together",
                        self.name
                    ))),
                };
            }
        };
        let n = h.labels.len();
        if n == 0 {
            return Err(Error::data(format!("the history of teacher {} has no rows", self.name)));
        }
        if h.labels.iter().any(|y| usize::from(*y) >= classes) {
            return Err(Error::data(format!(
                "the history of teacher {} has a label outside the {classes} classes",
                self.name
            )));
        }
        let fits = h.scores.len() == teachers
            && h.scores.iter().all(|s| s.len() == n * classes)
            && h.support.len() == pseudo_rows(n).len() * teachers;
        if !fits || h.held_out.as_ref().is_some_and(|held| held.len() != n) {
            return Err(Error::bug(format!(
                "scores, support and labels of the history of teacher {} do not fit together",
                self.name
            )));
        }
        match h.scores.iter().position(|s| s.iter().any(|p| !p.is_finite())) {
            Some(k) => Err(Error::data(format!(
                "teacher number {} gives a score that is not finite on the history of {}",
                k + 1,
                self.name
            ))),
            None => Ok(()),
        }
    }

    fn calibration(&self, k: usize, classes: usize) -> Calibration {
        let held = match &self.history {
            Some(Known::Tables(tables)) => return tables.calibration.clone(),
            Some(Known::Rows(history)) => history.held_rows().map(|rows| (history, rows)),
            None => None,
        };
        let Some((h, rows)) = held else { return Calibration::identity(classes) };
        let raw: Vec<f64> =
            rows.iter().flat_map(|r| &h.scores[k][r * classes..(r + 1) * classes]).copied().collect();
        let labels: Vec<u16> = rows.iter().map(|r| h.labels[*r]).collect();
        own_calibration(&raw, &labels, classes)
    }
}

impl History {
    fn held_rows(&self) -> Option<Vec<usize>> {
        let rows: Vec<usize> =
            self.held_out.iter().flatten().enumerate().filter_map(|(i, held)| held.then_some(i)).collect();
        (!rows.is_empty()).then_some(rows)
    }
}

impl Calibrated {
    fn new(history: History, calibrations: &[Calibration], classes: usize) -> Self {
        let held_out = history.held_rows();
        let pseudo_rows = pseudo_rows(history.labels.len());
        let pick = |s: &Vec<f64>| {
            pseudo_rows.iter().flat_map(|r| &s[r * classes..(r + 1) * classes]).copied().collect()
        };
        let pseudo_raw = history.scores.iter().map(pick).collect();
        let mut ln_own = history.scores;
        ln_own.iter_mut().zip(calibrations).for_each(|(scores, c)| c.apply_ln(scores));
        Calibrated {
            labels: history.labels,
            held_out,
            ln_own,
            support: history.support,
            pseudo_rows,
            pseudo_raw,
        }
    }
}

/// The at most 300 rows of a history on which it plays the target.
#[derive(Debug, Clone, Copy)]
pub struct PseudoRows<'a> {
    classes: usize,
    history: &'a Calibrated,
}

impl PseudoRows<'_> {
    pub fn len(&self) -> usize {
        self.history.pseudo_rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.history.pseudo_rows.is_empty()
    }

    pub fn labels(&self) -> Vec<u16> {
        self.history.pseudo_rows.iter().map(|r| self.history.labels[*r]).collect()
    }

    /// ln of own-calibrated scores of teacher `k` on row `i`, `[C]`.
    pub fn ln_own(&self, i: usize, k: usize) -> &[f64] {
        let row = self.history.pseudo_rows[i];
        &self.history.ln_own[k][row * self.classes..(row + 1) * self.classes]
    }

    /// Raw scores of teacher `k` on row `i`, `[C]`.
    pub fn raw(&self, i: usize, k: usize) -> &[f64] {
        &self.history.pseudo_raw[k][i * self.classes..(i + 1) * self.classes]
    }

    /// s of row `i` for every teacher, `[K]`.
    pub fn support(&self, i: usize) -> &[f64] {
        let width = self.history.ln_own.len();
        &self.history.support[i * width..(i + 1) * width]
    }
}
