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
mod pieces;
pub mod profile;
pub mod relevance;
pub mod score;
pub mod scores;
mod state;

use std::ops::Range;
use std::path::Path;

use arrow::array::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::lake::part::{Part, Purpose};
use crate::run::context::Run;
use crate::run::fold::State;
use crate::run::stage::Stage;
use crate::stages::artifacts::part_name;

/// A stage that goes through the accounts: a map over pieces of rows, and what one process makes of all that
/// was learned. The output is the same whatever the cut into maps and wherever each ran.
pub trait Mapped {
    type State: State + Serialize + DeserializeOwned;

    /// Writes what belongs to these pieces of rows and returns what was learned of them.
    fn map(run: &Run, pieces: Range<usize>) -> Result<Self::State>;

    /// Does the rest of the stage.
    fn reduce(run: &Run, state: Self::State) -> Result<()>;
}

/// Does the work of a stage; what it leaves counts once its record is written.
pub fn work(stage: Stage, run: &Run) -> Result<()> {
    fn whole<M: Mapped>(run: &Run) -> Result<()> {
        M::reduce(run, M::map(run, run.pieces())?)
    }
    match stage {
        Stage::Profile => whole::<profile::Step>(run),
        Stage::Score => whole::<score::Step>(run),
        Stage::Relevance => relevance::run(run),
        Stage::Fuse => whole::<fuse::Step>(run),
        Stage::Fit => fit::run(run),
        Stage::Classify => whole::<classify::Step>(run),
    }
}

/// The map of a stage over some pieces of rows; what was learned of them, written down.
pub fn map(stage: Stage, run: &Run, pieces: Range<usize>) -> Result<Vec<u8>> {
    fn part<M: Mapped>(run: &Run, pieces: Range<usize>) -> Result<Vec<u8>> {
        state::write(&M::map(run, pieces)?)
    }
    match stage {
        Stage::Profile => part::<profile::Step>(run, pieces),
        Stage::Score => part::<score::Step>(run, pieces),
        Stage::Fuse => part::<fuse::Step>(run, pieces),
        Stage::Classify => part::<classify::Step>(run, pieces),
        Stage::Relevance | Stage::Fit => Err(Error::bug("the stage has no map").with("stage", stage.name())),
    }
}

/// The rest of a stage, from what its maps learned; they are read one after the other.
pub fn reduce(stage: Stage, run: &Run, states: impl Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
    fn merged<M: Mapped>(run: &Run, states: impl Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        let mut whole: Option<M::State> = None;
        for bytes in states {
            let next = state::read(&bytes?)?;
            match &mut whole {
                Some(whole) => whole.merge(next),
                None => whole = Some(next),
            }
        }
        M::reduce(run, whole.ok_or_else(|| Error::bug("a stage without a unit"))?)
    }
    match stage {
        Stage::Profile => merged::<profile::Step>(run, states),
        Stage::Score => merged::<score::Step>(run, states),
        Stage::Relevance => relevance::run(run),
        Stage::Fuse => merged::<fuse::Step>(run, states),
        Stage::Fit => fit::run(run),
        Stage::Classify => merged::<classify::Step>(run, states),
    }
}

/// Writes a small table as one part of `folder`, to be published under the run's id.
pub fn write_table(run: &Run, folder: &Path, batch: &RecordBatch) -> Result<()> {
    let mut part = Part::create(
        run.directory.store,
        &folder.join(part_name(0, Some(run.id()))),
        &batch.schema(),
        Purpose::Published,
    )?;
    part.write(batch)?;
    part.finish()
}
