//! `coldstart profile`: the sketch of a scenario that its owner may share where the accounts themselves may
//! not leave.
//!
//! | what is asked for | what is added to the file |
//! |---|---|
//! | nothing | of each feature at most 240 cells of a number, or the counts of a category's levels with at least 5 rows |
//! | `--label` | how many rows each class has |
//! | `--teacher` | the own calibration of the owner's own teacher, from the held-out rows |
//! | `--score-with` | for each bundle named, and for the own teacher, the labels in cells of like scores |
//! | `--epsilon` | Laplace noise on all of these counts |

pub mod labels;
pub mod request;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::commands::share::request::Request;
use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::{Kind, NonFinite, readable};
use crate::lake::scan::Accounts;
use crate::lake::store::Real;
use crate::lake::store::files::write_json;
use crate::relevance::profile::numbers::ORDER_STATISTICS;
use crate::relevance::profile::profiles::Summary;
use crate::relevance::shared::file::{FORMAT, Privacy, SketchFile};
use crate::relevance::shared::laplace::Laplace;
use crate::run::fold;
use crate::sources::sketch::Sketch;

/// Levels of a category that are named; the rest are counted together.
const LEVELS: usize = 1000;
/// Rows of a level at least: a name that only a few accounts have, such as their id, stays at home.
const LEAST_ROWS: u64 = 5;
const MECHANISM: &str = "Laplace noise of this scale on every count of rows, the privacy budget epsilon spread evenly over the histograms; rounded, small counts set to 0. \
    Borders of cells, names of levels and the mean scores of cells carry no noise.";

/// Every count with noise, and what was done written down.
fn with_noise(mut file: SketchFile, epsilon: f64, secret: &str) -> SketchFile {
    let histograms = 1 + file.features.len() as u64 + file.labels.as_ref().map_or(0, labels::histograms);
    let noise = Laplace::new(histograms as f64 / epsilon, secret);
    file.rows = noise.counts("rows", &[file.rows])[0].max(1);
    file.features.iter_mut().for_each(|(name, summary)| blur(summary, name, &noise));
    file.labels.iter_mut().for_each(|l| labels::blur(l, &noise));
    file.privacy =
        Some(Privacy { mechanism: MECHANISM.to_string(), epsilon, histograms, scale: noise.scale });
    file
}

fn blur(summary: &mut Summary, name: &str, noise: &Laplace) {
    let name = format!("feature {name}");
    match summary {
        Summary::Number(s) => {
            let counts = noise.counts(&name, &[s.counts.as_slice(), &[s.nulls]].concat());
            let (null, cells) = counts.split_last().unwrap_or((&0, &[]));
            let kept = s.values.iter().zip(cells).filter(|(_, n)| **n > 0);
            (s.values, s.counts) = kept.map(|(v, n)| (*v, *n)).unzip();
            (s.nulls, s.n, s.exact) = (*null, s.counts.iter().sum(), false);
            (s.min, s.max) = (s.values.first().copied(), s.values.last().copied());
        }
        Summary::Category(s) => {
            let held: Vec<u64> = s.levels.iter().map(|(_, n)| *n).chain([s.other, s.nulls]).collect();
            let counts = noise.counts(&name, &held);
            s.levels.iter_mut().zip(&counts).for_each(|((_, n), noisy)| *n = *noisy);
            s.levels.retain(|(_, n)| *n > 0);
            (s.other, s.nulls) = (counts[counts.len() - 2], counts[counts.len() - 1]);
        }
    }
}

/// Sketches every readable column of the accounts that is a feature, and writes the file. Returns what it
/// did.
pub fn write(request: &Request) -> Result<Value> {
    let accounts = Accounts::open(request.accounts)?;
    let no_features: Vec<&str> =
        request.leave_out.iter().map(String::as_str).chain(request.label).chain(request.held_out).collect();
    for name in &no_features {
        accounts.field(name)?;
    }
    let mut features = Vec::new();
    let mut skipped = Vec::new();
    for field in accounts.schema().fields().iter().filter(|f| !no_features.contains(&f.name().as_str())) {
        match [Kind::Number, Kind::Category].into_iter().find(|k| readable(*k, field.data_type())) {
            Some(kind) => features.push(Feature { name: field.name().clone(), kind, present: true }),
            None => skipped.push(field.name().clone()),
        }
    }
    let (rows, summaries) = sketch(&accounts, &features)?;
    let labels = match request.label {
        Some(label) => Some(labels::measure(&accounts, label, request)?),
        None => None,
    };
    let features: BTreeMap<String, Summary> = features.into_iter().map(|f| f.name).zip(summaries).collect();
    let mut file = SketchFile { format: FORMAT, rows, features, labels, privacy: None };
    if let Some((epsilon, secret)) = request.noise {
        file = with_noise(file, epsilon, secret);
    }
    if request.score_with.is_empty() {
        // The own table was for the own calibration alone, and stays at home.
        file.labels.iter_mut().for_each(|l| l.tables.clear());
    }
    write_json(&Real, request.out, &file)?;
    let tables: Vec<&String> = file.labels.iter().flat_map(|l| l.tables.iter().map(|t| &t.teacher)).collect();
    Ok(json!({
        "status": "profiled",
        "rows": rows,
        "features": file.features.len(),
        "skipped": skipped,
        "classes": file.labels.as_ref().map(|l| &l.classes),
        "scored_with": tables,
        "noise": file.privacy.as_ref().map(|p| p.scale),
        "profile": request.out.display().to_string(),
    }))
}

fn sketch(accounts: &Accounts, features: &[Feature]) -> Result<(u64, Vec<Summary>)> {
    let names: Vec<String> = features.iter().map(|f| f.name.clone()).collect();
    let empty = || (0u64, features.iter().map(|f| Sketch::new(f.kind)).collect::<Vec<_>>());
    let (rows, sketches) = fold::over(0..accounts.units().len(), empty, |piece, (rows, sketches)| {
        accounts.read(&accounts.units()[piece], &names, |batch, _| {
            let mut odd = vec![NonFinite::default(); features.len()];
            let block = Block::decode(&batch, features, &mut odd).map_err(|e| e.file(accounts.place()))?;
            if let Some((feature, odd)) = features.iter().zip(&odd).find(|(_, o)| o.any()) {
                return Err(Error::data("a feature holds values that are not finite")
                    .file(accounts.place())
                    .column(&feature.name)
                    .value(odd));
            }
            *rows += block.rows as u64;
            sketches.iter_mut().zip(&block.columns).for_each(|(sketch, column)| sketch.add(column));
            Ok(())
        })
    })?;
    let coarse = |s: &Sketch| match s.summary() {
        Summary::Number(s) => Summary::Number(s.coarse(ORDER_STATISTICS)),
        Summary::Category(s) => Summary::Category(s.coarse(LEVELS, LEAST_ROWS)),
    };
    Ok((rows, sketches.iter().map(coarse).collect()))
}
