//! Scores of accounts by columns, as fusion reads them.

use crate::relevance::maths::real::Lanes;

/// Raw scores `[K, C]`, behind them those of the pooled teacher where there is one, and support `[K]`, each a
/// column of as many rows.
#[derive(Debug, Clone, Default)]
pub struct Columns<'a> {
    pub raw: Vec<&'a [f64]>,
    pub support: Vec<&'a [f64]>,
}

impl<'a> Columns<'a> {
    pub fn rows(&self) -> usize {
        self.support.first().map_or(0, |s| s.len())
    }

    /// The first rows, no more than `most`.
    pub fn first(&self, most: usize) -> Columns<'a> {
        let cut = |columns: &[&'a [f64]]| columns.iter().map(|c| &c[..most.min(c.len())]).collect();
        Columns { raw: cut(&self.raw), support: cut(&self.support) }
    }

    /// The columns without those of teacher `k`. The pooled teacher, the last, has scores alone.
    pub fn without(&self, k: usize, classes: usize) -> Columns<'a> {
        let left = |columns: &[&'a [f64]], width: usize| {
            let gone = k * width..(k + 1) * width;
            columns.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, c)| *c).collect()
        };
        Columns { raw: left(&self.raw, classes), support: left(&self.support, 1) }
    }

    /// One row: its raw scores and its support.
    pub fn row(&self, i: usize) -> (Vec<f64>, Vec<f64>) {
        let of = |columns: &[&[f64]]| columns.iter().map(|c| c[i]).collect();
        (of(&self.raw), of(&self.support))
    }

    /// Rows `first..` side by side.
    pub fn load(&self, first: usize, raw: &mut Vec<Lanes>, support: &mut Vec<Lanes>) {
        raw.clear();
        raw.extend(self.raw.iter().map(|c| Lanes::load(c, first)));
        support.clear();
        support.extend(self.support.iter().map(|c| Lanes::load(c, first)));
    }
}

/// Columns of scores with their values.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnColumns {
    pub raw: Vec<Vec<f64>>,
    pub support: Vec<Vec<f64>>,
}

impl OwnColumns {
    pub fn columns(&self) -> Columns<'_> {
        Columns {
            raw: self.raw.iter().map(Vec::as_slice).collect(),
            support: self.support.iter().map(Vec::as_slice).collect(),
        }
    }
}
