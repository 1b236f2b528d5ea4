//! A few accounts, scored before a run: what a run would refuse after it has read everything is refused now.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::NonFinite;
use crate::lake::scan::Accounts;
use crate::teacher::encode::{Encoder, Plan};
use crate::teacher::{Teacher, Workspace};

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
    join(accounts, &batches)
}

fn join(accounts: &Accounts, batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let joined = concat_batches(&first.schema(), batches);
    joined.map(Some).map_err(|e| Error::data(format!("cannot join batches: {e}")).file(accounts.place()))
}

/// Up to `count` rows, evenly spaced over all accounts; where they are too many to be read, from several places. None
/// where a filter leaves none.
pub fn spaced(accounts: &Accounts, columns: &[String], count: usize) -> Result<Option<RecordBatch>> {
    if accounts.stored_rows() > READ_WHOLE {
        return sample(accounts, columns, count);
    }
    let mut batches = Vec::new();
    for unit in accounts.units() {
        accounts.read(unit, columns, |batch, _| {
            batches.push(batch);
            Ok(())
        })?;
    }
    let Some(all) = join(accounts, &batches)? else { return Ok(None) };
    let step = all.num_rows().div_ceil(count).max(1);
    let places = UInt32Array::from_iter_values((0..all.num_rows() as u32).step_by(step));
    let taken = take_record_batch(&all, &places).map_err(|e| Error::bug(e.to_string()))?;
    Ok((taken.num_rows() > 0).then_some(taken))
}

/// The rows as the features of teachers.
pub fn decode(accounts: &Accounts, batch: &RecordBatch, features: &[Feature]) -> Result<Block> {
    let mut odd = vec![NonFinite::default(); features.len()];
    Block::decode(batch, features, &mut odd).map_err(|e| e.file(accounts.place()))
}

/// A teacher's probabilities of the rows, row-major `[rows, classes]`.
pub fn scores(teacher: &Teacher, plan: &Plan, encoder: &Encoder, block: &Block) -> Result<Vec<f64>> {
    let mut out = vec![0.0; block.rows * teacher.classes()];
    let score = teacher.score(encoder, block, &plan.encode(block), &mut Workspace::default(), &mut out);
    score.map_err(|e| e.with("teacher", teacher.name())).map(|()| out)
}
