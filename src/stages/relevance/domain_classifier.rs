//! A rival measure of relevance: can a linear classifier tell a teacher's history from the target?
//!
//! linfa-logistic is fitted to half of some rows of both and judged on the other half by the area under the
//! ROC curve: 0.5 where the two look the same to it, 1 where it never errs. It stands in the `relevance`
//! table beside the distances.

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use rayon::prelude::*;
use serde_json::json;

use crate::error::{Error, Result};
use crate::features::coded::{CodedFeature, coded_columns};
use crate::lake::part;
use crate::relevance::maths::probability::{rows_within, spaced_rows};
use crate::run::context::Run;
use crate::sources::history;
use crate::stages::artifacts::{Profile, SAMPLE};
use crate::stages::fit;
use crate::student::{self, Sample, Student};

/// Rows of each side, and columns, evenly spaced: its solver takes as long as thousands of columns are wide.
const ROWS: usize = 2000;
const COLUMNS: usize = 400;

/// The area for each active teacher; none without history, or where no classifier could be fitted.
pub fn areas(run: &Run, active: &[usize], profile: &Profile) -> Result<Vec<Option<f64>>> {
    let chosen = spaced_rows(profile.student.len(), COLUMNS);
    let features: Vec<CodedFeature> = chosen.iter().map(|j| profile.student[*j].clone()).collect();
    let target = target_rows(run, &chosen)?;
    active.par_iter().with_max_len(1).map(|&k| area_of(run, k, &features, &target)).collect()
}

fn target_rows(run: &Run, chosen: &[usize]) -> Result<Vec<Vec<f32>>> {
    let mut columns = vec![Vec::new(); chosen.len()];
    for unit in run.pieces() {
        part::read(&SAMPLE.part(run, unit), |batch| {
            for (column, place) in columns.iter_mut().zip(chosen) {
                let array = batch
                    .column(*place)
                    .as_primitive_opt::<Float32Type>()
                    .ok_or_else(|| Error::bug("a column of the sample is not float32"))?;
                column.extend_from_slice(array.values());
            }
            Ok(())
        })?;
    }
    Ok(thin(&columns))
}

/// At most [`ROWS`] rows, evenly spaced.
fn thin(columns: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let rows = spaced_rows(columns.first().map_or(0, Vec::len), ROWS);
    columns.iter().map(|c| rows.iter().map(|i| c[*i]).collect()).collect()
}

fn area_of(run: &Run, k: usize, features: &[CodedFeature], target: &[Vec<f32>]) -> Result<Option<f64>> {
    let teacher = &run.inputs.teachers[k];
    let non_finite = run.pipeline.target.non_finite;
    let Some(history) = history::open(teacher, &run.inputs.features, non_finite)? else { return Ok(None) };
    let mut columns = vec![Vec::new(); features.len()];
    let (chosen, mut first) = (spaced_rows(history.rows(), ROWS), 0);
    history.blocks(|block| {
        let rows = rows_within(&chosen, first..first + block.rows);
        first += block.rows;
        let more = coded_columns(features, &run.inputs.features, &block.take(&rows))?;
        columns.iter_mut().zip(more).for_each(|(column, more)| column.extend(more));
        Ok(())
    })?;
    let history = columns;
    let rows = [history.first().map_or(0, Vec::len), target.first().map_or(0, Vec::len)];
    let kinds: Vec<student::Kind> = features.iter().map(fit::student_kind).collect();
    let half = |odd: usize| -> Vec<Vec<f32>> {
        let pick = |c: &Vec<f32>| c.iter().skip(odd).step_by(2).copied().collect::<Vec<f32>>();
        history.iter().zip(target).map(|(h, t)| [pick(h), pick(t)].concat()).collect()
    };
    let count = |side: usize, odd: usize| (rows[side] + 1 - odd) / 2;
    let soft: Vec<f64> = [[1.0, 0.0].repeat(count(0, 0)), [0.0, 1.0].repeat(count(1, 0))].concat();
    let (train, test) = (half(0), half(1));
    let columns: Vec<&[f32]> = train.iter().map(Vec::as_slice).collect();
    let weights = vec![1.0; soft.len() / 2];
    let sample = Sample { columns: &columns, kinds: &kinds, soft: &soft, weights: &weights, classes: 2 };
    let model = match student::sampled::fit(&sample, 0) {
        Ok(model) => model,
        Err(e) => {
            run.log.info(
                "relevance",
                "no domain classifier",
                json!({"teacher": teacher.name(), "why": e.message()}),
            );
            return Ok(None);
        }
    };
    let columns: Vec<&[f32]> = test.iter().map(Vec::as_slice).collect();
    let mut p = vec![0.0; 2 * (count(0, 1) + count(1, 1))];
    model.predict(&columns, &mut p);
    let (ours, theirs): (Vec<_>, Vec<_>) =
        p.chunks_exact(2).map(|p| p[1]).enumerate().partition(|(i, _)| *i >= count(0, 1));
    Ok(roc_auc(
        &theirs.into_iter().map(|p| p.1).collect::<Vec<_>>(),
        &ours.into_iter().map(|p| p.1).collect::<Vec<_>>(),
    ))
}

/// P(score of a positive > score of a negative) + half of P(equal); none where a side is empty.
pub fn roc_auc(negatives: &[f64], positives: &[f64]) -> Option<f64> {
    let mut sorted = negatives.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let wins: f64 = positives
        .iter()
        .map(|p| (sorted.partition_point(|n| n < p) + sorted.partition_point(|n| n <= p)) as f64 / 2.0)
        .sum();
    let pairs = (negatives.len() * positives.len()) as f64;
    (pairs > 0.0).then_some(wins / pairs)
}

#[cfg(test)]
mod tests {
    use super::roc_auc;

    #[test]
    fn the_area_counts_ordered_pairs_and_halves_ties() {
        assert_eq!(roc_auc(&[0.1, 0.2], &[0.3, 0.4]), Some(1.0));
        assert_eq!(roc_auc(&[0.1, 0.5], &[0.5, 0.4]), Some(0.625));
        assert_eq!(roc_auc(&[0.3; 3], &[0.3; 2]), Some(0.5));
        assert_eq!(roc_auc(&[], &[0.3]), None);
    }
}
