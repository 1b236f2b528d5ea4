//! The plan: all that many processes have to agree on to do one run between them.
//!
//! It pins the settings and the bundles by digest and every input file by size and time of change, and cuts the
//! accounts into units. A process that finds something else than what was planned refuses to work (75).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::lake::scan::Accounts;
use crate::lake::store::digest;
use crate::lake::table::TableRead;
use crate::run::identity::{Identity, Pinned};
use crate::run::stage::Stage;

/// Version of plans, receipts and states; another one is refused.
pub const FORMAT: u32 = 2;

/// A run, cut into units.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: u32,
    /// The version of the program that planned; the others have to have it too.
    pub coldstart: String,
    /// The run's key, that of `coldstart run` on the same inputs.
    pub key: String,
    pub date: String,
    pub settings: Settings,
    /// Digests of the parts of the key, see [`Identity::made_of`].
    pub made_of: BTreeMap<String, String>,
    /// The files that are read, as they were when they were digested.
    pub inputs: Vec<Pinned>,
    /// Of a target that is a table: the version that was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableRead>,
    /// Stored rows, the pieces of rows that are worked on, and the files of a table that these make.
    pub rows: u64,
    pub pieces: usize,
    pub parts: usize,
    pub units: Vec<Unit>,
    /// The stages in their order, and how many units each has: none where `reduce` does all of it.
    pub stages: Vec<Units>,
}

/// The pipeline file, so that nobody has to find it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The pipeline file's text; variables stand in it by name, so that no secret stands here.
    pub text: String,
    pub overrides: Vec<String>,
    /// The directory to which the paths in it are relative.
    pub root: PathBuf,
    /// Digest of all settings, with defaults and variables filled in.
    pub sha256: String,
}

/// A run of pieces that one process does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    pub first_piece: usize,
    pub pieces: usize,
    pub rows: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    pub stage: String,
    pub units: usize,
}

impl Plan {
    /// Whether it takes several pieces to make a file of a table.
    pub fn is_cut_finer(&self) -> bool {
        self.parts < self.pieces
    }
}

impl Unit {
    pub fn range(&self) -> Range<usize> {
        self.first_piece..self.first_piece + self.pieces
    }
}

impl Plan {
    /// A plan of at most `units` units: there are no more than pieces. The accounts are cut for so many.
    pub fn new(
        settings: Settings,
        date: &str,
        identity: &Identity,
        accounts: &Accounts,
        units: usize,
    ) -> Plan {
        let rows: Vec<u64> = accounts.units().iter().map(|piece| piece.rows()).collect();
        let units = cut(&rows, units);
        let stages = Stage::ALL.map(|stage| Units {
            stage: stage.name().to_string(),
            units: if stage.is_mapped() { units.len() } else { 0 },
        });
        Plan {
            format: FORMAT,
            coldstart: env!("CARGO_PKG_VERSION").to_string(),
            key: identity.key.clone(),
            date: date.to_string(),
            settings,
            made_of: identity.made_of.clone(),
            inputs: identity.files.clone(),
            table: identity.table.clone(),
            rows: accounts.stored_rows(),
            pieces: rows.len(),
            parts: accounts.parts().len(),
            units,
            stages: stages.into(),
        }
    }

    /// Reads a plan and the pipeline in it; the plan's id comes with it.
    pub fn read(path: &Path) -> Result<(Plan, Pipeline, String)> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(&e, "cannot read the plan", path))?;
        let plan: Plan = serde_json::from_str(&text)
            .map_err(|e| Error::data(format!("not a plan of coldstart: {e}")).file(path))?;
        let version = env!("CARGO_PKG_VERSION");
        if plan.format != FORMAT || plan.coldstart != version {
            return Err(Error::config("the plan was made by another version of coldstart")
                .file(path)
                .value(plan.coldstart)
                .hint(format!("use that version everywhere, or plan again: this is {version}")));
        }
        let pipeline = plan.settings.pipeline().map_err(|e| e.file(path))?;
        Ok((plan, pipeline, digest::text(&text)))
    }

    /// The identity of the run, so that its files can be watched; their content is not read again.
    pub fn identity(&self) -> Identity {
        Identity {
            key: self.key.clone(),
            made_of: self.made_of.clone(),
            files: self.inputs.clone(),
            table: self.table.clone(),
        }
    }

    /// Refuses (75) accounts that fall into other pieces than were planned.
    pub fn check(&self, accounts: &Accounts) -> Result<()> {
        let found = (accounts.stored_rows(), accounts.units().len(), accounts.parts().len());
        match found == (self.rows, self.pieces, self.parts) {
            true => Ok(()),
            false => Err(Error::new(Kind::TryAgain, "the accounts are not those that were planned")
                .file(accounts.place())
                .hint("plan again")),
        }
    }
}

impl Settings {
    pub fn new(path: &Path, overrides: &[String]) -> Result<(Settings, Pipeline)> {
        let pipeline = Pipeline::read(path, overrides)?;
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::io(&e, "cannot read the pipeline", path))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let root = std::path::absolute(folder).map_err(|e| Error::io(&e, "cannot find", folder))?;
        let sha256 = digest_of(&pipeline)?;
        let settings = Settings { text, overrides: overrides.to_vec(), root, sha256 };
        // Whoever plans reads the settings as the others will.
        let pipeline = settings.pipeline().map_err(|e| e.file(path))?;
        Ok((settings, pipeline))
    }

    fn pipeline(&self) -> Result<Pipeline> {
        let environment = |name: &str| std::env::var(name).ok();
        let pipeline = Pipeline::parse(&self.text, &self.root, &self.overrides, &environment)?;
        match digest_of(&pipeline)? == self.sha256 {
            true => Ok(pipeline),
            false => {
                Err(Error::config("an environment variable of the pipeline is not what it was in planning")
                    .hint("set it in each process, or plan again"))
            }
        }
    }
}

fn digest_of(pipeline: &Pipeline) -> Result<String> {
    let text = serde_json::to_string(pipeline).map_err(|e| Error::bug(e.to_string()))?;
    Ok(digest::text(&text))
}

/// Runs of pieces with about the same number of rows each: a boundary stands where the rows before it come
/// closest to their share.
fn cut(rows: &[u64], units: usize) -> Vec<Unit> {
    let total: u64 = rows.iter().sum();
    let units = units.clamp(1, rows.len().max(1));
    let (mut out, mut first, mut before) = (Vec::with_capacity(units), 0, 0u64);
    for unit in 0..units {
        let share = (u128::from(total) * (unit as u128 + 1) / units as u128) as u64;
        // each unit takes a piece at least and leaves one for each unit after it
        let last = rows.len() - (units - unit - 1);
        let (mut end, mut seen) = (first, before);
        while end < last && (end == first || seen + rows[end] / 2 < share || unit + 1 == units) {
            seen += rows[end];
            end += 1;
        }
        out.push(Unit { first_piece: first, pieces: end - first, rows: seen - before });
        (first, before) = (end, seen);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_piece_once_and_are_of_like_size() {
        let rows: Vec<u64> = (0..97).map(|i| 65_536 + (i * 7919) % 60_000).collect();
        for wanted in [1, 2, 7, 64, 97, 500] {
            let units = cut(&rows, wanted);
            assert_eq!(units.len(), wanted.min(97));
            let mut next = 0;
            for unit in &units {
                assert_eq!((unit.first_piece, unit.pieces > 0), (next, true));
                assert_eq!(unit.rows, rows[unit.range()].iter().sum::<u64>());
                next = unit.range().end;
            }
            assert_eq!(next, 97);
            let even = rows.iter().sum::<u64>() / units.len() as u64;
            assert!(units.iter().all(|u| u.rows < even + 130_000), "{wanted}: {units:?}");
        }
        assert_eq!(cut(&[5], 3), [Unit { first_piece: 0, pieces: 1, rows: 5 }]);
    }
}
