//! The six steps of the job. Each reads what the steps before it left in the run directory and leaves its own output there.
//!
//! | step | stage | leaves |
//! |---|---|---|
//! | 1 | [`profile`] | the features of target and histories on common bins |
//! | 2 | [`score`] | every teacher's probabilities and support on every account; the student's training sample |
//! | 3 | [`relevance`] | the trained calculator, what fuses the scores, and `relevance_verdict`, `relevance_drop_one`, `relevance_rehearsal` |
//! | 4 | [`fuse`] | `soft_labels`, `relevance`, `relevance_features`, `risk_coverage` |
//! | 5 | [`fit`] | `student` |
//! | 6 | [`classify`] | `classification` |

pub mod advise;
mod base_rate;
pub mod calculator_file;
pub mod classify;
mod domain;
pub mod evaluate;
pub mod explain;
pub mod findings;
pub mod fit;
pub mod fuse;
pub mod gates;
pub mod histories;
pub mod profile;
pub mod relevance;
mod risk;
pub mod score;
mod shared;
pub mod sketch_file;
mod sketch_labels;
mod student_bundle;
pub mod train;
pub mod verify;

use std::path::Path;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::lake::part::{Part, Use};
use crate::run::job::Run;

/// Name of the file of unit or part `index`; for published files with the run's id.
pub fn part_name(index: usize, run: Option<&str>) -> String {
    match run {
        Some(run) => format!("part-{index:05}-{run}.parquet"),
        None => format!("part-{index:05}.parquet"),
    }
}

/// Writes a small table as one part of `folder`, to be published under the run's id.
fn write_table(run: &Run, folder: &Path, batch: &RecordBatch) -> Result<()> {
    let mut part = Part::create(run.directory.store, &folder.join(part_name(0, Some(run.id()))), &batch.schema(), Use::Published)?;
    part.write(batch)?;
    part.finish()
}
