//! The pooled teacher's rows, read from the histories, and its scores on a block of accounts.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::coded::{CodedFeature, coded_columns};
use crate::features::column::Kind;
use crate::process::cancel;
use crate::relevance::maths::probability::spaced_rows;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::profiles::{FeatureProfile, Profiles};
use crate::relevance::training::pooled::{self, Fitted, MOST_FEATURES, Pooled, Rows, Source};
use crate::relevance::transfer::sources::pseudo_rows;
use crate::sources::history::{self, History};
use crate::sources::inputs::Panel;
use crate::student::{Student, restore};
use crate::teacher::Teacher;

/// Rows of a history, and values of all histories, that are held at most; of the many features of a wide
/// history most are let go again before the fit, which takes more room than they do.
const MOST_ROWS: usize = 20_000;
const MOST_VALUES: usize = 8 << 20;
const MOST_VALUES_WIDE: usize = 24 << 20;

/// Fits the pooled teacher to the rows of the teachers in `active`, on the features that `profiles` compares.
/// None where it is not wanted, or where fewer than two histories give rows.
pub fn fit(panel: Panel, active: &[usize], profiles: &Profiles) -> Result<Option<Fitted>> {
    let with_rows: Vec<usize> =
        active.iter().copied().filter(|k| panel.teachers[*k].bundle.history_path().is_some()).collect();
    if !panel.pipeline.wants_pooled() || with_rows.len() < 2 || profiles.features.is_empty() {
        return Ok(None);
    }
    let features = coded(profiles);
    let values = if features.len() > MOST_FEATURES { MOST_VALUES_WIDE } else { MOST_VALUES };
    let most = (values / (features.len() * with_rows.len())).clamp(1, MOST_ROWS);
    let source = |k: &usize| -> Result<Option<Source>> {
        let teacher = &panel.teachers[*k];
        let history = history::open(teacher, panel.features, panel.pipeline.target.non_finite)?;
        history.map(|history| read(panel, teacher, &history, &features, most)).transpose()
    };
    let sources = active.par_iter().with_max_len(1).map(source).collect::<Result<Vec<_>>>()?;
    pooled::fit(sources, features, panel.pipeline.classes.len())
}

/// The features that every history holds, levels as they are profiled.
fn coded(profiles: &Profiles) -> Vec<CodedFeature> {
    let of = |f: &FeatureProfile| {
        let (kind, levels) = match &f.bins {
            Bins::Number(_) => (Kind::Number, Vec::new()),
            Bins::Category(levels) => (Kind::Category, levels.clone()),
        };
        CodedFeature { name: f.name.clone(), kind, levels }
    };
    profiles.features.iter().map(of).collect()
}

/// At most `most` rows of a history to train on, and those that stand for it when it plays the target.
fn read(
    panel: Panel,
    teacher: &Teacher,
    history: &History,
    features: &[CodedFeature],
    most: usize,
) -> Result<Source> {
    let labels = history.labels(teacher, panel.pipeline)?.0;
    let (chosen, pseudo) = (spaced_rows(history.rows(), most), pseudo_rows(history.rows()));
    let empty = || vec![Vec::new(); features.len()];
    let mut out = Source {
        rows: Rows { columns: empty(), labels: chosen.iter().map(|i| labels[*i]).collect() },
        pseudo: empty(),
    };
    let mut first = 0;
    history.blocks(|block| {
        cancel::check()?;
        for (rows, to) in [(&chosen, &mut out.rows.columns), (&pseudo, &mut out.pseudo)] {
            let range = first..first + block.rows;
            let here: Vec<usize> = rows.iter().filter(|i| range.contains(i)).map(|i| i - first).collect();
            let columns = coded_columns(features, panel.features, &block.take(&here))?;
            to.iter_mut().zip(columns).for_each(|(to, column)| to.extend(column));
        }
        first += block.rows;
        Ok(())
    })?;
    Ok(out)
}

/// A pooled teacher that can be asked.
pub struct Asked {
    features: Vec<CodedFeature>,
    model: Box<dyn Student>,
}

impl Asked {
    pub fn new(pooled: &Pooled) -> Result<Asked> {
        Ok(Asked { features: pooled.features.clone(), model: restore(pooled.model.clone())? })
    }

    /// Floored probabilities `[n, C]` of the rows of a block, whose columns are those of `features`.
    pub fn score(&self, features: &[Feature], block: &Block) -> Result<Vec<f64>> {
        let columns = coded_columns(&self.features, features, block)?;
        let out = pooled::predict(self.model.as_ref(), &columns, self.model.classes());
        match out.len() == block.rows * self.model.classes() {
            true => Ok(out),
            false => Err(Error::bug("the pooled teacher has no column")),
        }
    }
}
