//! What can be typed: commands, their arguments and what `--help` says of them.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::commands::drift::{Against, Thresholds};
use crate::job::outputs::Outputs;
use crate::job::units;
use crate::process::log::Format;
use crate::process::memory;
use crate::run::stage::Stage;

/// From the classifiers of related scenarios to the classifier of a new one, without a single label.
#[derive(Parser)]
#[command(name = "coldstart", version, about)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(super) log_format: Format,
    /// Worker threads; all cores if not given. The output does not depend on it.
    #[arg(long, global = true)]
    pub(super) threads: Option<usize>,
    /// Memory that the process may hold, such as 2Gi; beyond it a stage is tried on one thread, and then ends
    /// with exit 75. Linux only.
    #[arg(long, global = true, value_name = "SIZE")]
    pub(super) max_memory: Option<memory::Size>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Runs all stages and publishes; resumes what an earlier try finished.
    #[command(
        after_help = "Example: coldstart run pipeline.toml --date 2026-09-01 --set target.class_shares='{ yes = 0.11 }'"
    )]
    Run(RunArgs),
    /// Writes a commented pipeline file from a folder of bundles and a target, having looked at both.
    #[command(
        after_help = "Example: coldstart new lake --target lake/september --id account_id -o september.toml"
    )]
    New {
        /// The folder that holds the bundles (folders with a teacher.toml), and the target unless it is named.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The accounts to classify: a Parquet file or a directory of them.
        #[arg(long)]
        target: Option<PathBuf>,
        /// The column that names an account; looked for if not given.
        #[arg(long, value_name = "COLUMN")]
        id: Option<String>,
        /// The pipeline file; DIR/pipeline.toml if not given.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Prints what completes commands and flags in a shell.
    #[command(after_help = "Example: coldstart completions bash > /etc/bash_completion.d/coldstart")]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the JSON Schema of a file, by which editors complete and check it.
    #[command(after_help = "Example: coldstart schema pipeline > pipeline.schema.json")]
    Schema {
        #[arg(value_enum)]
        file: commands::schema::File,
    },
    /// Prints the man page.
    #[command(after_help = "Example: coldstart man > /usr/local/share/man/man1/coldstart.1")]
    Man,
    /// Reads everything it can, scores a few accounts, says what would happen, writes nothing.
    #[command(after_help = "Example: coldstart check pipeline.toml")]
    Check {
        pipeline: PathBuf,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Bundles: what a model file and what is known of it make a teacher.
    Teacher {
        #[command(subcommand)]
        command: TeacherCommand,
    },
    /// Sketches a scenario for sharing: what a teacher's owner ships where the accounts may not leave.
    #[command(
        after_help = "Example: coldstart profile history.parquet --leave-out account_id --label label -o profile.json"
    )]
    Profile(ProfileArgs),
    /// The relevance calculator as a file of its own.
    Relevance {
        #[command(subcommand)]
        command: RelevanceCommand,
    },
    /// Why one account got its class: JSON, or text on a terminal and with `--log-format text`.
    #[command(after_help = "Example: coldstart explain pipeline.toml account-17 --date 2026-09-01")]
    Explain {
        pipeline: PathBuf,
        #[arg(long, value_name = "DATE", value_parser = date)]
        date: NaiveDate,
        /// The account's id.
        #[arg(allow_hyphen_values = true)]
        account: String,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// When labels arrive: how right the published tables were, beside what they said of themselves.
    #[command(
        after_help = "Example: coldstart evaluate pipeline.toml --date 2026-09-01 --labels arrived.csv"
    )]
    Evaluate {
        pipeline: PathBuf,
        #[arg(long, value_name = "DATE", value_parser = date)]
        date: NaiveDate,
        /// A CSV or Parquet file with the id column and `label`, the class name as text.
        #[arg(long)]
        labels: PathBuf,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// After a run: the page that people read, as one HTML file.
    #[command(after_help = "Example: coldstart report pipeline.toml --date 2026-09-01 -o page.html")]
    Report {
        pipeline: PathBuf,
        #[arg(long, value_name = "DATE", value_parser = date)]
        date: NaiveDate,
        /// Where it is written; into the run directory if not given.
        #[arg(short, long)]
        output: Option<PathBuf>,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// After a run: what changed since an earlier date; with a threshold, exit 65 where it is passed.
    #[command(after_help = "Example: coldstart drift pipeline.toml --date 2026-09-02 --max-psi 0.25")]
    Drift {
        pipeline: PathBuf,
        #[arg(long, value_name = "DATE", value_parser = date)]
        date: NaiveDate,
        #[arg(long, value_enum, default_value = "previous")]
        against: Against,
        #[command(flatten)]
        allowed: Thresholds,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// After a run: which accounts are worth most if they are labelled next.
    #[command(
        after_help = "Example: coldstart advise pipeline.toml --date 2026-09-01 --labels 50 -o batch.csv"
    )]
    Advise {
        pipeline: PathBuf,
        #[arg(long, value_name = "DATE", value_parser = date)]
        date: NaiveDate,
        /// How many accounts.
        #[arg(long, value_name = "N")]
        labels: usize,
        /// Another seed draws another batch.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The CSV or Parquet file that is written.
        #[arg(short, long)]
        output: PathBuf,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    #[command(flatten)]
    Units(units::command::Command),
    /// Runs one stage; the stages before it must have finished.
    #[command(after_help = "Example: coldstart stage score pipeline.toml --date 2026-09-01")]
    Stage {
        #[arg(value_enum)]
        name: Stage,
        #[command(flatten)]
        run: RunArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum TeacherCommand {
    /// Makes a bundle of a model file and its labelled history; asks for what neither says.
    Add(Box<commands::add::Request>),
}

#[derive(Subcommand)]
pub(super) enum RelevanceCommand {
    /// Trains it on the histories of the pipeline's teachers, before any target exists.
    Train {
        pipeline: PathBuf,
        /// Where it is written; a pipeline names it as `relevance.calculator`.
        #[arg(short, long)]
        output: PathBuf,
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct ProfileArgs {
    /// The scenario's accounts: a Parquet file, a glob or a directory.
    pub(super) accounts: PathBuf,
    /// A column that is no feature (the id, the label); may be repeated.
    #[arg(long = "leave-out", value_name = "COLUMN")]
    pub(super) leave_out: Vec<String>,
    /// The column of labels: adds how many rows each class has.
    #[arg(long, value_name = "COLUMN")]
    pub(super) label: Option<String>,
    /// The boolean column of rows that did not train the owner's own model.
    #[arg(long, value_name = "COLUMN", requires = "label")]
    pub(super) held_out: Option<String>,
    /// The owner's own bundle: adds its own calibration.
    #[arg(long, value_name = "BUNDLE", requires = "label")]
    pub(super) teacher: Option<PathBuf>,
    /// Bundles, one or more: adds how their scores, and the own teacher's, go with the labels.
    #[arg(long, value_name = "BUNDLE", requires = "label", num_args = 1..)]
    pub(super) score_with: Vec<PathBuf>,
    /// Adds Laplace noise to all counts: the privacy budget of a row, spread over all histograms.
    #[arg(long, value_name = "EPSILON", requires = "noise_secret")]
    pub(super) epsilon: Option<f64>,
    /// From what the noise is drawn; whoever knows it can take the noise off.
    #[arg(long, value_name = "TEXT", requires = "epsilon")]
    pub(super) noise_secret: Option<String>,
    /// Where the sketch is written.
    #[arg(short, long)]
    pub(super) output: PathBuf,
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// The pipeline file.
    pub(super) pipeline: PathBuf,
    /// The logical date, YYYY-MM-DD: the partition that is published.
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(super) date: NaiveDate,
    /// Overrides a key of the pipeline file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Publishes over what another run published for this date.
    #[arg(long)]
    pub(super) replace: bool,
    /// Takes no lock, for an output on a file system that has none; see to it that one run of a date works at
    /// a time.
    #[arg(long)]
    pub(super) no_lock: bool,
    /// Exit 99 where this was published before and nothing has changed.
    #[arg(long)]
    pub(super) skip_if_unchanged: bool,
    /// Exit 99 where the target holds no account.
    #[arg(long)]
    pub(super) skip_if_empty: bool,
    /// Publishes although the number of accounts is far from that of the date before.
    #[arg(long)]
    pub(super) accept_volume: bool,
    /// Publishes although the class shares are far from those of the date before.
    #[arg(long)]
    pub(super) accept_shares: bool,
    /// A stage that takes longer says so often how far it is.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) progress_every: std::time::Duration,
    #[command(flatten)]
    pub(super) outputs: Outputs,
}

pub(super) fn seconds(text: &str) -> std::result::Result<std::time::Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.01..=86_400.0).contains(s));
    seconds
        .map(std::time::Duration::from_secs_f64)
        .ok_or_else(|| "between 0.01 and 86400 seconds".to_string())
}

/// A date as YYYY-MM-DD; what looks like one in another form is named in this one.
pub(super) fn date(text: &str) -> std::result::Result<NaiveDate, String> {
    let other = ["%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y_%m_%d", "%d.%m.%Y", "%B %d, %Y", "%d %B %Y"];
    let day = text.split(['T', ' ']).next().unwrap_or(text);
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| {
        let whole = other.iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok());
        match whole.or_else(|| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()) {
            Some(meant) => format!("a date is written YYYY-MM-DD: did you mean {meant}?"),
            None => "a date is written YYYY-MM-DD, such as 2026-09-01".to_string(),
        }
    })
}

pub(super) fn outputs(command: &Command) -> Option<&Outputs> {
    match command {
        Command::Run(args) | Command::Stage { run: args, .. } => Some(&args.outputs),
        Command::Units(command) => Some(command.outputs()),
        _ => None,
    }
}

pub(super) fn run_name(command: &Command) -> String {
    match command {
        Command::Run(args) | Command::Stage { run: args, .. } => {
            format!("{}@{}", args.pipeline.display(), args.date)
        }
        Command::New { folder: place, .. }
        | Command::Check { pipeline: place, .. }
        | Command::Evaluate { pipeline: place, .. }
        | Command::Explain { pipeline: place, .. }
        | Command::Report { pipeline: place, .. }
        | Command::Drift { pipeline: place, .. }
        | Command::Relevance { command: RelevanceCommand::Train { pipeline: place, .. } }
        | Command::Advise { pipeline: place, .. }
        | Command::Profile(ProfileArgs { accounts: place, .. }) => place.display().to_string(),
        Command::Completions { .. } | Command::Schema { .. } | Command::Man => "coldstart".to_string(),
        Command::Units(command) => command.place().display().to_string(),
        Command::Teacher { command: TeacherCommand::Add(request) } => request.model.display().to_string(),
    }
}
