//! How much the features of an account look like those of each history, read from decoded columns.

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature, places};
use crate::features::column::Column;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::profiles::Profiles;
use crate::relevance::profile::support::{self, Support};

/// Where the profiled features stand among all.
pub fn profiled<'a>(profiles: &'a Profiles, features: &[Feature]) -> Result<Vec<(usize, &'a Bins)>> {
    let places = places(features.iter().map(|f| f.name.as_str()));
    let place = |name: &str| {
        places.get(name).copied().ok_or_else(|| Error::bug("a profiled feature is unknown").column(name))
    };
    profiles.features.iter().map(|f| Ok((place(&f.name)?, &f.bins))).collect()
}

/// The support `[n, K]` of a block.
pub fn support_of(support: &Support, profiled: &[(usize, &Bins)], block: &Block) -> Vec<f64> {
    let tables: Vec<Vec<u16>> = profiled
        .iter()
        .map(|(j, bins)| match &block.columns[*j] {
            Column::Number(_) => Vec::new(),
            Column::Category { levels, .. } => bins.of_levels(levels.iter().map(String::as_str)),
        })
        .collect();
    let columns: Vec<support::Column> = profiled
        .iter()
        .zip(&tables)
        .map(|((j, _), table)| match &block.columns[*j] {
            Column::Number(values) => support::Column::Number(values),
            Column::Category { codes, .. } => support::Column::Category { codes, bin_of: table },
        })
        .collect();
    support.rows(&columns, block.rows)
}
