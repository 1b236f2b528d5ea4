//! A few accounts, scored before a run: what a run would refuse after it has read everything is refused now.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::NonFinite;
use crate::lake::scan::{Accounts, joined};
use crate::relevance::maths::probability::spaced_rows;
use crate::teacher::Teacher;
use crate::teacher::encode::{Encoder, Plan};

/// Parts of the accounts that a sample is taken from.
const PLACES: usize = 8;
/// Accounts up to this many are read whole, so that they may lie in any order.
const READ_WHOLE: u64 = 500_000;
/// Units that are read where a filter leaves nothing of those places.
const SEARCHED: usize = 4;

/// Up to `count` rows from several places of the accounts, with these columns; None where a filter leaves none.
pub fn sample(accounts: &Accounts, columns: &[String], count: usize) -> Result<Option<RecordBatch>> {
    let units = accounts.units();
    let places = units.len().min(PLACES);
    let mut batches: Vec<RecordBatch> = Vec::new();
    let take = |batches: &mut Vec<RecordBatch>, batch: RecordBatch| {
        let left = count - batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        batches.push(batch.slice(0, batch.num_rows().min(left)));
        Ok(())
    };
    for place in 0..places {
        let unit = units[place * units.len() / places].head(count.div_ceil(places));
        accounts.read(&unit, columns, |batch, _| take(&mut batches, batch))?;
    }
    for unit in units.iter().take(SEARCHED) {
        if batches.is_empty() {
            accounts.read(unit, columns, |batch, _| take(&mut batches, batch))?;
        }
    }
    joined(accounts, &batches)
}

/// Up to `count` rows, evenly spaced over all that a filter leaves, none where that are none; of accounts too many
/// to be read, rows from several places. No more than twice as many are in memory.
pub fn spaced(accounts: &Accounts, columns: &[String], count: usize) -> Result<Option<RecordBatch>> {
    if accounts.stored_rows() > READ_WHOLE {
        return sample(accounts, columns, count);
    }
    let (mut kept, mut rows, mut seen, mut step) = (Vec::new(), 0, 0, 1);
    for unit in accounts.units() {
        accounts.read(unit, columns, |batch, _| {
            // of all rows every `step`th is kept
            let batch_kept = taken(&batch, (0..batch.num_rows()).filter(|i| (seen + i) % step == 0))?;
            seen += batch.num_rows();
            rows += batch_kept.num_rows();
            kept.push(batch_kept);
            while rows > 2 * count {
                let all = joined(accounts, &kept)?.ok_or_else(|| Error::bug("rows without a batch"))?;
                kept = vec![taken(&all, (0..all.num_rows()).step_by(2))?];
                (rows, step) = (rows.div_ceil(2), 2 * step);
            }
            Ok(())
        })?;
    }
    let Some(all) = joined(accounts, &kept)?.filter(|all| all.num_rows() > 0) else { return Ok(None) };
    taken(&all, spaced_rows(all.num_rows(), count)).map(Some)
}

/// Those rows of the batch.
fn taken(batch: &RecordBatch, places: impl IntoIterator<Item = usize>) -> Result<RecordBatch> {
    let places = UInt32Array::from_iter_values(places.into_iter().map(|i| i as u32));
    take_record_batch(batch, &places).map_err(|e| Error::bug(e.to_string()))
}

/// The rows as the features of teachers.
pub fn decode(accounts: &Accounts, batch: &RecordBatch, features: &[Feature]) -> Result<Block> {
    let mut odd = vec![NonFinite::default(); features.len()];
    Block::decode(batch, features, &mut odd).map_err(|e| e.file(accounts.place()))
}

/// A teacher's probabilities of the rows, row-major `[rows, classes]`.
pub fn scores(teacher: &Teacher, plan: &Plan, encoder: &Encoder, block: &Block) -> Result<Vec<f64>> {
    let mut out = vec![0.0; block.rows * teacher.classes()];
    let score = teacher.score(encoder, block, &plan.encode(block), &mut out);
    score.map_err(|e| e.with("teacher", teacher.name())).map(|()| out)
}
