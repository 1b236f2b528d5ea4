//! What a run says while it works: JSON lines or text on stderr, progress bars on a terminal, counters for
//! the metrics.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::process::secrets::{redact, redact_json};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    Json,
    Text,
}

/// The log of one process.
pub struct Log {
    text: bool,
    bars: bool,
    run: String,
    warnings: Mutex<Vec<String>>,
    started: Instant,
    at: Mutex<Option<At>>,
}

/// Where a run is.
#[derive(Clone)]
pub struct At {
    pub stage: &'static str,
    /// Of so many stages the place of this one.
    pub place: (usize, usize),
    pub since: Instant,
    /// Counts rows, where the stage does.
    bar: Option<ProgressBar>,
}

impl At {
    /// Rows that the stage has done, and all of them.
    pub fn rows(&self) -> Option<(u64, u64)> {
        self.bar.as_ref().and_then(|b| Some((b.position(), b.length()?)))
    }

    /// What of the run is done: hundredths of a stage, and all of them.
    pub fn progress(&self) -> (u64, u64) {
        let within = self.rows().map_or(0, |(done, all)| (100 * done / all.max(1)).min(100));
        (100 * self.place.0 as u64 + within, 100 * self.place.1 as u64)
    }
}

/// Columns of the narrowest terminal that lines are made for.
pub const WIDTH: usize = 80;

/// A sentence in lines of at most `width` characters, cut between words; longer words keep a line of their own.
pub fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        match used == 0 || used + 1 + word.chars().count() <= width {
            true if used == 0 => lines[last].push_str(word),
            true => lines[last] += &format!(" {word}"),
            false => lines.push(word.to_string()),
        }
    }
    lines
}

impl Log {
    pub fn new(format: Format, run: &str) -> Log {
        let terminal = std::io::stderr().is_terminal();
        let text = format == Format::Text || (format == Format::Auto && terminal);
        Log {
            text,
            bars: terminal && text,
            run: run.to_string(),
            warnings: Mutex::new(Vec::new()),
            started: Instant::now(),
            at: Mutex::new(None),
        }
    }

    /// One event of a stage with its details.
    pub fn info(&self, stage: &str, event: &str, details: Value) {
        self.write("info", stage, event, details);
    }

    /// Something that did not stop the run but that somebody should know; also kept for the metrics.
    pub fn warn(&self, stage: &str, event: &str, details: Value) {
        if let Ok(mut warnings) = self.warnings.lock() {
            warnings.push(format!("{stage}: {event} {details}"));
        }
        self.write("warn", stage, event, details);
    }

    /// Sentences for people: indented lines in text, one event otherwise.
    pub fn tell(&self, event: &str, sentences: &[String]) {
        if self.text {
            let mut stderr = std::io::stderr().lock();
            for (i, line) in sentences.iter().flat_map(|s| wrapped(&redact(s), WIDTH - 11)).enumerate() {
                let _ = writeln!(stderr, "{:>10} {line}", if i == 0 { event } else { "" });
            }
        } else {
            self.info("run", event, json!({"text": sentences.join(" ")}));
        }
    }

    /// All warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|w| w.clone()).unwrap_or_default()
    }

    /// Seconds since the log was opened.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// From now on the run is in this stage, the `place`-th of so many.
    pub fn enter(&self, stage: &'static str, place: (usize, usize)) {
        if let Ok(mut at) = self.at.lock() {
            *at = Some(At { stage, place, since: Instant::now(), bar: None });
        }
    }

    /// Where the run is; none before its first stage.
    pub fn at(&self) -> Option<At> {
        self.at.lock().ok().and_then(|at| at.clone())
    }

    /// Whether progress is drawn.
    pub fn draws(&self) -> bool {
        self.bars
    }

    /// A bar for `total` rows, invisible unless stderr is a terminal.
    pub fn progress(&self, stage: &str, total: u64) -> ProgressBar {
        let target = if self.bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(mut at) = self.at.lock()
            && let Some(at) = at.as_mut()
        {
            at.bar = Some(bar.clone());
        }
        if !self.bars {
            return bar;
        }
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>10} {bar:30} {human_pos}/{human_len} rows, {eta}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(stage.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A failure to log is not a failure of the job.
    fn write(&self, level: &str, stage: &str, event: &str, details: Value) {
        let mut stderr = std::io::stderr().lock();
        let details = match redact_json(&details) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        if self.text {
            let mark = if level == "info" { String::new() } else { format!("{level}: ") };
            let rest: Vec<String> = details
                .iter()
                .map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), str::to_string)))
                .collect();
            let _ = writeln!(stderr, "{}", redact(&format!("{stage:>10} {mark}{event} {}", rest.join(" "))));
        } else {
            let ts =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_millis() as f64 / 1000.0);
            let mut line = json!({"ts": ts, "level": level, "run": self.run, "stage": stage, "event": event});
            if let Value::Object(line) = &mut line {
                line.extend(details);
            }
            let _ = writeln!(stderr, "{}", redact_json(&line));
        }
    }
}
