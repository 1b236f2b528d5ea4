//! The record of what a run published, in its run directory, and the record of the date before.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::lake::publish::{self, Table};
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;
use crate::lake::store::files::read_json;
use crate::run::directory::{Directory, PUBLISHED};

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
pub fn previous(
    store: &dyn Store,
    output: &Path,
    pipeline: &str,
    date: &str,
) -> Result<Option<(String, Published)>> {
    let run = |date: &str| Directory::place(output, pipeline, date);
    let names = run(date).parent().and_then(|runs| store.list(runs).ok()).unwrap_or_default();
    let mut dates: Vec<&str> = names.iter().filter_map(|(name, _)| name.strip_prefix("ds=")).collect();
    // ISO dates sort as text
    dates.retain(|d| *d < date);
    dates.sort();
    for earlier in dates.into_iter().rev() {
        let record = run(earlier).join(PUBLISHED);
        if store.exists(&record) && store.exists(&publish::partition(output, "classification", earlier)) {
            return Ok(Some((earlier.to_string(), read_json(store, &record)?)));
        }
    }
    Ok(None)
}
