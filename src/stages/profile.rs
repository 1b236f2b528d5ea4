//! Step 1 of 6: what the features of the target and of the teachers' histories look like.
//!
//! In: the accounts (one pass) and the histories. Out: `profile.json` with counts on common bins, from which
//! relevance follows; the levels of each category that the student will know; the rows that are left out as
//! duplicates.

use rayon::prelude::*;
use serde_json::json;

use crate::config::{Dedupe, NonFinite};
use crate::error::{self, Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column;
use crate::lake::scan::{Accounts, Unit, ids};
use crate::relevance::profile::distance::summary_wasserstein;
use crate::relevance::profile::profiles::{FeatureProfile, Profiles, Summary};
use crate::run::context::Run;
use crate::sources::sketch::Sketch;
use crate::sources::training;
use crate::stages::artifacts::{PROFILE, Profile, StudentFeature};

/// Levels of a category that the student tells apart.
const STUDENT_LEVELS: usize = 256;

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let dropped = check_ids(run)?;
    let profile = measure(run, dropped, &run.inputs.asked())?;
    PROFILE.save(run.directory, &profile)
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

/// Profiles the target and the histories of the teachers in `active`: on the bins of a saved calculator where
/// it knows just these teachers.
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
    let student = inputs
        .features
        .iter()
        .zip(&targets)
        .filter(|(f, _)| f.present)
        .map(|(f, s)| student_feature(f, s))
        .collect();
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
    for (features, targets) in
        inputs.features.chunks(training::FEATURES_AT_ONCE).zip(targets.chunks(training::FEATURES_AT_ONCE))
    {
        let (sources, histories) =
            training::summaries(inputs.panel(run.pipeline, run.log), active, features)?;
        profile.profiles.sources = sources;
        for (j, feature) in features.iter().enumerate() {
            let theirs: Vec<&Summary> = histories.iter().filter_map(|h| h[j].as_ref()).collect();
            if !feature.present || theirs.len() < histories.len() {
                continue;
            }
            let shared = match saved {
                None => FeatureProfile::new(&feature.name, &theirs, Some(&targets[j]))
                    .map_err(|e| e.file(accounts.place()))?,
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
        run.log.warn(
            "profile",
            "no feature is shared by the target and every history: relevance has nothing to compare",
            json!({}),
        );
    }
    Ok(profile)
}

fn student_feature(feature: &Feature, summary: &Summary) -> StudentFeature {
    let levels = match summary {
        Summary::Number(_) => Vec::new(),
        Summary::Category(s) => {
            s.coarse(STUDENT_LEVELS, 1).levels.into_iter().map(|(level, _)| level).collect()
        }
    };
    StudentFeature { name: feature.name.clone(), kind: feature.kind, levels }
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

    fn not_finite<'a>(
        &'a self,
        features: &'a [Feature],
    ) -> impl Iterator<Item = (&'a Feature, column::NonFinite)> {
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
            let block =
                Block::decode(&batch, features, &mut seen.odd).map_err(|e| e.file(accounts.place()))?;
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
    let seen = accounts
        .units()
        .par_iter()
        .with_min_len(run_length)
        .try_fold(empty, one)
        .try_reduce(empty, |a, b| Ok(a.merge(b)))?;
    bar.finish_and_clear();
    for (feature, odd) in seen.not_finite(features) {
        match run.pipeline.target.non_finite {
            NonFinite::AsNull => run.log.warn(
                "profile",
                "not finite, read as null",
                json!({"column": feature.name, "found": odd.to_string()}),
            ),
            NonFinite::Reject => {
                return Err(Error::data("a feature holds values that are not finite")
                    .file(accounts.place())
                    .column(&feature.name)
                    .value(odd)
                    .hint("mend the column, or set target.non_finite = \"as_null\""));
            }
        }
    }
    Ok(seen)
}
