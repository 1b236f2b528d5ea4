//! What each stage leaves in the run directory for those after it: documents of one JSON file, and folders of
//! parts. Nothing here does more than load and save; the names stand here alone.

use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::drift::sketches::{FeatureSketch, ScoreSketches};
use crate::error::Result;
use crate::features::coded::CodedFeature;
use crate::features::column;
use crate::lake::scan::Accounts;
use crate::lake::store::Store;
use crate::lake::store::files::{read_json, write_json};
use crate::relevance::findings::Findings;
use crate::relevance::fusion::aligned_pool::Alignment;
use crate::relevance::fusion::fuse::{Blend, Fuser};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::profile::distance::Distances;
use crate::relevance::profile::known::Known;
use crate::relevance::profile::profiles::Profiles;
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::pooled::Fitted;
use crate::run::context::Run;
use crate::run::directory::Directory;
use crate::run::stage::Stage;
use crate::student::Fidelity;

/// The features of target and histories, of all teachers that are asked and seem to differ.
pub const PROFILE: Document<Profile> = Document::new(Stage::Profile, "profile.json");
/// The same of the teachers that count, once their scores have shown which of them repeat another.
pub const COUNTED_PROFILE: Document<Profile> = Document::new(Stage::Score, "profile.json");
/// The pooled teacher, where there is one, of all teachers that are asked and of those that count.
pub const POOLED: Document<Option<Fitted>> = Document::new(Stage::Profile, "pooled.json");
pub const COUNTED_POOLED: Document<Option<Fitted>> = Document::new(Stage::Score, "pooled.json");
pub const SCORED: Document<Scored> = Document::new(Stage::Score, "score.json");
pub const CALCULATOR: Document<Calculator> = Document::new(Stage::Relevance, "calculator.json");
pub const FUSION: Document<Fusion> = Document::new(Stage::Relevance, "fusion.json");
pub const VERDICT: Document<Verdict> = Document::new(Stage::Relevance, "verdict.json");
/// What is kept for later dates to be compared with: the target's features, and scores of a sample.
pub const FEATURE_SKETCHES: Document<Vec<FeatureSketch>> = Document::new(Stage::Profile, "sketches.json");
pub const SCORE_SKETCHES: Document<ScoreSketches> = Document::new(Stage::Relevance, "scores.json");
pub const WEIGHTS: Document<Weights> = Document::new(Stage::Fuse, "fuse.json");
pub const FIT: Document<Fit> = Document::new(Stage::Fit, "fit.json");
pub const SUMMARY: Document<Summary> = Document::new(Stage::Classify, "summary.json");

/// Each teacher's probabilities and support on every account.
pub const SCORES: Parts = Parts { stage: Stage::Score, folder: "scores", published: false };
/// The features of the accounts that train the student.
pub const SAMPLE: Parts = Parts { stage: Stage::Score, folder: "sample", published: false };
pub const SOFT_LABELS: Parts = Parts { stage: Stage::Fuse, folder: "soft_labels", published: true };
pub const STUDENT: Parts = Parts { stage: Stage::Fit, folder: "student", published: true };
pub const CLASSIFICATION: Parts = Parts { stage: Stage::Classify, folder: "classification", published: true };

/// Folder of a stage for the files of pieces that several make one file of a table.
const PIECES: &str = "pieces";

/// One JSON file that a stage leaves.
pub struct Document<T> {
    pub stage: Stage,
    pub file: &'static str,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Document<T> {
    const fn new(stage: Stage, file: &'static str) -> Self {
        Document { stage, file, of: PhantomData }
    }

    pub fn path(&self, directory: &Directory) -> PathBuf {
        directory.stage(self.stage.name()).join(self.file)
    }

    pub fn load(&self, directory: &Directory) -> Result<T> {
        read_json(directory.store, &self.path(directory))
    }

    pub fn save(&self, directory: &Directory, value: &T) -> Result<()> {
        write_json(directory.store, &self.path(directory), value)
    }

    /// Loads a copy that lies in `folder` under the file's own name.
    pub fn load_from(&self, store: &dyn Store, folder: &Path) -> Result<T> {
        read_json(store, &folder.join(self.file))
    }
}

/// A folder of files that a stage leaves, one for each unit of rows where it holds rows.
pub struct Parts {
    pub stage: Stage,
    pub folder: &'static str,
    /// Whether the files carry the run's id, since they will be published.
    published: bool,
}

impl Parts {
    pub fn folder(&self, directory: &Directory) -> PathBuf {
        directory.stage(self.stage.name()).join(self.folder)
    }

    /// The file of a piece of rows.
    pub fn part(&self, run: &Run, piece: usize) -> PathBuf {
        self.folder_of_pieces(run).join(self.name_of_piece(run, piece))
    }

    /// Where the files of pieces lie: beside the table where it takes several of them to make one of its files.
    pub fn folder_of_pieces(&self, run: &Run) -> PathBuf {
        match self.published && run.is_cut_finer() {
            true => run.directory.stage(self.stage.name()).join(PIECES).join(self.folder),
            false => self.folder(run.directory),
        }
    }

    pub fn name_of_piece(&self, run: &Run, piece: usize) -> String {
        match self.published {
            true if run.is_cut_finer() => piece_name(piece),
            true => part_name(piece, Some(run.id())),
            false => part_name(piece, None),
        }
    }
}

/// Where the hashes of the ids in a piece of rows lie.
pub fn id_hashes(run: &Run, piece: usize) -> PathBuf {
    run.directory.stage(Stage::Profile.name()).join("ids").join(hashes_name(piece))
}

/// Whether a map leaves a file of this name for one of those pieces of rows.
pub fn names_of_pieces(run: &Run, pieces: Range<usize>) -> HashSet<String> {
    let published = |piece| match run.is_cut_finer() {
        true => piece_name(piece),
        false => part_name(piece, Some(run.id())),
    };
    pieces.flat_map(|piece| [part_name(piece, None), published(piece), hashes_name(piece)]).collect()
}

fn piece_name(piece: usize) -> String {
    format!("piece-{piece:05}.parquet")
}

fn hashes_name(piece: usize) -> String {
    format!("piece-{piece:05}.hashes")
}

/// Name of the file of unit or part `index`; for published files with the run's id.
pub fn part_name(index: usize, run: Option<&str>) -> String {
    match run {
        Some(run) => format!("part-{index:05}-{run}.parquet"),
        None => format!("part-{index:05}.parquet"),
    }
}

/// What the features of target and histories look like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// Accounts of the target, after `where` and deduplication.
    pub rows: u64,
    /// The teachers that it is about, as places in the order of their names.
    #[serde(default)]
    pub teachers: Vec<usize>,
    /// Ordinals of stored rows that are left out because their id stands before them.
    pub dropped: Vec<u64>,
    pub profiles: Profiles,
    /// Normalised Wasserstein distance to the target, for each profiled feature and source.
    pub wasserstein: Vec<Vec<Option<f64>>>,
    /// What the student is fed.
    pub student: Vec<CodedFeature>,
    /// Share of nulls in the target, for each profiled feature.
    pub null_share: Vec<f64>,
    /// What each teacher knows of the values of each of its features.
    #[serde(default)]
    pub known: Vec<Known>,
    /// Values of the target that were read as null since they are not finite, for each feature that has any.
    pub non_finite: BTreeMap<String, column::NonFinite>,
}

impl Profile {
    /// The target's accounts without the rows that are left out.
    pub fn accounts(&self, run: &Run) -> Accounts {
        run.inputs.accounts.clone().without_rows(self.dropped.clone())
    }
}

/// What scoring found out about the teachers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scored {
    /// The teachers that count, as places in the pipeline; copies of an earlier one are left out.
    pub active: Vec<usize>,
    /// For each teacher of the pipeline the earlier one that it repeats on every account.
    pub copies: Vec<Option<usize>>,
    pub rows: u64,
    /// Files of a table that holds all accounts.
    pub units: usize,
    /// Ids whose hash is at most this are the student's sample.
    pub sample_limit: u64,
    /// Whether all was scored twice, since the first accounts did not show which teachers repeat another.
    #[serde(default)]
    pub again: bool,
}

/// What the target's own scores settle of a blend.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settled {
    /// Means of the calibrated scores over the target.
    pub means: ExactMeans,
    /// What moves the teachers to one level; none for the reference method.
    pub alignment: Option<Alignment>,
    /// Constants of the base-rate step, one a class.
    pub constants: Vec<f64>,
}

/// What makes soft labels of scores, beside the calculator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fusion {
    pub whole: Settled,
    /// The same for the label without each teacher.
    pub without: Vec<Settled>,
    /// For each teacher how well a linear classifier tells its history from the target: an area under the ROC
    /// curve.
    pub domain_areas: Vec<Option<f64>>,
    /// `none`, `class_shares` or `labels`: what moved the base rate.
    pub base_rate: String,
    /// The share of the pooled teacher, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled_share: Option<f64>,
}

impl Settled {
    fn fuser(&self, blend: Blend) -> Fuser {
        let mut fuser = Fuser::new(blend, &self.means);
        if let Some(alignment) = &self.alignment {
            fuser = fuser.with_alignment(alignment.clone());
        }
        fuser.with_constants(&self.constants)
    }
}

impl Fusion {
    /// What made the published soft labels.
    pub fn fuser(&self, calculator: &Calculator, distances: &Distances) -> Result<Fuser> {
        Ok(self.whole.fuser(calculator.blend(distances)?).with_pooled(self.pooled_share))
    }

    /// What would have made them without each of the teachers in turn, the pooled one last.
    pub fn fusers_without(&self, calculator: &Calculator, distances: &Distances) -> Result<Vec<Fuser>> {
        self.without
            .iter()
            .enumerate()
            .map(|(k, settled)| {
                let share = self.pooled_share.filter(|_| k < calculator.teachers.len());
                Ok(settled.fuser(calculator.blend_without(k, distances)?).with_pooled(share))
            })
            .collect()
    }
}

/// What to think of the labels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub sentences: Vec<String>,
    pub distrust: Option<String>,
    pub findings: Findings,
}

/// Mean weight of each teacher over the target, for those who come later.
#[derive(Debug, Serialize, Deserialize)]
pub struct Weights {
    pub teachers: Vec<String>,
    pub weights: Vec<f64>,
}

/// How the student was fitted, and how well it keeps the soft labels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fit {
    pub family: String,
    pub rows: usize,
    pub held_out_rows: usize,
    pub fidelity: Fidelity,
    /// Log-loss on the held-out accounts of each family that was tried, or why it could not be fitted.
    pub tried: Vec<(String, std::result::Result<f64, String>)>,
    /// For each feature the rise of the student's divergence from itself when the feature's values change
    /// places, as a share of all such rises.
    #[serde(default)]
    pub importances: Vec<(String, f64)>,
    /// Whether the student may classify; otherwise the soft labels' classes are published.
    pub passed: bool,
}

/// What the classification holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub rows: u64,
    /// Accounts of each class.
    pub classes: BTreeMap<String, u64>,
    /// Accounts that were left undecided, for each reason.
    pub abstained: BTreeMap<String, u64>,
}
