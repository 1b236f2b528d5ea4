//! `coldstart profile`: the sketch of a scenario that its owner may share where the accounts themselves may not leave.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::profile::Sketch;
use crate::error::{Error, Result};
use crate::lake::accounts::Accounts;
use crate::lake::column::{Kind, NonFinite, readable};
use crate::relevance::profiles::Summary;
use crate::relevance::sketch::ORDER_STATISTICS;
use crate::run::directory::{read_json, write_json};
use crate::teacher::encode::{Block, Feature};

const FORMAT: u32 = 1;
/// Levels of a category that are named; the rest are counted together.
const LEVELS: usize = 1000;

/// A scenario without its rows: for each feature at most 240 cells of a number, or the counts of a category's levels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchFile {
    pub format: u32,
    pub rows: u64,
    pub features: BTreeMap<String, Summary>,
}

impl SketchFile {
    /// Reads a file that [`write()`] wrote.
    pub fn read(path: &Path) -> Result<SketchFile> {
        let file: SketchFile = read_json(path)?;
        match file.format {
            FORMAT => Ok(file),
            other => Err(Error::data("the profile has another format version").file(path).value(other)),
        }
    }

    /// The summary of each feature, where the sketch has it with that kind.
    pub fn summaries(mut self, features: &[Feature]) -> Vec<Option<Summary>> {
        let fits =
            |kind: Kind, s: &Summary| matches!((kind, s), (Kind::Number, Summary::Number(_)) | (Kind::Category, Summary::Category(_)));
        features.iter().map(|f| self.features.remove(&f.name).filter(|s| fits(f.kind, s))).collect()
    }
}

/// Sketches every readable column of the accounts but those named in `leave_out`, and writes the file. Returns what it did.
pub fn write(place: &Path, leave_out: &[String], out: &Path) -> Result<Value> {
    let accounts = Accounts::open(place)?;
    for name in leave_out {
        accounts.field(name)?;
    }
    let mut features = Vec::new();
    let mut skipped = Vec::new();
    for field in accounts.schema().fields().iter().filter(|f| !leave_out.contains(f.name())) {
        match [Kind::Number, Kind::Category].into_iter().find(|k| readable(*k, field.data_type())) {
            Some(kind) => features.push(Feature { name: field.name().clone(), kind, present: true }),
            None => skipped.push(field.name().clone()),
        }
    }
    let names: Vec<String> = features.iter().map(|f| f.name.clone()).collect();
    let empty = || (0u64, features.iter().map(|f| Sketch::new(f.kind)).collect::<Vec<_>>());
    let (rows, sketches) = accounts
        .units()
        .par_iter()
        .try_fold(empty, |(mut rows, mut sketches), unit| -> Result<_> {
            accounts.read(unit, &names, |batch, _| {
                let mut odd = vec![NonFinite::default(); features.len()];
                let block = Block::decode(&batch, &features, &mut odd).map_err(|e| e.file(accounts.place()))?;
                if let Some((feature, odd)) = features.iter().zip(&odd).find(|(_, o)| o.nan + o.infinite > 0) {
                    let counts = format!("{} NaN, {} infinite or beyond float32", odd.nan, odd.infinite);
                    return Err(Error::data("a feature holds values that are not finite")
                        .file(accounts.place())
                        .column(&feature.name)
                        .value(counts));
                }
                rows += block.rows as u64;
                sketches.iter_mut().zip(&block.columns).for_each(|(sketch, column)| sketch.add(column));
                Ok(())
            })?;
            Ok((rows, sketches))
        })
        .try_reduce(empty, |(a, mut left), (b, right)| {
            left.iter_mut().zip(&right).for_each(|(a, b)| a.merge(b));
            Ok((a + b, left))
        })?;
    let coarse = |s: &Sketch| match s.summary() {
        Summary::Number(s) => Summary::Number(s.coarse(ORDER_STATISTICS)),
        Summary::Category(s) => Summary::Category(s.coarse(LEVELS)),
    };
    let file = SketchFile { format: FORMAT, rows, features: names.iter().cloned().zip(sketches.iter().map(coarse)).collect() };
    write_json(out, &file)?;
    Ok(json!({"status": "profiled", "rows": rows, "features": names.len(), "skipped": skipped, "profile": out.display().to_string()}))
}
