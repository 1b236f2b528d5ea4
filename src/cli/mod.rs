//! The command line: what is typed becomes a job; its outcome becomes one line on stdout, an error one line
//! on stderr.

mod args;

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use clap::{CommandFactory, Parser};
use serde_json::{Map, Value, json};

use crate::cli::args::{
    Cli, Command, ProfileArgs, RelevanceCommand, RunArgs, TeacherCommand, outputs, run_name,
};
use crate::commands;
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
