//! The faults that a scheduled job must survive, by the letters and numbers of the project's fault catalogue:
//! [`crash`] (A: killed and damaged runs), [`contention`] (B: runs and readers at the same time), [`durable`]
//! (A, B, G at a chosen step on disk), [`inputs`] and [`damage`] (C), [`values`] and [`ids`] (D), [`bundles`]
//! and [`onnx`] (E), [`command_line`] (F, G), [`orchestrator`],
//! [`gates`] and [`lineage`] (D63, F78 to F84, G86). Power is lost in `src/job/faults.rs`, on a disk in
//! memory.
//!
//! Whatever the fault, [`Faults`] asserts the same of the run: the exit code and one JSON error line that
//! names what is wrong; nothing on stdout; what was published before untouched, and nothing written
//! elsewhere; no panic, no secret, no more memory than the limit of
//! [`Workdir::command`]; and, once the fault is mended, the very bytes that a run without it publishes.
//!
//! | not here | why |
//! |---|---|
//! | A21, B26, B31 | are among A7, B25 and B24 |
//! | A16, A18 | there is no `gc`: a finished run leaves no stage outputs, the next one removes what a killed one left |
//! | A19, A20 | are about object stores and Delta logs; this build publishes plain Parquet |
//! | B27 | a run's id is a digest of its inputs, not of time, host or process |
//! | D48, D59 | impossible by type; the soft labels are checked before they are written (exit 70) |
//! | D54 | stands in `abstention.rs`: an account without any feature is left undecided |
//! | D60 | stands in `job.rs`, with the other things that must not matter |
//! | E68 (hard link, `CON`) | a hard link is the file itself, and `CON` is a name like any other here |
//! | G87 | is among F82 |

mod bundles;
mod command_line;
mod contention;
mod crash;
mod damage;
mod durable;
mod gates;
mod ids;
mod inputs;
mod lineage;
mod onnx;
mod orchestrator;
mod values;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use serde_json::Value;

use crate::workdir::{CANARY, DATE, PART_0, PART_1, Ran, Workdir, count};

type Files = BTreeMap<String, Vec<u8>>;

const RUN: &[&str] = &["run", "../pipeline.toml", "--date", DATE, "--threads", "1"];

/// Rewrites both files of the target.
pub fn both(work: &Workdir, change: impl Fn(RecordBatch) -> RecordBatch) {
    [PART_0, PART_1].iter().for_each(|part| work.change(part, &change));
}

/// A pipeline with an older version published for the date; faults come and go, and it ends as if there had
/// been none.
pub struct Faults {
    work: Workdir,
    whole: Files,
}

/// Runs the faults that `all` names on one pipeline, then the pipeline without a fault.
pub fn faults(all: impl FnOnce(&Faults)) {
    let faults = Faults::new();
    all(&faults);
    faults.mended();
}

impl Faults {
    fn new() -> Faults {
        let work = Workdir::new();
        work.restore_output(older());
        let whole = outside(&work);
        Faults { work, whole }
    }

    /// What `breaks` breaks makes the run end with `code`, and each of `names` (a key of the error line, and
    /// a part of its value) is said.
    pub fn refused(&self, code: i32, names: &[(&str, &str)], breaks: impl FnOnce(&Workdir)) -> Value {
        self.refused_with(&[], code, names, breaks)
    }

    /// As [`refused`](Faults::refused) for an override of the pipeline file.
    pub fn refused_set(&self, pair: &str, code: i32, names: &[(&str, &str)]) -> Value {
        self.refused_with(&["--set", pair], code, names, |_| {})
    }

    pub fn refused_with(
        &self,
        arguments: &[&str],
        code: i32,
        names: &[(&str, &str)],
        breaks: impl FnOnce(&Workdir),
    ) -> Value {
        breaks(&self.work);
        let (before, published) = (outside(&self.work), self.work.published());
        let ran = self.work.run(&[&["--replace"], arguments].concat());
        let error = self.error(&ran, code, names, &before);
        assert!(self.work.published() == published, "what was published stays\n{ran}");
        self.restore();
        error
    }

    /// The error line of a run that ended with `code`, and nothing else of it can be seen.
    fn error(&self, ran: &Ran, code: i32, names: &[(&str, &str)], before: &Files) -> Value {
        let error = ran.error(code);
        for (key, part) in names {
            let said = error[*key].as_str().unwrap_or_default();
            assert!(said.contains(part), "the error's {key:?} says {part:?}\n{ran}");
        }
        self.unseen(ran, before);
        error
    }

    /// Whatever became of the run: nothing is written outside of the output, every table is whole, and
    /// nothing is said that must not be.
    fn unseen(&self, ran: &Ran, before: &Files) {
        discreet(ran, &self.work);
        let after = outside(&self.work);
        let changed: Vec<&String> =
            after.keys().chain(before.keys()).filter(|f| after.get(*f) != before.get(*f)).collect();
        assert!(changed.is_empty(), "nothing is written outside of the output: {changed:?}\n{ran}");
        whole_tables(&self.work, ran);
    }

    /// A step of the run on disk fails or is its last (`ACTION WHEN STEP PATH`, see `tests/failing.rs`). It
    /// ends with `code`, the error line says `names`, and the same command then ends like an undisturbed run.
    /// Returns the run that failed and the one that did not.
    pub fn struck(&self, failpoint: &str, code: Option<i32>, names: &[(&str, &str)]) -> (Ran, Ran) {
        self.struck_any(failpoint, &[code], names)
    }

    /// As [`struck`](Faults::struck) where the run may end with any of `codes`.
    pub fn struck_any(&self, failpoint: &str, codes: &[Option<i32>], names: &[(&str, &str)]) -> (Ran, Ran) {
        let before = outside(&self.work);
        let ran = Ran::start(self.work.failing(failpoint, &[RUN, &["--replace"]].concat())).finish();
        assert!(codes.contains(&ran.code), "{failpoint} ends with one of {codes:?}\n{ran}");
        match ran.code {
            None => assert_eq!(ran.stdout, "", "{ran}"),
            Some(0) => drop(ran.result()),
            Some(code) => drop(self.error(&ran, code, names, &before)),
        }
        self.unseen(&ran, &before);
        // a table that is not durable yet keeps what it displaced
        if ran.code == Some(75) && (!failpoint.contains(" sync ") || failpoint.contains("_runs")) {
            let unfinished: Vec<String> =
                self.work.files("out/_runs").into_keys().filter(|f| half_made(f, &self.work)).collect();
            assert!(unfinished.is_empty(), "{failpoint}: {unfinished:?} takes room on a full disk\n{ran}");
        }
        let again = self.mended();
        self.work.restore_output(older());
        (ran, again)
    }

    /// Undoes what was broken.
    fn restore(&self) {
        for folder in ["lake", "teachers"] {
            std::fs::remove_dir_all(self.work.path(folder)).expect("the inputs");
        }
        for (path, bytes) in &self.whole {
            self.work.write_bytes(path, bytes);
        }
    }

    /// The same command without a fault publishes the bytes of a run that never saw one.
    fn mended(&self) -> Ran {
        let ran = self.work.run(&["--replace"]);
        assert!(ran.result()["status"].as_str().is_some_and(|s| s.ends_with("published")), "{ran}");
        discreet(&ran, &self.work);
        assert_same(&self.work.published(), reference(), &ran);
        let left: Vec<String> = self
            .work
            .files("out/_runs")
            .into_keys()
            .filter(|f| half_made(f, &self.work) || f.ends_with(".done"))
            .collect();
        assert!(left.is_empty(), "{left:?} is left\n{ran}");
        ran
    }
}

/// Whether a file of the run directories is part of something that is not finished: a temporary file, a table
/// that is gathered, a stage's output without its record.
fn half_made(path: &str, work: &Workdir) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        // replaced file by file, and digested in the record
        [_, _, "explanation", file] => file.ends_with(".tmp"),
        [pipeline, date, stage, _, ..] => {
            *stage == "publish" || !work.path(&format!("out/_runs/{pipeline}/{date}/{stage}.done")).exists()
        }
        _ => path.ends_with(".tmp"),
    }
}

/// The files of each published partition.
pub fn partitions(files: &Files) -> BTreeMap<String, Files> {
    let mut tables: BTreeMap<String, Files> = BTreeMap::new();
    for (path, bytes) in files.iter().filter(|(path, _)| !path.starts_with("_runs")) {
        let table = path.split('/').next().unwrap_or_default().to_string();
        tables.entry(table).or_default().insert(path.clone(), bytes.clone());
    }
    tables
}

/// Every table is the older one or the new one, whole.
pub fn whole_tables(work: &Workdir, ran: &Ran) {
    let (found, old, new) = (partitions(&work.published()), partitions(older()), partitions(reference()));
    for table in old.keys() {
        let files = found.get(table);
        if files.is_none() {
            count("lost");
            panic!("{table} is gone\n{ran}");
        }
        if files != old.get(table) && files != new.get(table) {
            count("torn");
            panic!(
                "{table} is neither the old one nor the new one: {:?}\n{ran}",
                files.map(|f| f.keys().collect::<Vec<_>>())
            );
        }
    }
}

/// Everything but the output.
fn outside(work: &Workdir) -> Files {
    let mut files = work.files("");
    files.retain(|path, _| !path.starts_with("out/"));
    files
}

/// Log lines are JSON, and neither they nor any file of the output holds a panic's text or the secret of the
/// environment.
pub fn discreet(ran: &Ran, work: &Workdir) {
    for line in ran.stderr.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object()),
            "a log line is a JSON object, not {line}\n{ran}"
        );
    }
    for text in ["panicked", "RUST_BACKTRACE", CANARY] {
        assert!(!ran.stdout.contains(text) && !ran.stderr.contains(text), "{text:?} is said\n{ran}");
    }
    for (path, bytes) in work.files("out") {
        assert!(
            !bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()),
            "the secret stands in {path}\n{ran}"
        );
    }
}

/// Two sets of published files are the same to the byte.
pub fn assert_same(found: &Files, wanted: &Files, ran: &Ran) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted), "the published files\n{ran}");
    for (path, bytes) in wanted {
        assert!(found[path] == *bytes, "{path} has other bytes\n{ran}");
    }
}

/// A change that must change nothing for any account: runs the pipeline so changed and compares every
/// probability to the last bit.
pub fn tolerated(changes: impl FnOnce(&Workdir)) -> (Workdir, Ran) {
    let work = Workdir::new();
    changes(&work);
    let ran = work.run(&[]);
    ran.is("published");
    discreet(&ran, &work);
    for (table, wanted) in reference_probabilities() {
        assert!(work.probabilities(table, "account_id") == *wanted, "{table} is another\n{ran}");
    }
    (work, ran)
}

/// The published files of a run that never saw a fault.
pub fn reference() -> &'static Files {
    &reference_run().0
}

/// What the reference's tables say of each account.
pub fn reference_probabilities() -> &'static BTreeMap<&'static str, BTreeMap<String, Vec<u64>>> {
    &reference_run().1
}

type Reference = (Files, BTreeMap<&'static str, BTreeMap<String, Vec<u64>>>);

fn reference_run() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let work = Workdir::new();
        work.run(&[]).is("published");
        let tables = ["soft_labels", "classification"].map(|t| (t, work.probabilities(t, "account_id")));
        (work.published(), tables.into())
    })
}

/// The output directory of an earlier run for the same date with another seed.
fn older() -> &'static Files {
    static OLDER: OnceLock<Files> = OnceLock::new();
    OLDER.get_or_init(|| {
        let work = Workdir::new();
        work.run(&["--set", "student.seed=1"]).is("published");
        work.files("out")
    })
}
