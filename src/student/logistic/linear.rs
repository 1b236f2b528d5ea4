//! The fitted function: one linear function for each class over the columns as they come, then softmax.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::student::contract::Student;
use crate::student::numeric::softmax;
use crate::student::sample::{Kind, level, readable};
use crate::student::saved::{Linear, Model, Saved, Term};

/// A multinomial logistic regression over raw columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    kinds: Vec<Kind>,
    bias: Vec<f64>,
    terms: Vec<Term>,
    /// For each category column the place in its term of every level up to the last that has one.
    places: Vec<Vec<Option<u32>>>,
}

/// Rows that one task predicts.
const BLOCK: usize = 2048;

impl Logistic {
    /// Refuses terms that do not fit the columns and classes, and numbers that are not finite (65).
    pub(crate) fn new(kinds: Vec<Kind>, classes: usize, bias: Vec<f64>, terms: Vec<Term>) -> Result<Self> {
        if classes < 2
            || kinds.is_empty()
            || bias.len() != classes
            || terms.len() != kinds.len()
            || !finite(&bias)
        {
            return Err(Error::data(
                "the logistic student is broken: columns, classes and weights do not agree",
            ));
        }
        let places = kinds
            .iter()
            .zip(&terms)
            .map(|(kind, term)| places(*kind, term, classes))
            .collect::<Result<_>>()?;
        Ok(Logistic { kinds, bias, terms, places })
    }

    /// The constant of each class.
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// What each column adds.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The serialisable form of its functions.
    pub(crate) fn linear(&self) -> Linear {
        Linear { bias: self.bias.clone(), terms: self.terms.clone() }
    }

    /// Writes the logits, row-major [n, classes], of columns that hold nothing but finite numbers, levels and
    /// NaN.
    pub(crate) fn logits(&self, columns: &[&[f32]], out: &mut [f64]) {
        out.chunks_exact_mut(self.bias.len()).for_each(|row| row.copy_from_slice(&self.bias));
        columns.iter().enumerate().for_each(|(j, column)| self.add(j, column, out));
    }

    /// Adds the terms of one column to the logits [rows, classes].
    fn add(&self, j: usize, column: &[f32], out: &mut [f64]) {
        if let (2, Term::Number { mean, deviation, weight, null }) = (self.bias.len(), &self.terms[j]) {
            // a number of two classes, as nearly all are: the same without a branch or a loop over classes
            let null = null.as_deref().unwrap_or(&[0.0, 0.0]);
            for (row, &x) in out.as_chunks_mut::<2>().0.iter_mut().zip(column) {
                let known = !x.is_nan();
                let x = (f64::from(x) - mean) / deviation;
                row[0] += if known { weight[0] * x } else { null[0] };
                row[1] += if known { weight[1] * x } else { null[1] };
            }
            return;
        }
        let rows = out.chunks_exact_mut(self.bias.len()).zip(column);
        let add = |row: &mut [f64], by: &[f64], times: f64| {
            row.iter_mut().zip(by).for_each(|(z, w)| *z += w * times)
        };
        match &self.terms[j] {
            Term::Nothing => {}
            Term::Number { mean, deviation, weight, null } => rows.for_each(|(row, &x)| {
                if !x.is_nan() {
                    add(row, weight, (f64::from(x) - mean) / deviation);
                } else if let Some(null) = null {
                    add(row, null, 1.0);
                }
            }),
            Term::Category { weights, .. } => rows.for_each(|(row, &x)| {
                if let Some(place) = level(x, self.places[j].len()).and_then(|at| self.places[j][at]) {
                    add(row, &weights[place as usize], 1.0);
                }
            }),
        }
    }
}

impl Student for Logistic {
    fn family(&self) -> &'static str {
        "logistic"
    }

    fn classes(&self) -> usize {
        self.bias.len()
    }

    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn predict(&self, columns: &[&[f32]], out: &mut [f64]) {
        let classes = self.bias.len();
        let Some(columns) = readable(columns, &self.kinds, out.len() / classes) else {
            out.fill(f64::NAN);
            return;
        };
        out.par_chunks_mut(BLOCK * classes).enumerate().for_each(|(block, out)| {
            let rows = block * BLOCK..block * BLOCK + out.len() / classes;
            self.logits(&columns.iter().map(|c| &c[rows.clone()]).collect::<Vec<_>>(), out);
            out.chunks_exact_mut(classes).for_each(softmax);
        });
    }

    fn saved(&self) -> Saved {
        Saved::of("logistic", &self.kinds, self.classes(), Model::Logistic(self.linear()))
    }
}

/// Larger numbers could overflow in a sum of terms.
const LARGEST: f64 = 1e60;

fn finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.abs() <= LARGEST)
}

fn places(kind: Kind, term: &Term, classes: usize) -> Result<Vec<Option<u32>>> {
    let bad = || Error::data("the logistic student is broken: a term does not fit its column");
    let list = |w: &Vec<f64>| w.len() == classes && finite(w);
    match (kind, term) {
        (_, Term::Nothing) => Ok(Vec::new()),
        (Kind::Number, Term::Number { mean, deviation, weight, null }) => {
            let scale = finite(&[*mean, *deviation]) && *deviation >= 1e-60;
            if scale && list(weight) && null.as_ref().is_none_or(list) { Ok(Vec::new()) } else { Err(bad()) }
        }
        (Kind::Category { levels: count }, Term::Category { levels, weights }) => {
            if levels.len() != weights.len()
                || !weights.iter().all(list)
                || levels.iter().any(|l| *l as usize >= count)
            {
                return Err(bad());
            }
            let mut places = vec![None; levels.iter().max().map_or(0, |l| *l as usize + 1)];
            for (place, level) in levels.iter().enumerate() {
                let slot = places.get_mut(*level as usize).ok_or_else(bad)?;
                if slot.replace(place as u32).is_some() {
                    return Err(bad());
                }
            }
            Ok(places)
        }
        _ => Err(bad()),
    }
}
