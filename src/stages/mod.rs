//! The six steps of the job. Each reads what the steps before it left in the run directory and leaves its own
//! output there.
//!
//! | step | stage | leaves |
//! |---|---|---|
//! | 1 | [`profile`] | the features of target and histories on common bins |
//! | 2 | [`score`] | every teacher's probabilities and support on every account; the student's training sample |
//! | 3 | [`relevance`] | the trained calculator, what fuses the scores, and `relevance_verdict`, `relevance_drop_one`, `relevance_rehearsal` |
//! | 4 | [`fuse`] | `soft_labels`, `relevance`, `relevance_features`, `risk_coverage` |
//! | 5 | [`fit`] | `student` |
//! | 6 | [`classify`] | `classification` |

pub mod artifacts;
pub mod classify;
pub mod fit;
pub mod fuse;
pub mod profile;
pub mod relevance;
pub mod score;
pub mod scores;

use std::path::Path;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::lake::part::{Part, Use};
use crate::run::context::Run;
use crate::run::stage::Stage;
use crate::stages::artifacts::part_name;

/// Does the work of a stage; what it leaves counts once its record is written.
pub fn work(stage: Stage, run: &Run) -> Result<()> {
    match stage {
        Stage::Profile => profile::run(run),
        Stage::Score => score::run(run),
        Stage::Relevance => relevance::run(run),
        Stage::Fuse => fuse::run(run),
        Stage::Fit => fit::run(run),
        Stage::Classify => classify::run(run),
    }
}

/// Writes a small table as one part of `folder`, to be published under the run's id.
pub fn write_table(run: &Run, folder: &Path, batch: &RecordBatch) -> Result<()> {
    let mut part = Part::create(
        run.directory.store,
        &folder.join(part_name(0, Some(run.id()))),
        &batch.schema(),
        Use::Published,
    )?;
    part.write(batch)?;
    part.finish()
}
