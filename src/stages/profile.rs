//! Step 1 of 6: what the features of the target and of the teachers' histories look like.
//!
//! In: the accounts (one pass) and the histories. Out: `profile.json` with counts on common bins, from which relevance follows;
//! the levels of each category that the student will know; the rows that are left out as duplicates.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::train;
use crate::config::{Dedupe, NonFinite};
use crate::error::{self, Error, Result};
use crate::lake::accounts::{Accounts, Unit};
use crate::lake::column::{self, Column, Kind, NULL};
use crate::lake::ids;
use crate::relevance::distance::summary_wasserstein;
use crate::relevance::levels::CategorySketch;
use crate::relevance::profiles::{FeatureProfile, Profiles, Summary};
use crate::relevance::sketch::NumberSketch;
use crate::run::directory::{read_json, write_json};
use crate::run::job::Run;
use crate::teacher::encode::{Block, Feature};

/// Levels of a category that the student tells apart.
const STUDENT_LEVELS: usize = 256;

/// The stage's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// Accounts of the target, after `where` and deduplication.
    pub rows: u64,
    /// Ordinals of stored rows that are left out because their id stands before them.
    pub dropped: Vec<u64>,
    pub profiles: Profiles,
    /// Normalised Wasserstein distance to the target, for each profiled feature and source.
    pub wasserstein: Vec<Vec<Option<f64>>>,
    /// What the student is fed.
    pub student: Vec<StudentFeature>,
    /// Share of nulls in the target, for each profiled feature.
    pub null_share: Vec<f64>,
    /// Values of the target that were read as null since they are not finite, for each feature that has any.
    pub non_finite: BTreeMap<String, column::NonFinite>,
}

/// A feature as the student takes it; `levels` are a category's, most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentFeature {
    pub name: String,
    pub kind: Kind,
    pub levels: Vec<String>,
}

impl Profile {
    pub fn load(run: &Run) -> Result<Profile> {
        read_json(run.directory.store, &run.directory.stage("profile").join("profile.json"))
    }

    /// The target's accounts without the rows that are left out.
    pub fn accounts(&self, run: &Run) -> Accounts {
        run.inputs.accounts.clone().without_rows(self.dropped.clone())
    }
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let dropped = check_ids(run)?;
    let profile = measure(run, dropped, &run.inputs.asked())?;
    write_json(run.directory.store, &run.directory.stage("profile").join("profile.json"), &profile)
}

/// Every id stands once, or what to leave out so that it does.
fn check_ids(run: &Run) -> Result<Vec<u64>> {
    let (accounts, id) = (&run.inputs.accounts, &run.pipeline.target.id);
    let found = ids::duplicates(accounts, id)?;
    if found.later_rows.is_empty() {
        return Ok(Vec::new());
    }
    let count = found.later_rows.len();
    match run.pipeline.target.dedupe {
        Dedupe::First => {
            run.log.warn("profile", "rows whose id stands before them are left out", json!({"rows": count}));
            Ok(found.later_rows)
        }
        Dedupe::Error => Err(Error::data(format!("{count} rows repeat the id of an earlier account"))
            .file(accounts.place())
            .column(id)
            .value(found.examples.join(", "))
            .hint("make the ids unique, or set target.dedupe = \"first\"")),
    }
}

/// Profiles the target and the histories of the teachers in `active`: on the bins of a saved calculator where it knows just these teachers.
pub fn measure(run: &Run, dropped: Vec<u64>, active: &[usize]) -> Result<Profile> {
    let inputs = run.inputs;
    let accounts = inputs.accounts.clone().without_rows(dropped.clone());
    let target = sketch_target(run, &accounts)?;
    let rows = target.rows;
    if rows == 0 {
        return Err(Error::new(error::Kind::Empty, "no account of the target is left to classify")
            .file(accounts.place())
            .hint("look at target.where"));
    }
    let targets: Vec<Summary> = target.sketches.par_iter().map(Sketch::summary).collect();
    let student = inputs.features.iter().zip(&targets).filter(|(f, _)| f.present).map(|(f, s)| student_feature(f, s)).collect();
    let mut profile = Profile {
        rows,
        dropped,
        profiles: Profiles { teachers: active.len(), ..Profiles::default() },
        wasserstein: Vec::new(),
        student,
        null_share: Vec::new(),
        non_finite: target.not_finite(&inputs.features).map(|(f, odd)| (f.name.clone(), odd)).collect(),
    };
    let saved = inputs.calculator_for(active).map(|c| &c.profiles);
    for (features, targets) in inputs.features.chunks(train::FEATURES_AT_ONCE).zip(targets.chunks(train::FEATURES_AT_ONCE)) {
        let (sources, histories) = train::summaries(inputs.panel(run.pipeline, run.log), active, features)?;
        profile.profiles.sources = sources;
        for (j, feature) in features.iter().enumerate() {
            let theirs: Vec<&Summary> = histories.iter().filter_map(|h| h[j].as_ref()).collect();
            if !feature.present || theirs.len() < histories.len() {
                continue;
            }
            let shared = match saved {
                None => FeatureProfile::new(&feature.name, &theirs, Some(&targets[j])).map_err(|e| e.file(accounts.place()))?,
                Some(saved) => match saved.features.iter().find(|f| f.name == feature.name) {
                    Some(known) => known.with_target(&targets[j]),
                    None => continue,
                },
            };
            let nulls = shared.target.as_ref().and_then(|t| t.last()).copied().unwrap_or(0);
            profile.null_share.push(nulls as f64 / rows as f64);
            profile.profiles.features.push(shared);
            profile.wasserstein.push(theirs.iter().map(|h| summary_wasserstein(h, &targets[j])).collect());
        }
    }
    if profile.profiles.features.is_empty() {
        run.log.warn("profile", "no feature is shared by the target and every history: relevance has nothing to compare", json!({}));
    }
    Ok(profile)
}

fn student_feature(feature: &Feature, summary: &Summary) -> StudentFeature {
    let levels = match summary {
        Summary::Number(_) => Vec::new(),
        Summary::Category(s) => s.coarse(STUDENT_LEVELS, 1).levels.into_iter().map(|(level, _)| level).collect(),
    };
    StudentFeature { name: feature.name.clone(), kind: feature.kind, levels }
}

/// One feature as seen so far.
pub enum Sketch {
    Number(NumberSketch),
    Category(CategorySketch),
}

impl Sketch {
    pub fn new(kind: Kind) -> Sketch {
        match kind {
            Kind::Number => Sketch::Number(NumberSketch::default()),
            Kind::Category => Sketch::Category(CategorySketch::default()),
        }
    }

    pub fn add(&mut self, column: &Column) {
        match (self, column) {
            (Sketch::Number(sketch), Column::Number(values)) => {
                let known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
                sketch.add_nulls((values.len() - known.len()) as u64);
                sketch.add_all(&known);
            }
            (Sketch::Category(sketch), Column::Category { codes, levels }) => {
                let mut counts = vec![0u64; levels.len()];
                let mut nulls = 0;
                for code in codes {
                    match *code {
                        NULL => nulls += 1,
                        code => counts[code as usize] += 1,
                    }
                }
                sketch.add_nulls(nulls);
                levels.iter().zip(counts).for_each(|(level, n)| sketch.add(level, n));
            }
            _ => {}
        }
    }

    /// Adds what another sketch of the same kind has seen.
    pub fn merge(&mut self, other: &Sketch) {
        match (self, other) {
            (Sketch::Number(a), Sketch::Number(b)) => a.merge(b),
            (Sketch::Category(a), Sketch::Category(b)) => a.merge(b),
            _ => {}
        }
    }

    pub fn summary(&self) -> Summary {
        match self {
            Sketch::Number(sketch) => Summary::Number(sketch.summary()),
            Sketch::Category(sketch) => Summary::Category(sketch.summary()),
        }
    }
}

/// The sketches of a run of rows.
struct Seen {
    rows: u64,
    sketches: Vec<Sketch>,
    odd: Vec<column::NonFinite>,
}

impl Seen {
    fn new(features: &[Feature]) -> Seen {
        let sketches = features.iter().map(|f| Sketch::new(f.kind)).collect();
        Seen { rows: 0, sketches, odd: vec![column::NonFinite::default(); features.len()] }
    }

    fn not_finite<'a>(&'a self, features: &'a [Feature]) -> impl Iterator<Item = (&'a Feature, column::NonFinite)> {
        features.iter().zip(self.odd.iter().copied()).filter(|(_, odd)| odd.nan + odd.infinite > 0)
    }

    fn merge(mut self, other: Seen) -> Seen {
        self.rows += other.rows;
        self.sketches.iter_mut().zip(&other.sketches).for_each(|(a, b)| a.merge(b));
        for (a, b) in self.odd.iter_mut().zip(other.odd) {
            a.nan += b.nan;
            a.infinite += b.infinite;
        }
        self
    }
}

fn sketch_target(run: &Run, accounts: &Accounts) -> Result<Seen> {
    let features = &run.inputs.features;
    let columns = run.inputs.present();
    let bar = run.log.progress("profile", accounts.stored_rows());
    let one = |mut seen: Seen, unit: &Unit| -> Result<Seen> {
        accounts.read(unit, &columns, |batch, _| {
            let block = Block::decode(&batch, features, &mut seen.odd).map_err(|e| e.file(accounts.place()))?;
            seen.rows += block.rows as u64;
            seen.sketches.iter_mut().zip(&block.columns).for_each(|(sketch, column)| sketch.add(column));
            bar.inc(block.rows as u64);
            Ok(())
        })?;
        Ok(seen)
    };
    // What a sketch holds does not depend on the order of merging.
    let empty = || Seen::new(features);
    // Few long runs: each holds sketches of its own until it is merged.
    let run_length = accounts.units().len().div_ceil(2 * rayon::current_num_threads());
    let seen = accounts.units().par_iter().with_min_len(run_length).try_fold(empty, one).try_reduce(empty, |a, b| Ok(a.merge(b)))?;
    bar.finish_and_clear();
    for (feature, odd) in seen.not_finite(features) {
        let counts = format!("{} NaN, {} infinite or beyond float32", odd.nan, odd.infinite);
        match run.pipeline.target.non_finite {
            NonFinite::AsNull => run.log.warn("profile", "not finite, read as null", json!({"column": feature.name, "found": counts})),
            NonFinite::Reject => {
                return Err(Error::data("a feature holds values that are not finite")
                    .file(accounts.place())
                    .column(&feature.name)
                    .value(counts)
                    .hint("mend the column, or set target.non_finite = \"as_null\""));
            }
        }
    }
    Ok(seen)
}
