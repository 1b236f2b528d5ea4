//! The relevance calculator, trained on the teachers' bundles: on request before any target exists, or in
//! passing by the relevance stage.
//!
//! In: the bundles alone, or with the profiles that a target gave. Every teacher scores every history; the
//! features of a history are read in blocks, a few columns at a time where they are profiled, so that memory
//! holds no history.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::Result;
use crate::features::block::Block;
use crate::lake::scan::source::BATCH_ROWS;
use crate::process::cancel;
use crate::process::log::Log;
use crate::relevance::maths::probability::{rows_within, spaced_rows};
use crate::relevance::profile::profiles::{FeatureProfile, Profiles, Summary};
use crate::relevance::profile::support::Support;
use crate::relevance::training::calculator::{Calculator, Repeat};
use crate::relevance::training::pooled::Fitted;
use crate::relevance::transfer::duplicates::Differences;
use crate::relevance::transfer::sources::{self, SourceScores, pseudo_rows};
use crate::sources::calculator_file::{self, model_digest};
use crate::sources::history::{self, History};
use crate::sources::inputs::Panel;
use crate::sources::owner_profile;
use crate::sources::support::{profiled, support_of};
use crate::teacher::Teacher;

/// Features that are summarised at a time: a summary holds up to a megabyte, one of few rows less, and each
/// turn costs a look at every column of the file.
const FEATURES_AT_ONCE: usize = 8;
const MOST_AT_ONCE: usize = 512;
const VALUES_AT_ONCE: usize = 1 << 18;
/// Rows of a history (evenly spaced) that every teacher is judged on, or more where fewer held-out ones than these
/// were among them; still more move no number that counts.
const JUDGED_ROWS: usize = 20_000;
const JUDGED_HELD_OUT: usize = 4_000;
/// Values of a history's blocks that are in memory at a time where there are several.
const VALUES_WAITING: usize = 1 << 22;

/// The teachers that repeat another, as a calculator keeps them.
pub fn repeats(teachers: &[Teacher], copies: &[Option<usize>]) -> Result<Vec<Repeat>> {
    let of = |(teacher, copy): (&Teacher, &Option<usize>)| {
        let original = teachers[(*copy)?].name().to_string();
        Some(calculator_file::member(teacher).map(|m| Repeat {
            name: m.name,
            digest: m.digest,
            same_as: original,
        }))
    };
    teachers.iter().zip(copies).filter_map(of).collect()
}

/// A summary of each feature of a history; none where it lacks the feature.
pub type Summaries = Vec<Option<Summary>>;

/// The histories of some teachers, opened once and summarised a few features at a time.
pub struct Histories {
    /// Which of the teachers have one.
    pub sources: Vec<usize>,
    opened: Vec<Opened>,
}

enum Opened {
    Rows(Box<History>),
    /// An owner's, whose summaries are all there.
    Profile(Summaries),
}

impl Histories {
    /// Those of the teachers in `active`.
    pub fn open(panel: Panel, active: &[usize]) -> Result<Histories> {
        let open = |k: &usize| -> Result<Option<Opened>> {
            let teacher = &panel.teachers[*k];
            if let Some(path) = teacher.bundle.profile_path() {
                let summaries = owner_profile::read(&path, panel.features);
                return Ok(Some(Opened::Profile(summaries.map_err(|e| e.with("teacher", teacher.name()))?)));
            }
            let history = history::open(teacher, panel.features, panel.pipeline.target.non_finite)?;
            Ok(history.map(|h| Opened::Rows(Box::new(h))))
        };
        let all = active.par_iter().with_max_len(1).map(open).collect::<Result<Vec<_>>>()?;
        let (sources, opened) =
            all.into_iter().enumerate().filter_map(|(place, opened)| opened.map(|o| (place, o))).unzip();
        Ok(Histories { sources, opened })
    }

    /// The features, cut into runs that are summarised at a time.
    pub fn runs(&self, features: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = |opened: &Opened| if let Opened::Rows(history) = opened { history.rows() } else { 1 };
        let rows = self.opened.iter().map(rows).max().unwrap_or(1);
        let size = (VALUES_AT_ONCE / rows.max(1)).clamp(FEATURES_AT_ONCE, MOST_AT_ONCE);
        (0..features).step_by(size).map(move |first| first..features.min(first + size))
    }

    /// The summaries of a run of features, each of which is asked for once.
    pub fn summaries(&mut self, features: Range<usize>, log: &Log) -> Result<Vec<Summaries>> {
        let summarise = |opened: &mut Opened| match opened {
            Opened::Rows(history) => history.summaries(features.clone(), log),
            Opened::Profile(all) => Ok(all[features.clone()].iter_mut().map(Option::take).collect()),
        };
        self.opened.par_iter_mut().with_max_len(1).map(summarise).collect()
    }
}

/// Profiles of the histories of the teachers in `active`, on bins of their own.
pub fn profile_histories(panel: Panel, active: &[usize]) -> Result<Profiles> {
    let mut histories = Histories::open(panel, active)?;
    let sources = histories.sources.clone();
    let mut profiles = Profiles { teachers: active.len(), sources, ..Profiles::default() };
    for features in histories.runs(panel.features.len()) {
        let summaries = histories.summaries(features.clone(), panel.log)?;
        let shared: Vec<FeatureProfile> = panel.features[features]
            .par_iter()
            .enumerate()
            .filter_map(|(j, feature)| {
                let theirs: Vec<&Summary> = summaries.iter().filter_map(|h| h[j].as_ref()).collect();
                let held = !theirs.is_empty() && theirs.len() == summaries.len();
                held.then(|| FeatureProfile::new(&feature.name, &theirs, None))
            })
            .collect::<Result<_>>()?;
        profiles.features.extend(shared);
    }
    Ok(profiles)
}

/// Scores every history with every teacher in `active` and trains the calculator on them, with the pooled
/// teacher of the same histories where there is one; also how different their scores are.
pub fn train(
    panel: Panel,
    active: &[usize],
    profiles: Profiles,
    pooled: Option<Fitted>,
) -> Result<(Calculator, Differences)> {
    let support = Support::new(&profiles);
    let shared = active.iter().any(|k| panel.teachers[*k].bundle.profile_path().is_some());
    let models = active
        .iter()
        .filter(|_| shared)
        .map(|&k| model_digest(&panel.teachers[k]))
        .collect::<Result<Vec<_>>>()?;
    // Narrow histories side by side, wide ones one after the other: the pages of a wide one take a hundred
    // megabytes while it is read.
    let at_once = if blocks_waiting(panel) > 1 { 1 } else { active.len().max(1) };
    let judged = active
        .par_iter()
        .enumerate()
        .with_min_len(at_once)
        .map(|(place, &k)| {
            let teacher = &panel.teachers[k];
            let (history, differences) =
                match history::open(teacher, panel.features, panel.pipeline.target.non_finite)? {
                    Some(history) => {
                        let (known, differences) =
                            history_of(panel, active, teacher, &history, &support, &profiles)?;
                        (Some(sources::Known::Rows(known)), differences)
                    }
                    None => (
                        owner_profile::tables(panel, active, &models, place)?.map(sources::Known::Tables),
                        Differences::new(active.len()),
                    ),
                };
            let (name, rows) = (teacher.name().to_string(), teacher.bundle.training.rows);
            Ok((sources::Teacher { name, rows, history }, differences))
        })
        .collect::<Result<Vec<_>>>()?;
    let (worlds, apart): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    let mut differences = Differences::new(active.len());
    apart.iter().for_each(|other| differences.merge(other));
    let members = active
        .par_iter()
        .with_max_len(1)
        .map(|&k| calculator_file::member(&panel.teachers[k]))
        .collect::<Result<Vec<_>>>()?;
    let world = SourceScores::new(worlds, panel.pipeline.classes.len())?;
    let classes = panel.pipeline.classes.clone();
    Ok((Calculator::train(&world, profiles, members, classes, pooled)?, differences))
}

/// Blocks of a history that are in memory at a time: one for each thread, or as many as memory is given for.
fn blocks_waiting(panel: Panel) -> usize {
    (VALUES_WAITING / (BATCH_ROWS * panel.features.len()).max(1)).clamp(1, rayon::current_num_threads())
}

/// What every teacher says of a history, and how different what they say is.
fn history_of(
    panel: Panel,
    active: &[usize],
    teacher: &Teacher,
    history: &History,
    support: &Support,
    profiles: &Profiles,
) -> Result<(sources::History, Differences)> {
    let mut differences = Differences::new(active.len());
    let (labels, held_out) = history.labels(teacher, panel.pipeline)?;
    let classes = panel.pipeline.classes.len();
    let held = held_out.iter().flatten().filter(|held| **held).count();
    let enough = (history.rows() * JUDGED_HELD_OUT).checked_div(held).unwrap_or(0);
    let judged = spaced_rows(history.rows(), JUDGED_ROWS.max(enough));
    let mut scores = vec![Vec::with_capacity(judged.len() * classes); active.len()];
    let chosen: Vec<usize> = pseudo_rows(judged.len()).into_iter().map(|place| judged[place]).collect();
    let mut supports = Vec::with_capacity(chosen.len() * active.len());
    let places = profiled(profiles, panel.features)?;
    let judge = |(first, whole): &(usize, Block)| -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
        cancel::check()?;
        let rows = *first..first + whole.rows;
        let stand_in = whole.take(&rows_within(&chosen, rows.clone()));
        let of_block = rows_within(&judged, rows);
        let block = if of_block.len() == whole.rows { whole } else { &whole.take(&of_block) };
        let matrix = panel.plan.encode(block);
        let score = |&k: &usize| {
            let mut own = vec![0.0; block.rows * classes];
            panel.teachers[k].score(&panel.encoders[k], block, &matrix, &mut own).map(|()| own)
        };
        let scores = active.iter().map(score).collect::<Result<Vec<_>>>()?;
        Ok((scores, support_of(support, &places, &stand_in)))
    };
    let mut judge_all = |blocks: &mut Vec<(usize, Block)>| -> Result<()> {
        for (own, support) in blocks.par_iter().map(judge).collect::<Result<Vec<_>>>()? {
            differences.add(&own.iter().map(Vec::as_slice).collect::<Vec<_>>());
            scores.iter_mut().zip(own).for_each(|(all, own)| all.extend(own));
            supports.extend(support);
        }
        blocks.clear();
        Ok(())
    };
    let most = blocks_waiting(panel);
    let (mut first, mut waiting) = (0, Vec::with_capacity(most));
    history.blocks(|block| {
        let rows = block.rows;
        waiting.push((first, block));
        first += rows;
        if waiting.len() == most { judge_all(&mut waiting) } else { Ok(()) }
    })?;
    judge_all(&mut waiting)?;
    let history = sources::History {
        labels: judged.iter().map(|row| labels[*row]).collect(),
        held_out: held_out.map(|held| judged.iter().map(|row| held[*row]).collect()),
        scores,
        support: supports,
    };
    Ok((history, differences))
}
