//! The commands of units as they are typed.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::job::gates::Accepted;
use crate::job::outputs::Outputs;
use crate::job::units;
use crate::lake::store::Store;
use crate::process::log::Log;
use crate::run::stage::Stage;

#[derive(Subcommand)]
pub enum Command {
    /// Cuts a run into units of work that any scheduler can drive; docs/cluster.md says how.
    Plan {
        pipeline: PathBuf,
        /// The logical date, YYYY-MM-DD: the partition that will be published.
        #[arg(long)]
        date: NaiveDate,
        /// Units of each stage that goes through the accounts; fewer where the files do not allow so many.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        units: u32,
        /// The plan, a JSON file that all processes can read.
        #[arg(short, long)]
        output: PathBuf,
        /// Overrides a key of the pipeline file; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Does one unit of a stage; one that is done is not done again.
    Work {
        plan: PathBuf,
        #[arg(value_enum)]
        stage: Stage,
        /// Its number, from 0.
        unit: usize,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Does the rest of a stage, once all its units are done (75 while one is missing).
    Reduce {
        plan: PathBuf,
        #[arg(value_enum)]
        stage: Stage,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Reads back what the stages of a plan left, judges the gates, publishes.
    Commit(CommitArgs),
}

#[derive(Args)]
pub struct CommitArgs {
    pub plan: PathBuf,
    /// Publishes over what another run published for this date.
    #[arg(long)]
    replace: bool,
    /// Publishes although the number of accounts is far from that of the date before.
    #[arg(long)]
    accept_volume: bool,
    /// Publishes although the class shares are far from those of the date before.
    #[arg(long)]
    accept_shares: bool,
    #[command(flatten)]
    outputs: Outputs,
}

impl Command {
    /// What it is about, for the log.
    pub fn place(&self) -> &Path {
        match self {
            Command::Plan { pipeline: place, .. }
            | Command::Work { plan: place, .. }
            | Command::Reduce { plan: place, .. }
            | Command::Commit(CommitArgs { plan: place, .. }) => place,
        }
    }

    pub fn outputs(&self) -> &Outputs {
        match self {
            Command::Plan { outputs, .. }
            | Command::Work { outputs, .. }
            | Command::Reduce { outputs, .. }
            | Command::Commit(CommitArgs { outputs, .. }) => outputs,
        }
    }

    /// Does what was asked for; the result line.
    pub fn run(&self, log: &Log, store: &dyn Store) -> Result<Value> {
        match self {
            Command::Plan { pipeline, date, units, output, overrides, .. } => {
                units::plan(pipeline, overrides, &date.to_string(), *units as usize, output, store)
            }
            Command::Work { plan, stage, unit, .. } => units::work(plan, *stage, *unit, log, store),
            Command::Reduce { plan, stage, .. } => units::reduce(plan, *stage, log, store),
            Command::Commit(args) => {
                let accepted = Accepted { volume: args.accept_volume, shares: args.accept_shares };
                let outcome = units::commit(&args.plan, args.replace, accepted, log, store)?;
                serde_json::to_value(outcome).map_err(|e| Error::bug(e.to_string()))
            }
        }
    }
}
