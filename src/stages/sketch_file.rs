//! `coldstart profile`: the sketch of a scenario that its owner may share where the accounts themselves may not leave.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::profile::Sketch;
use crate::error::{Error, Result};
use crate::lake::accounts::Accounts;
use crate::lake::column::{Kind, NonFinite, readable};
use crate::lake::store::Real;
use crate::relevance::profiles::Summary;
use crate::relevance::sketch::ORDER_STATISTICS;
use crate::relevance::sketch_file::SketchFile;
use crate::run::directory::write_json;
use crate::teacher::encode::{Block, Feature};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// Levels of a category that are named; the rest are counted together.
const LEVELS: usize = 1000;

/// Reads a file that [`write()`] wrote: the summary of each of `features`, where the sketch has it with that kind.
pub fn read(path: &Path, features: &[Feature]) -> Result<Vec<Option<Summary>>> {
    let cannot = |e: std::io::Error| Error::io(&e, "cannot read the profile", path);
    let bytes = std::fs::metadata(path).map_err(cannot)?.len();
    if bytes > LARGEST {
        return Err(Error::data("the profile is larger than 64 MiB").file(path).value(format!("{bytes} bytes")));
    }
    let mut file = SketchFile::parse(&std::fs::read(path).map_err(cannot)?).map_err(|e| e.file(path))?;
    let fits = |kind: Kind, s: &Summary| matches!((kind, s), (Kind::Number, Summary::Number(_)) | (Kind::Category, Summary::Category(_)));
    Ok(features.iter().map(|f| file.features.remove(&f.name).filter(|s| fits(f.kind, s))).collect())
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
    let file = SketchFile::new(rows, names.iter().cloned().zip(sketches.iter().map(coarse)).collect());
    write_json(&Real, out, &file)?;
    Ok(json!({"status": "profiled", "rows": rows, "features": names.len(), "skipped": skipped, "profile": out.display().to_string()}))
}
