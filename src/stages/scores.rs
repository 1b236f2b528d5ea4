//! The target's scores as the stages after scoring read them: batch by batch, row by row.

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::Result;
use crate::lake::part;
use crate::relevance::fusion::columns::Columns;
use crate::relevance::fusion::fuse::Fuser;
use crate::relevance::profile::distance::Distances;
use crate::relevance::training::calculator::Calculator;
use crate::run::context::Run;
use crate::run::fold::{self, State};
use crate::stages::artifacts::{CALCULATOR, COUNTED_PROFILE, FUSION, Fusion, SCORES, Scored};

/// The column of the share of features that an account has.
pub const KNOWN: &str = "known";

/// Columns of the scores of `teachers` teachers.
pub fn score_names(teachers: usize, classes: usize) -> (Vec<String>, Vec<String>) {
    let scores = (0..teachers).flat_map(|k| (0..classes).map(move |c| format!("t{k}_{c}"))).collect();
    (scores, (0..teachers).map(|k| format!("s{k}")).collect())
}

/// Columns of the scores of the pooled teacher.
pub fn pooled_names(classes: usize) -> Vec<String> {
    (0..classes).map(|c| format!("pooled_{c}")).collect()
}

/// The scores of one batch of accounts.
pub struct Scores<'a> {
    pub id: &'a ArrayRef,
    pub columns: Columns<'a>,
}

impl<'a> Scores<'a> {
    pub fn of(batch: &'a RecordBatch, teachers: usize, classes: usize) -> Result<Scores<'a>> {
        let (mut scores, supports) = score_names(teachers, classes);
        scores.extend(pooled_names(classes).into_iter().filter(|n| batch.column_by_name(n).is_some()));
        Ok(Scores {
            id: batch.column(0),
            columns: Columns {
                raw: scores.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
                support: supports.iter().map(|n| part::floats(batch, n)).collect::<Result<_>>()?,
            },
        })
    }
}

/// Raw scores `[K, C]`, behind them those of the pooled teacher, and support `[K]` of an account.
pub type Row = (Vec<f64>, Vec<f64>);

/// The row without teacher `k`. The pooled teacher, the last, has scores alone.
pub fn without((raw, s): &Row, k: usize, classes: usize) -> Row {
    let left = |values: &[f64], width: usize| match values.len() > k * width {
        true => [&values[..k * width], &values[(k + 1) * width..]].concat(),
        false => values.to_vec(),
    };
    (left(raw, classes), left(s, 1))
}

/// Folds the target's scores, pieces of rows side by side.
pub fn over_scores<S: State>(
    run: &Run,
    scored: &Scored,
    empty: impl Fn() -> S + Sync,
    add: impl Fn(&Scores, &mut S) -> Result<()> + Sync,
) -> Result<S> {
    let (teachers, classes) = (scored.active.len(), run.pipeline.classes.len());
    fold::over(run.pieces(), empty, |piece, state| {
        part::read(&SCORES.part(run, piece), |batch| add(&Scores::of(&batch, teachers, classes)?, state))
    })
}

/// What makes soft labels, as the relevance stage left it.
pub fn load_fuser(run: &Run) -> Result<(Calculator, Distances, Fuser, Fusion)> {
    let calculator = CALCULATOR.load(run.directory)?;
    let fusion = FUSION.load(run.directory)?;
    let profile = COUNTED_PROFILE.load(run.directory)?;
    let distances = Distances::new(&profile.profiles);
    let fuser = fusion.fuser(&calculator, &distances)?;
    Ok((calculator, distances, fuser, fusion))
}
