//! The command line: what is typed becomes a job; its outcome becomes one line on stdout, an error one line
//! on stderr.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

use chrono::NaiveDate;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::{Map, Value, json};

use crate::commands;
use crate::commands::drift::{Against, Thresholds};
use crate::commands::share::request::Request;
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::job::gates::Accepted;
use crate::job::outputs::Outputs;
use crate::job::units;
use crate::job::{self, Job, watch};
use crate::lake::store::Store;
use crate::process::log::{Format, Log};
use crate::process::secrets::{redact, redact_json};
use crate::process::{cancel, memory};
use crate::report;
use crate::run::stage::Stage;

/// How often a unit of work that takes long says how far it is.
const SAY_PROGRESS: std::time::Duration = std::time::Duration::from_secs(30);

/// With less of it counts are nothing but noise.
const LEAST_EPSILON: f64 = 0.001;

/// What a result line may take: less than an XCom or an Argo result holds.
const LONGEST_LINE: usize = 4096;

/// From the classifiers of related scenarios to the classifier of a new one, without a single label.
#[derive(Parser)]
#[command(name = "coldstart", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    log_format: Format,
    /// Worker threads; all cores if not given. The output does not depend on it.
    #[arg(long, global = true)]
    threads: Option<usize>,
    /// Memory that the process may hold, such as 2Gi; beyond it a stage is tried on one thread, and then ends
    /// with exit 75. Linux only.
    #[arg(long, global = true, value_name = "SIZE")]
    max_memory: Option<memory::Size>,
}

impl Cli {
    /// Whether a result is shown as text: on a terminal, and where that was asked for.
    fn for_people(&self) -> bool {
        self.log_format == Format::Text
            || (self.log_format == Format::Auto && std::io::stdout().is_terminal())
    }

    /// The result of a run: on a terminal a few lines for people, one line of JSON for all others.
    fn told(&self, args: &RunArgs, (line, code): (Value, u8)) -> Result<(Value, u8)> {
        let terminal = self.log_format != Format::Json && std::io::stdout().is_terminal();
        let pipeline = args.pipeline.display().to_string();
        Ok((if terminal { Value::String(job::told::render(&line, &pipeline)) } else { line }, code))
    }
}

#[derive(Subcommand)]
enum Command {
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
        /// A Parquet file with the id column and `label`, the class name as text.
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
        /// The Parquet file that is written.
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
enum TeacherCommand {
    /// Makes a bundle of a model file and its labelled history; asks for what neither says.
    Add(Box<commands::add::Request>),
}

#[derive(Subcommand)]
enum RelevanceCommand {
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
struct ProfileArgs {
    /// The scenario's accounts: a Parquet file, a glob or a directory.
    accounts: PathBuf,
    /// A column that is no feature (the id, the label); may be repeated.
    #[arg(long = "leave-out", value_name = "COLUMN")]
    leave_out: Vec<String>,
    /// The column of labels: adds how many rows each class has.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The boolean column of rows that did not train the owner's own model.
    #[arg(long, value_name = "COLUMN", requires = "label")]
    held_out: Option<String>,
    /// The owner's own bundle: adds its own calibration.
    #[arg(long, value_name = "BUNDLE", requires = "label")]
    teacher: Option<PathBuf>,
    /// Bundles, one or more: adds how their scores, and the own teacher's, go with the labels.
    #[arg(long, value_name = "BUNDLE", requires = "label", num_args = 1..)]
    score_with: Vec<PathBuf>,
    /// Adds Laplace noise to all counts: the privacy budget of a row, spread over all histograms.
    #[arg(long, value_name = "EPSILON", requires = "noise_secret")]
    epsilon: Option<f64>,
    /// From what the noise is drawn; whoever knows it can take the noise off.
    #[arg(long, value_name = "TEXT", requires = "epsilon")]
    noise_secret: Option<String>,
    /// Where the sketch is written.
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    /// The pipeline file.
    pipeline: PathBuf,
    /// The logical date, YYYY-MM-DD: the partition that is published.
    #[arg(long, value_name = "DATE", value_parser = date)]
    date: NaiveDate,
    /// Overrides a key of the pipeline file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Publishes over what another run published for this date.
    #[arg(long)]
    replace: bool,
    /// Takes no lock, for an output on a file system that has none; see to it that one run of a date works at
    /// a time.
    #[arg(long)]
    no_lock: bool,
    /// Exit 99 where this was published before and nothing has changed.
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Exit 99 where the target holds no account.
    #[arg(long)]
    skip_if_empty: bool,
    /// Publishes although the number of accounts is far from that of the date before.
    #[arg(long)]
    accept_volume: bool,
    /// Publishes although the class shares are far from those of the date before.
    #[arg(long)]
    accept_shares: bool,
    /// A stage that takes longer says so often how far it is.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    progress_every: std::time::Duration,
    #[command(flatten)]
    outputs: Outputs,
}

fn seconds(text: &str) -> std::result::Result<std::time::Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.01..=86_400.0).contains(s));
    seconds
        .map(std::time::Duration::from_secs_f64)
        .ok_or_else(|| "between 0.01 and 86400 seconds".to_string())
}

/// Where the last panic was, and its message.
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// A panic as an error: a bug, with its place and message for the report that is sent to us.
fn panicked() -> Error {
    let (place, said) = PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    Error::bug("an invariant was broken; this is a bug in coldstart")
        .with("panic", said)
        .with("place", place)
        .hint("report it with this line and the version of coldstart")
}

/// A date as YYYY-MM-DD; what looks like one in another form is named in this one.
fn date(text: &str) -> std::result::Result<NaiveDate, String> {
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

/// Parses, runs, reports; the exit code.
pub fn main(store: &dyn Store) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { Kind::Usage.exit_code() } else { 0 };
        }
    };
    // SAFETY: no other thread has been started yet. polars would write its own lines among ours; ONNX
    // Runtime, once loaded, keeps a database in the home directory and reports from it, whatever its
    // environment is told later.
    unsafe {
        std::env::remove_var("POLARS_VERBOSE");
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
    // A panic becomes one error line; where one is expected, damaged input, it becomes an error about that
    // input.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let said = info.payload_as_str().unwrap_or("no message").to_string();
        if let Ok(mut last) = PANIC.lock() {
            *last = Some((place, said));
        }
    }));
    let log = Log::new(cli.log_format, &run_name(&cli.command));
    let result =
        catch_unwind(AssertUnwindSafe(|| execute(&cli, &log, store))).unwrap_or_else(|_| Err(panicked()));
    match result.and_then(|(line, code)| print_line(&line).map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            say(&error, outputs(&cli.command));
            error.kind().exit_code()
        }
    }
}

/// The result line and the exit code.
fn execute(cli: &Cli, log: &Log, store: &dyn Store) -> Result<(Value, u8)> {
    cancel::install()?;
    if let Some(size) = cli.max_memory {
        memory::limit(size);
    }
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = cli.threads {
        pool = pool.num_threads(threads);
    }
    pool.build_global()
        .map_err(|e| Error::new(Kind::TryAgain, format!("cannot start worker threads: {e}")))?;
    let line = match &cli.command {
        Command::Run(args) => return cli.told(args, run(args, None, log, store)?),
        Command::Stage { name, run: args } => return cli.told(args, run(args, Some(*name), log, store)?),
        Command::Units(command) => return units(command, log, store),
        Command::Profile(args) => profile(args),
        Command::Evaluate { pipeline, date, labels, overrides } => {
            commands::evaluate::evaluate(&Pipeline::read(pipeline, overrides)?, &date.to_string(), labels)
        }
        Command::Relevance { command: RelevanceCommand::Train { pipeline, output, overrides } } => {
            commands::train_relevance::command(&Pipeline::read(pipeline, overrides)?, output, log)
        }
        Command::Explain { pipeline, date, account, overrides } => {
            let explanation = commands::explain::explain(
                &Pipeline::read(pipeline, overrides)?,
                &date.to_string(),
                account,
            )?;
            match cli.for_people() {
                true => Ok(Value::String(commands::explain::text::render(&explanation))),
                false => serde_json::to_value(explanation).map_err(|e| Error::bug(e.to_string())),
            }
        }
        Command::Advise { pipeline, date, labels, seed, output, overrides } => commands::advise::advise(
            &Pipeline::read(pipeline, overrides)?,
            &date.to_string(),
            *labels,
            *seed,
            output,
            log,
        ),
        Command::Report { pipeline, date, output, overrides } => {
            report::command(&Pipeline::read(pipeline, overrides)?, &date.to_string(), output.as_deref())
        }
        Command::Drift { pipeline, date, against, allowed, overrides } => commands::drift::drift(
            &Pipeline::read(pipeline, overrides)?,
            &date.to_string(),
            *against,
            allowed,
        ),
        Command::Teacher { command: TeacherCommand::Add(request) } => commands::add::add(request),
        Command::New { folder, target, id, output } => commands::new::new(&commands::new::Wanted {
            folder,
            target: target.as_deref(),
            id: id.as_deref(),
            out: output.as_deref(),
        }),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "coldstart", &mut text);
            Ok(Value::String(String::from_utf8_lossy(&text).into_owned()))
        }
        Command::Schema { file } => commands::schema::schema(*file).map(Value::String),
        Command::Man => {
            let mut text = Vec::new();
            let drawn = clap_mangen::Man::new(Cli::command()).render(&mut text);
            drawn.map_err(|e| Error::bug(format!("the man page cannot be drawn: {e}")))?;
            Ok(Value::String(String::from_utf8_lossy(&text).into_owned()))
        }
        Command::Check { pipeline, overrides } => {
            let (found, refused) = commands::check::check(&Pipeline::read(pipeline, overrides)?)?;
            let show = || commands::check_table::render(&found, &pipeline.display().to_string());
            let table = cli.for_people().then(show);
            if let Some(refused) = refused {
                // stdout is for what succeeded
                let _ = write!(std::io::stderr().lock(), "{}", redact(table.as_deref().unwrap_or_default()));
                return Err(refused);
            }
            Ok(table.map_or(found, Value::String))
        }
    };
    line.map(|line| (line, 0))
}

fn profile(args: &ProfileArgs) -> Result<Value> {
    if let Some(epsilon) = args.epsilon.filter(|e| !(*e >= LEAST_EPSILON && e.is_finite())) {
        return Err(Error::new(Kind::Usage, format!("epsilon is a number of at least {LEAST_EPSILON}"))
            .with("argument", "--epsilon")
            .value(epsilon));
    }
    commands::share::write(&Request {
        accounts: &args.accounts,
        leave_out: &args.leave_out,
        label: args.label.as_deref(),
        held_out: args.held_out.as_deref(),
        teacher: args.teacher.as_deref(),
        score_with: &args.score_with,
        noise: args.epsilon.zip(args.noise_secret.as_deref()),
        out: &args.output,
    })
}

fn run(args: &RunArgs, only: Option<Stage>, log: &Log, store: &dyn Store) -> Result<(Value, u8)> {
    let pipeline = Pipeline::read(&args.pipeline, &args.overrides)?;
    args.outputs.check()?;
    let accepted = Accepted { volume: args.accept_volume, shares: args.accept_shares };
    let job = Job {
        pipeline,
        date: args.date.to_string(),
        replace: args.replace,
        no_lock: args.no_lock,
        only,
        skip_if_empty: args.skip_if_empty,
        accepted,
        planned: None,
    };
    let last_words = |error: &Error| say(error, Some(&args.outputs));
    let mut outcome = watch::during(log, args.progress_every, &last_words, || job::run(&job, log, store))?;
    if outcome.status == "published" {
        outcome.report = page(&job.pipeline, &job.date, log, store);
    }
    let skipped =
        outcome.status == "empty" || (args.skip_if_unchanged && outcome.status == "already_published");
    let mut whole = serde_json::to_value(outcome).map_err(|e| Error::bug(e.to_string()))?;
    whole["seconds"] = json!((log.seconds() * 1000.0).round() / 1000.0);
    let line = shortened(whole.clone());
    args.outputs.succeeded(&line, &whole)?;
    Ok((line, if skipped { Kind::NothingToDo.exit_code() } else { 0 }))
}

/// A step of a run in units of work.
fn units(command: &units::command::Command, log: &Log, store: &dyn Store) -> Result<(Value, u8)> {
    command.outputs().check()?;
    let last_words = |error: &Error| say(error, Some(command.outputs()));
    let mut whole = watch::during(log, SAY_PROGRESS, &last_words, || command.run(log, store))?;
    if let units::command::Command::Commit(args) = command
        && whole["status"] == "published"
    {
        let (plan, pipeline, _) = units::plan::Plan::read(&args.plan)?;
        whole["report"] = json!(page(&pipeline, &plan.date, log, store));
    }
    whole["seconds"] = json!((log.seconds() * 1000.0).round() / 1000.0);
    let line = shortened(whole.clone());
    command.outputs().succeeded(&line, &whole)?;
    Ok((line, 0))
}

/// Leaves the page in the run directory. All is published by now, so a page that cannot be written is a warning.
fn page(pipeline: &Pipeline, date: &str, log: &Log, store: &dyn Store) -> String {
    match report::write(store, pipeline, date, None) {
        Ok(path) => {
            let place = path.display().to_string();
            log.info("report", "the page to read", json!({"file": place}));
            place
        }
        Err(e) => {
            log.warn("report", "the page could not be written", json!({"error": e.to_string()}));
            String::new()
        }
    }
}

/// A line without what would make it too long; a thousand classes are in the metrics, and the tables' places
/// follow from the pipeline.
fn shortened(mut line: Value) -> Value {
    for key in ["classes", "tables", "unit_numbers"] {
        if line.to_string().len() >= LONGEST_LINE && line.get(key).is_some() {
            line[key] = Value::Null;
        }
    }
    line
}

fn outputs(command: &Command) -> Option<&Outputs> {
    match command {
        Command::Run(args) | Command::Stage { run: args, .. } => Some(&args.outputs),
        Command::Units(command) => Some(command.outputs()),
        _ => None,
    }
}

fn run_name(command: &Command) -> String {
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

fn print_line(line: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // Text for people is said as it is.
    let said = match line.as_str() {
        Some(text) => redact(text.trim_end()),
        None => redact_json(line).to_string(),
    };
    writeln!(stdout, "{said}")
        .and_then(|()| stdout.flush())
        .map_err(|e| Error::new(Kind::Io, format!("the result cannot be written to stdout: {e}")))
}

/// The error as the last line on stderr, and in the termination log: one JSON object.
fn say(error: &Error, outputs: Option<&Outputs>) {
    let mut line = Map::new();
    line.insert("level".to_string(), json!("error"));
    line.insert("exit".to_string(), json!(error.kind().exit_code()));
    line.insert("error".to_string(), json!(error.message()));
    line.extend(error.context().iter().map(|(k, v)| (k.to_string(), json!(v))));
    let line = redact_json(&Value::Object(line)).to_string();
    if let Some(outputs) = outputs {
        outputs.failed(&line);
    }
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_short_however_many_classes_there_are() {
        let few = json!({"status": "published", "classes": {"no": 1}, "tables": {"student": "out/student"}});
        assert_eq!(shortened(few.clone()), few);
        let classes: Map<String, Value> = (0..1000).map(|i| (format!("class-{i}"), json!(i))).collect();
        let many = shortened(
            json!({"status": "published", "classes": classes, "tables": {"student": "out/student"}}),
        );
        assert_eq!(
            many,
            json!({"status": "published", "classes": null, "tables": {"student": "out/student"}})
        );
        let long = shortened(
            json!({"status": "published", "classes": {"no": 1}, "tables": {"student": "x".repeat(5000)}}),
        );
        assert!(long.to_string().len() < LONGEST_LINE, "{long}");
    }
}
