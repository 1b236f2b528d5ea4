//! The faults that a scheduled job must survive, by the letters and numbers of the project's fault catalogue:
//! [`crash`] (A, B: killed, damaged or contended runs), [`inputs`] (C), [`values`] and [`ids`] (D), [`bundles`] (E), [`command_line`] (F, G),
//! [`orchestrator`] (D63, F78 to F84, G86).
//!
//! Whatever the fault, [`Faults`] asserts the same of the run: the exit code and one JSON error line that names what is wrong; nothing on stdout;
//! what was published before untouched, and nothing written elsewhere; no panic, no secret, no more memory than the limit of
//! [`Workdir::command`]; and, once the fault is mended, the very bytes that a run without it publishes.
//!
//! | not here | why |
//! |---|---|
//! | A1, A3, A4, A10, A12, A13 | take a store that fails on demand; random kills (A9) pass through the same places |
//! | A2, A21, B26, B31 | are among A9, A7, B25 and B24 |
//! | A16 - A18 | there is no `gc`: a finished run leaves no stage outputs, the next one removes what a killed one left |
//! | A19, A20 | are about object stores and Delta logs; this build publishes plain Parquet |
//! | B27 | a run's id is a digest of its inputs, not of time, host or process |
//! | B29 | the lock is held over the whole run, so that the phases of two runs of a date cannot interleave |
//! | C36 | the files of parquet-testing are not in this repository; C35 damages a file of our own at every offset |
//! | D48, D59 | impossible by type; the soft labels are checked before they are written (exit 70) |
//! | D54 | the target's own columns are the features: an account without any is all null, see D49 |
//! | D60 | stands in `job.rs`, with the other things that must not matter |
//! | E68 (hard link, `CON`) | a hard link is the file itself, and `CON` is a name like any other here |
//! | E74 | takes a stop between the digest and the load |
//! | G85, G87 | `make bench` measures memory on a million accounts; G87 is among F82 |
//! | G88 (a stall of 30 s) | there is no timeout anywhere; that a long stage says how far it is stands in [`orchestrator`] |

mod bundles;
mod command_line;
mod crash;
mod gates;
mod ids;
mod inputs;
mod lineage;
mod onnx;
mod orchestrator;
mod values;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::workdir::{CANARY, Ran, Workdir};

type Files = BTreeMap<String, Vec<u8>>;

/// A pipeline with an older version published for the date; faults come and go, and it ends as if there had been none.
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
        for (path, bytes) in older() {
            work.write_bytes(&format!("out/{path}"), bytes);
        }
        let whole = outside(&work);
        Faults { work, whole }
    }

    /// What `breaks` breaks makes the run end with `code`, and each of `names` (a key of the error line, and a part of its value) is said.
    pub fn refused(&self, code: i32, names: &[(&str, &str)], breaks: impl FnOnce(&Workdir)) -> Value {
        self.refused_with(&[], code, names, breaks)
    }

    /// As [`refused`](Faults::refused) for an override of the pipeline file.
    pub fn refused_set(&self, pair: &str, code: i32, names: &[(&str, &str)]) -> Value {
        self.refused_with(&["--set", pair], code, names, |_| {})
    }

    pub fn refused_with(&self, arguments: &[&str], code: i32, names: &[(&str, &str)], breaks: impl FnOnce(&Workdir)) -> Value {
        breaks(&self.work);
        let (before, published) = (outside(&self.work), self.work.published());
        let ran = self.work.run(&[&["--replace"], arguments].concat());
        let error = ran.error(code);
        for (key, part) in names {
            let said = error[*key].as_str().unwrap_or_default();
            assert!(said.contains(part), "the error's {key:?} says {part:?}\n{ran}");
        }
        discreet(&ran, &self.work);
        assert!(outside(&self.work) == before, "nothing is written outside of the output\n{ran}");
        assert!(self.work.published() == published, "what was published stays\n{ran}");
        self.restore();
        error
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
    fn mended(&self) {
        let ran = self.work.run(&["--replace"]);
        ran.is("published");
        discreet(&ran, &self.work);
        assert_same(&self.work.published(), reference(), &ran);
    }
}

/// Everything but the output.
fn outside(work: &Workdir) -> Files {
    let mut files = work.files("");
    files.retain(|path, _| !path.starts_with("out/"));
    files
}

/// Log lines are JSON, and neither they nor any file of the output holds a panic's text or the secret of the environment.
pub fn discreet(ran: &Ran, work: &Workdir) {
    for line in ran.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object()), "a log line is a JSON object, not {line}\n{ran}");
    }
    for text in ["panicked", "RUST_BACKTRACE", CANARY] {
        assert!(!ran.stdout.contains(text) && !ran.stderr.contains(text), "{text:?} is said\n{ran}");
    }
    for (path, bytes) in work.files("out") {
        assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "the secret stands in {path}\n{ran}");
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

/// A change that must change nothing for any account: runs the pipeline so changed and compares every probability to the last bit.
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
