//! `metrics.json` in the run directory: the numbers of the last attempt that did any work. They are about a
//! run and may hold clock times; no stage reads them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::job::gates::Gate;
use crate::job::read_back::Counts;
use crate::lake::store::files::write_json;
use crate::lake::table::TableRead;
use crate::process::log::Log;
use crate::process::memory;
use crate::process::secrets::redact;
use crate::relevance::profile::distance::Distances;
use crate::run::directory::Directory;
use crate::stages::artifacts::{COUNTED_PROFILE, FIT, PROFILE, WEIGHTS, Weights};

/// What is known of an attempt; a stage that did not run leaves its numbers out.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// The attempt's id in `openlineage.jsonl`.
    pub run_id: String,
    pub key: String,
    /// `published`, `stage_done` or `failed`.
    pub status: String,
    pub exit: u8,
    pub seconds: f64,
    pub peak_rss_bytes: u64,
    pub stages: Vec<StageTime>,
    pub rows: Rows,
    /// Accounts of each class.
    pub classes: BTreeMap<String, u64>,
    /// Accounts without a class, by reason.
    pub abstained: BTreeMap<String, u64>,
    /// Share of nulls in each feature that the target and every history have.
    pub null_share: BTreeMap<String, f64>,
    /// Values of each feature that are not finite and were read as null.
    pub non_finite: Value,
    pub teachers: Vec<TeacherMetrics>,
    /// The student, its fidelity to the soft labels of held-out accounts, and whether it passed that gate.
    pub student: Value,
    pub gates: Vec<Gate>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct StageTime {
    pub stage: &'static str,
    pub seconds: f64,
    /// Done by an earlier attempt.
    pub resumed: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Rows {
    /// In the input files.
    pub stored: Option<u64>,
    /// The lakehouse table of the target and the version that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableRead>,
    /// Left out since their id stands before them.
    pub repeated: u64,
    /// Left out by `target.where`.
    pub filtered: Option<u64>,
    /// The target's accounts.
    pub accounts: u64,
    /// Rows of each published table of accounts.
    pub tables: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub struct TeacherMetrics {
    pub teacher: String,
    /// Mean Jensen-Shannon divergence to the target over features, in bits.
    pub js: Option<f64>,
    /// Mean weight over the accounts.
    pub weight: f64,
}

impl Metrics {
    /// Takes what the stages left in the run directory; called while it still lies there.
    pub fn collect(&mut self, directory: &Directory) {
        let profile = COUNTED_PROFILE.load(directory).or_else(|_| PROFILE.load(directory));
        let Ok(profile) = profile else { return };
        self.rows.accounts = profile.rows;
        self.rows.repeated = profile.dropped.len() as u64;
        self.rows.filtered = self.rows.stored.map(|s| s.saturating_sub(profile.rows + self.rows.repeated));
        let names = profile.profiles.features.iter().map(|f| f.name.clone());
        self.null_share = names.zip(profile.null_share.iter().copied()).collect();
        self.non_finite = json!(profile.non_finite);
        if let Ok(Weights { teachers, weights }) = WEIGHTS.load(directory) {
            let js = Distances::new(&profile.profiles).js;
            let of = |(k, (teacher, weight))| TeacherMetrics { teacher, js: js.get(k).copied(), weight };
            self.teachers = teachers.into_iter().zip(weights).enumerate().map(of).collect();
        }
        if let Ok(fit) = FIT.load(directory) {
            self.student = json!(fit);
        }
    }

    /// Takes what was read back of the tables.
    pub fn count(&mut self, counts: &Counts) {
        for (table, count) in &counts.tables {
            self.rows.tables.insert(table.to_string(), count.rows);
            self.abstained.extend(count.reasons.iter().map(|(reason, rows)| (reason.clone(), *rows)));
        }
    }

    /// Writes the file; that it cannot be written is a warning.
    pub fn write(&mut self, directory: &Directory, status: &str, failure: Option<&Error>, log: &Log) {
        self.status = status.to_string();
        self.exit = failure.map_or(0, |e| e.kind().exit_code());
        self.seconds = log.seconds();
        self.peak_rss_bytes = memory::peak();
        self.warnings = log.warnings().iter().map(|w| redact(w)).collect();
        let path = directory.root().join("metrics.json");
        if let Err(e) = write_json(directory.store, &path, self) {
            log.warn(
                "metrics",
                "could not be written",
                json!({"file": path.display().to_string(), "error": e.message()}),
            );
        }
    }
}
