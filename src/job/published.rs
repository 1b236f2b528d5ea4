//! The record of what a run published, in its run directory, and the record of the date before.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::Pipeline;
use crate::error::Result;
use crate::lake::publish::Table;
use crate::lake::store::Store;
use crate::lake::store::digest::FileDigest;
use crate::lake::store::files::read_json;
use crate::run::directory::{Directory, PUBLISHED};
use crate::run::identity::TABLE_VERSION;

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
    /// The version of the target's table that was read, where the target is one.
    pub fn table_version(&self) -> Option<u64> {
        let of = |(name, version): (&String, &String)| {
            let table = name.strip_prefix(TABLE_VERSION).is_some_and(|rest| rest.contains(" table "));
            table.then(|| version.parse().ok())
        };
        self.made_of.iter().find_map(of).flatten()
    }

    /// The settings and inputs that are not what they were; none where an older version published.
    pub fn changed(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        let names: BTreeSet<&String> = self.made_of.keys().chain(now.keys()).collect();
        let differ = names.into_iter().filter(|name| self.made_of.get(*name) != now.get(*name));
        if self.made_of.is_empty() { Vec::new() } else { differ.cloned().collect() }
    }
}

/// Dates before `date` for which this pipeline's classification still stands, ascending.
pub fn dates(store: &dyn Store, pipeline: &Pipeline, date: &str) -> Result<Vec<String>> {
    let output = pipeline.output_path();
    let run = |date: &str| Directory::place(&output, &pipeline.name, date);
    let names = run(date).parent().and_then(|runs| store.list(runs).ok()).unwrap_or_default();
    let mut dates: Vec<String> =
        names.iter().filter_map(|(name, _)| name.strip_prefix("ds=")).map(str::to_string).collect();
    let published = pipeline.tables().published(store, "classification")?;
    let stands = |d: &str| store.exists(&run(d).join(PUBLISHED)) && published.contains(d);
    // ISO dates sort as text
    dates.retain(|d| d.as_str() < date && stands(d));
    dates.sort();
    Ok(dates)
}

/// The record of what this pipeline published for a date.
pub fn record(store: &dyn Store, pipeline: &Pipeline, date: &str) -> Result<Published> {
    read_json(store, &Directory::place(&pipeline.output_path(), &pipeline.name, date).join(PUBLISHED))
}
