//! Step 1 of 6: what the features of the target and of the teachers' histories look like.
//!
//! In: the accounts (one pass) and the histories. Out: `profile.json` with counts on common bins, from which
//! relevance follows; the levels of each category that the student will know; the rows that are left out as
//! duplicates; the ids' hashes, by which those are found.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Dedupe, NonFinite, OnLost};
use crate::drift::sketches::FeatureSketch;
use crate::error::{self, Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::coded::CodedFeature;
use crate::features::column;
use crate::lake::scan::source::BATCH_ROWS;
use crate::lake::scan::{Accounts, ids, repeated};
use crate::lake::store::files::{read, write_atomic};
use crate::relevance::profile::distance::summary_wasserstein;
use crate::relevance::profile::known::Known;
use crate::relevance::profile::profiles::{FeatureProfile, Profiles, Summary};
use crate::relevance::training::pooled::Fitted;
use crate::run::context::Run;
use crate::run::fold::{Fold, State};
use crate::run::stage::Stage;
use crate::sources::sketch::Sketch;
use crate::sources::training::Histories;
use crate::sources::{pooled, repeats, training};
use crate::stages::artifacts::{FEATURE_SKETCHES, POOLED, PROFILE, Profile, id_hashes};
use crate::stages::{Mapped, state};

/// Values that wait to be counted: the counters of a column are used for many rows while they are in the cache.
const VALUES_WAITING: usize = 1 << 21;
/// Columns that one thread counts at least.
const COLUMNS_TOGETHER: usize = 8;
/// Levels of a category that the student tells apart.
const STUDENT_LEVELS: usize = 256;

/// The map over the accounts, and what is made of all of them.
pub struct Step;

impl Mapped for Step {
    type State = Seen;

    fn map(run: &Run, pieces: Range<usize>) -> Result<Seen> {
        sketch(run, &run.inputs.accounts, pieces, Some(&run.pipeline.target.id))
    }

    fn reduce(run: &Run, mut seen: Seen) -> Result<()> {
        let dropped = check_ids(run)?;
        if !dropped.is_empty() {
            let left = run.inputs.accounts.clone().without_rows(dropped.clone());
            seen = sketch(run, &left, run.pieces(), None)?;
        }
        check_finite(run, &seen)?;
        let different = repeats::different(run.inputs)?;
        if different.len() < run.inputs.asked().len() {
            write_atomic(run.directory.store, &place_of_seen(run), &state::write(&seen)?)?;
        }
        let (profile, sketches) = measure(run, &seen, dropped, different)?;
        FEATURE_SKETCHES.save(run.directory, &sketches)?;
        POOLED.save(run.directory, &fit_pooled(run, &profile.teachers, &profile)?)?;
        PROFILE.save(run.directory, &profile)
    }
}

/// Where what was learned of the accounts is kept while it is not certain which teachers count.
fn place_of_seen(run: &Run) -> PathBuf {
    run.directory.stage(Stage::Profile.name()).join("seen")
}

/// What was learned of the accounts that are not left out.
pub fn seen(run: &Run) -> Result<Seen> {
    let path = place_of_seen(run);
    let bytes = read(run.directory.store, &path).map_err(|e| Error::io(&e, "cannot read", &path))?;
    state::read(&bytes).map_err(|e| e.file(&path))
}

/// Every id stands once, or what to leave out so that it does.
fn check_ids(run: &Run) -> Result<Vec<u64>> {
    let (accounts, id) = (&run.inputs.accounts, &run.pipeline.target.id);
    let files: Vec<PathBuf> = run.pieces().map(|piece| id_hashes(run, piece)).collect();
    let found = repeated::with_hashes(accounts, id, &repeated::twins(&files)?)?;
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
/// it knows just these teachers. Also gives what is kept of the target for later dates.
pub fn measure(
    run: &Run,
    target: &Seen,
    dropped: Vec<u64>,
    teachers: Vec<usize>,
) -> Result<(Profile, Vec<FeatureSketch>)> {
    let (inputs, rows, active) = (run.inputs, target.rows, teachers.as_slice());
    let accounts = &inputs.accounts;
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
    let present = inputs.features.iter().zip(&targets).filter(|(f, _)| f.present);
    let sketches = present.map(|(f, s)| FeatureSketch::new(&f.name, s)).collect();
    let mut profile = Profile {
        rows,
        teachers: teachers.clone(),
        dropped,
        profiles: Profiles { teachers: active.len(), ..Profiles::default() },
        wasserstein: Vec::new(),
        student,
        null_share: Vec::new(),
        known: Vec::new(),
        non_finite: target.not_finite(&inputs.features).map(|(f, odd)| (f.name.clone(), odd)).collect(),
    };
    let saved = inputs.calculator_for(active).map(|c| &c.profiles);
    let mut opened = Histories::open(inputs.panel(run.pipeline, run.log), active)?;
    let sources = opened.sources.clone();
    profile.profiles.sources = sources.clone();
    let runs: Vec<Range<usize>> = opened.runs(inputs.features.len()).collect();
    let mut ahead = runs.first().map(|first| opened.summaries(first.clone(), run.log)).transpose()?;
    for (place, run_of) in runs.iter().enumerate() {
        let histories = ahead.take().unwrap_or_default();
        let (features, targets) = (&inputs.features[run_of.clone()], &targets[run_of.clone()]);
        profile.known.extend(known(run, active, features, targets, (&sources, &histories)));
        let compare =
            |(j, feature): (usize, &Feature)| -> Result<Option<(FeatureProfile, Vec<Option<f64>>)>> {
                let theirs: Vec<&Summary> = histories.iter().filter_map(|h| h[j].as_ref()).collect();
                if !feature.present || theirs.len() < histories.len() {
                    return Ok(None);
                }
                let shared = match saved {
                    None => FeatureProfile::new(&feature.name, &theirs, Some(&targets[j]))
                        .map_err(|e| e.file(accounts.place()))?,
                    Some(saved) => match saved.features.iter().find(|f| f.name == feature.name) {
                        Some(known) => known.with_target(&targets[j]),
                        None => return Ok(None),
                    },
                };
                Ok(Some((shared, theirs.iter().map(|h| summary_wasserstein(h, &targets[j])).collect())))
            };
        // the next features are read while these are compared
        let (compared, read) = rayon::join(
            || features.par_iter().enumerate().map(compare).collect::<Result<Vec<_>>>(),
            || runs.get(place + 1).map(|next| opened.summaries(next.clone(), run.log)).transpose(),
        );
        ahead = read?;
        for (shared, wasserstein) in compared?.into_iter().flatten() {
            let nulls = shared.target.as_ref().and_then(|t| t.last()).copied().unwrap_or(0);
            profile.null_share.push(nulls as f64 / rows as f64);
            profile.profiles.features.push(shared);
            profile.wasserstein.push(wasserstein);
        }
    }
    tell_lost(run, &profile.known, accounts.place())?;
    if profile.profiles.features.is_empty() {
        run.log.warn(
            "profile",
            "no feature is shared by the target and every history: relevance has nothing to compare",
            json!({}),
        );
    }
    Ok((profile, sketches))
}

/// The pooled teacher: that of a saved calculator where it knows just these teachers, or one that is fitted to
/// their histories.
pub fn fit_pooled(run: &Run, active: &[usize], profile: &Profile) -> Result<Option<Fitted>> {
    match run.inputs.calculator_for(active) {
        Some(saved) => Ok(saved.pooled.clone().map(|pooled| Fitted { pooled, rehearsed: Vec::new() })),
        None => pooled::fit(run.inputs.panel(run.pipeline, run.log), active, &profile.profiles),
    }
}

/// What the teachers in `active` know of those of `features` that the target holds.
fn known(
    run: &Run,
    active: &[usize],
    features: &[Feature],
    targets: &[Summary],
    (sources, histories): (&[usize], &[training::Summaries]),
) -> Vec<Known> {
    let mut out = Vec::new();
    for (place, &k) in active.iter().enumerate() {
        let teacher = &run.inputs.teachers[k];
        let home = sources.iter().position(|s| *s == place).map(|s| &histories[s]);
        let taken: HashMap<&str, &[String]> =
            teacher.bundle.features.iter().map(|f| (f.name.as_str(), f.values.as_slice())).collect();
        for (j, feature) in features.iter().enumerate().filter(|(_, f)| f.present) {
            if let Some(levels) = taken.get(feature.name.as_str()) {
                let name = (teacher.name(), feature.name.as_str());
                let home = home.and_then(|h| h[j].as_ref());
                out.push(Known::of(name, levels, &targets[j], home, run.pipeline.target.known_fall));
            }
        }
    }
    out
}

/// Says which columns are lost, or refuses (65) the first.
fn tell_lost(run: &Run, known: &[Known], place: &Path) -> Result<()> {
    let lost: Vec<&Known> = known.iter().filter(|k| k.lost).collect();
    let names: BTreeSet<&str> = lost.iter().map(|k| k.feature.as_str()).collect();
    for name in &names {
        let of: Vec<&&Known> = lost.iter().filter(|k| k.feature == *name).collect();
        let shares = |share: &dyn Fn(&Known) -> Option<f64>| -> Vec<Value> {
            of.iter().map(|k| json!({"teacher": k.teacher, "share": share(k)})).collect()
        };
        run.log.warn(
            "profile",
            "a column has lost the values that its teachers know",
            json!({
                "column": name,
                "known": shares(&|k| Some(k.share)),
                "in the history": shares(&|k| k.at_home),
                "constant": of.iter().any(|k| k.constant),
            }),
        );
    }
    match (lost.first(), run.pipeline.target.lost_columns) {
        (Some(k), OnLost::Reject) => Err(Error::data("a column has lost the values that its teachers know")
            .file(place)
            .column(names.into_iter().collect::<Vec<_>>().join(", "))
            .value(format!("{:.3} known", k.share))
            .with("teacher", k.teacher.clone())
            .with("in its history", k.at_home.map_or("unknown".to_string(), |s| format!("{s:.3}")))
            .hint("mend the column, or set target.lost_columns = \"warn\"; target.known_fall moves the threshold")),
        _ => Ok(()),
    }
}

fn student_feature(feature: &Feature, summary: &Summary) -> CodedFeature {
    let levels = match summary {
        Summary::Number(_) => Vec::new(),
        Summary::Category(s) => {
            s.coarse(STUDENT_LEVELS, 1).levels.into_iter().map(|(level, _)| level).collect()
        }
    };
    CodedFeature { name: feature.name.clone(), kind: feature.kind, levels }
}

/// The sketches of some rows, of one feature after the other.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    rows: u64,
    sketches: Vec<Sketch>,
    odd: Vec<column::NonFinite>,
}

impl Seen {
    fn new(features: &[Feature]) -> Seen {
        let sketches = features.iter().map(|f| Sketch::new(f.kind)).collect();
        Seen { rows: 0, sketches, odd: vec![column::NonFinite::default(); features.len()] }
    }

    /// Counts the values of some blocks, one column after the other.
    fn add(&mut self, blocks: &mut Vec<Block>) {
        // a thread that has nothing left to do takes some columns from another
        self.sketches
            .par_iter_mut()
            .enumerate()
            .with_min_len(COLUMNS_TOGETHER)
            .for_each(|(j, sketch)| blocks.iter().for_each(|block| sketch.add(&block.columns[j])));
        blocks.clear();
    }

    fn not_finite<'a>(
        &'a self,
        features: &'a [Feature],
    ) -> impl Iterator<Item = (&'a Feature, column::NonFinite)> {
        features.iter().zip(self.odd.iter().copied()).filter(|(_, odd)| odd.nan + odd.infinite > 0)
    }
}

impl State for Seen {
    fn merge(&mut self, other: Seen) {
        self.rows += other.rows;
        self.sketches.merge(other.sketches);
        for (a, b) in self.odd.iter_mut().zip(other.odd) {
            a.nan += b.nan;
            a.infinite += b.infinite;
        }
    }
}

/// Sketches the accounts in some pieces of rows; leaves the hashes of their ids where that column is named.
fn sketch(run: &Run, accounts: &Accounts, pieces: Range<usize>, id: Option<&String>) -> Result<Seen> {
    let features = &run.inputs.features;
    let columns: Vec<String> = id.cloned().into_iter().chain(run.inputs.present()).collect();
    Fold { log: run.log, stage: "profile", rows: accounts.rows_of(pieces.clone()), pieces }.run(
        || Seen::new(features),
        |piece, seen| {
            let before = seen.rows;
            let (mut hashes, mut waiting) = (Vec::new(), Vec::new());
            let most = VALUES_WAITING / (BATCH_ROWS * features.len().max(1));
            accounts.read(&accounts.units()[piece], &columns, |batch, _| {
                if let Some(id) = id {
                    let found = ids::hashes(batch.column(0));
                    hashes.extend(found.map_err(|e| e.file(accounts.place()).column(id))?);
                }
                let block =
                    Block::decode(&batch, features, &mut seen.odd).map_err(|e| e.file(accounts.place()))?;
                seen.rows += block.rows as u64;
                waiting.push(block);
                if waiting.len() >= most {
                    seen.add(&mut waiting);
                }
                Ok(())
            })?;
            seen.add(&mut waiting);
            if id.is_some() {
                repeated::write(run.directory.store, &id_hashes(run, piece), hashes)?;
            }
            Ok(seen.rows - before)
        },
    )
}

/// Values that are not finite are told of, or refused.
fn check_finite(run: &Run, seen: &Seen) -> Result<()> {
    for (feature, odd) in seen.not_finite(&run.inputs.features) {
        match run.pipeline.target.non_finite {
            NonFinite::AsNull => run.log.warn(
                "profile",
                "not finite, read as null",
                json!({"column": feature.name, "found": odd.to_string()}),
            ),
            NonFinite::Reject => {
                return Err(Error::data("a feature holds values that are not finite")
                    .file(run.inputs.accounts.place())
                    .column(&feature.name)
                    .value(odd)
                    .hint("mend the column, or set target.non_finite = \"as_null\""));
            }
        }
    }
    Ok(())
}
