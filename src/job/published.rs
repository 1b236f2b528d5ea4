//! The record of what a run published, in its run directory, and the record of the date before.

use std::collections::{BTreeMap, BTreeSet};
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
    /// A digest of each setting and input by its name, so that a later run can say what changed.
    #[serde(default)]
    pub made_of: BTreeMap<String, String>,
    /// The verdict on the run, sentence by sentence.
    #[serde(default)]
    pub verdict: Vec<String>,
}

impl Published {
    /// The settings and inputs that are not what they were; none where an older version published.
    pub fn changed(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        let names: BTreeSet<&String> = self.made_of.keys().chain(now.keys()).collect();
        let differ = names.into_iter().filter(|name| self.made_of.get(*name) != now.get(*name));
        if self.made_of.is_empty() { Vec::new() } else { differ.cloned().collect() }
    }
}

/// Dates before `date` for which this pipeline's classification still stands, ascending.
pub fn dates(store: &dyn Store, output: &Path, pipeline: &str, date: &str) -> Vec<String> {
    let run = |date: &str| Directory::place(output, pipeline, date);
    let names = run(date).parent().and_then(|runs| store.list(runs).ok()).unwrap_or_default();
    let mut dates: Vec<String> =
        names.iter().filter_map(|(name, _)| name.strip_prefix("ds=")).map(str::to_string).collect();
    let stands = |d: &str| {
        store.exists(&run(d).join(PUBLISHED))
            && store.exists(&publish::partition(output, "classification", d))
    };
    // ISO dates sort as text
    dates.retain(|d| d.as_str() < date && stands(d));
    dates.sort();
    dates
}

/// The record of what this pipeline published for a date.
pub fn record(store: &dyn Store, output: &Path, pipeline: &str, date: &str) -> Result<Published> {
    read_json(store, &Directory::place(output, pipeline, date).join(PUBLISHED))
}
