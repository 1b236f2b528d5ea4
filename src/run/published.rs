//! The record of what a run published, in its run directory, and the record of the date before.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::FileDigest;
use super::directory::{Directory, PUBLISHED, read_json};
use crate::error::Result;
use crate::lake::publish::{self, Table};
use crate::lake::store::Store;

/// What was published for a date.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Published {
    pub key: String,
    pub rows: u64,
    /// Accounts of each class.
    pub classes: BTreeMap<String, u64>,
    /// Accounts without a class, by reason.
    #[serde(default)]
    pub abstained: BTreeMap<String, u64>,
    pub tables: Vec<Table>,
    /// What was kept so that accounts can be explained.
    #[serde(default)]
    pub explanation: Vec<FileDigest>,
    /// The verdict on the run, sentence by sentence.
    #[serde(default)]
    pub verdict: Vec<String>,
}

/// The record of the latest date before `date` for which this pipeline's classification still stands.
pub fn previous(store: &dyn Store, output: &Path, pipeline: &str, date: &str) -> Result<Option<(String, Published)>> {
    let runs = output.join("_runs").join(pipeline);
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut dates: Vec<String> = entries.filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("ds=")?.to_string())).collect();
    // ISO dates sort as text
    dates.retain(|d| d.as_str() < date);
    dates.sort();
    for earlier in dates.into_iter().rev() {
        let record = Directory::place(output, pipeline, &earlier).join(PUBLISHED);
        if record.exists() && publish::partition(output, "classification", &earlier).is_dir() {
            return Ok(Some((earlier, read_json(store, &record)?)));
        }
    }
    Ok(None)
}
