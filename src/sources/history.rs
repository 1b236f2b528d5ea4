//! The teachers' labelled histories, read in blocks: ten of them may be read at a time.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, AsArray};
use rayon::prelude::*;
use serde_json::json;

use crate::config::{self, Pipeline};
use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::{self, NonFinite};
use crate::lake::scan::{Accounts, read_all};
use crate::process::log::Log;
use crate::relevance::profile::profiles::Summary;
use crate::sources::sketch::Sketch;
use crate::teacher::Teacher;

/// An opened history, which is read in blocks.
pub struct History {
    accounts: Accounts,
    /// The features as this history has them.
    features: Vec<Feature>,
    path: PathBuf,
    /// Whose it is, for errors.
    teacher: Option<String>,
    non_finite: config::NonFinite,
}

/// Opens the history of a teacher, if it has one; features that it lacks are all null, and values that are
/// not finite are treated as the target's are.
pub fn open(
    teacher: &Teacher,
    features: &[Feature],
    non_finite: config::NonFinite,
) -> Result<Option<History>> {
    let Some(path) = teacher.bundle.history_path() else { return Ok(None) };
    let spec = teacher.bundle.history.as_ref();
    let extra: Vec<&String> =
        spec.iter().flat_map(|h| [h.label.as_ref(), h.held_out.as_ref()]).flatten().collect();
    let history = at(&path, features, &extra).map_err(|e| e.with("teacher", teacher.name()))?;
    Ok(Some(History { teacher: Some(teacher.name().to_string()), non_finite, ..history }))
}

/// Opens a history that is no teacher's yet, which must have the columns `extra`.
pub fn at(path: &Path, features: &[Feature], extra: &[&String]) -> Result<History> {
    let accounts = Accounts::open(path)?;
    let mut own = Vec::with_capacity(features.len());
    for feature in features {
        let field = accounts.find(&feature.name);
        if let Some(field) = field.filter(|f| !column::readable(feature.kind, f.data_type())) {
            let wanted = format!("{:?}", feature.kind).to_lowercase();
            let message =
                format!("a {wanted} is expected, the column of the history is {}", field.data_type());
            return Err(Error::data(message).file(path).column(&feature.name));
        }
        own.push(Feature { present: field.is_some(), ..feature.clone() });
    }
    for column in extra {
        accounts.field(column)?;
    }
    accounts.check(own.iter().filter(|f| f.present).map(|f| &f.name))?;
    match accounts.stored_rows() {
        0 => Err(Error::data("the table has no row").file(accounts.place())),
        _ => Ok(History {
            accounts,
            features: own,
            path: path.to_path_buf(),
            teacher: None,
            non_finite: config::NonFinite::Reject,
        }),
    }
}

/// The refusal of a row without a label.
pub fn no_label(row: usize) -> Error {
    Error::data("a label is null")
        .with("row", row.to_string())
        .hint("a history holds labelled rows alone: leave the others out")
}

/// The place of a label among a teacher's own classes.
pub fn class_of(own: &[String], label: &str) -> Result<usize> {
    // a column of floats has 1, and a description may say 1.0
    let same = |class: &String| class == label || class.strip_suffix(".0") == Some(label);
    let place = own.iter().position(same);
    place.ok_or_else(|| {
        let numbers = label.parse::<f64>().is_ok();
        let hint = match numbers {
            true => format!("name the model's classes as the labels are ({label:?}, ...) in teacher.toml, and map them in the pipeline: classes = {{ {label} = \"...\" }}"),
            false => "labels are written as model.classes in teacher.toml are".to_string(),
        };
        Error::data(format!("a label is none of the teacher's classes {own:?}")).value(label).hint(hint)
    })
}

/// Refuses a history in which a class of the target has too few rows.
pub fn enough_rows(pipeline: &Pipeline, counts: &[u64]) -> Result<()> {
    let least = pipeline.relevance.min_class_rows;
    match pipeline.classes.iter().zip(counts).find(|(_, n)| **n < least) {
        None => Ok(()),
        Some((name, n)) => Err(Error::data(format!(
            "the history has {n} rows of class {name:?}, at least {least} are needed"
        ))
        .value(name)),
    }
}

impl History {
    pub fn rows(&self) -> usize {
        self.accounts.stored_rows() as usize
    }

    fn about(&self, error: Error) -> Error {
        match &self.teacher {
            Some(teacher) => error.with("teacher", teacher),
            None => error,
        }
    }

    /// Hands the history to `each` in blocks; one is in memory at a time. Returns, feature by feature, what was
    /// not finite and read as null.
    pub fn blocks(&self, each: impl FnMut(Block) -> Result<()>) -> Result<Vec<NonFinite>> {
        self.blocks_of(&self.features, each)
    }

    /// The same with some of its features alone.
    fn blocks_of(
        &self,
        features: &[Feature],
        mut each: impl FnMut(Block) -> Result<()>,
    ) -> Result<Vec<NonFinite>> {
        let mut odd = vec![NonFinite::default(); features.len()];
        let columns: Vec<String> = features.iter().filter(|f| f.present).map(|f| f.name.clone()).collect();
        for unit in self.accounts.units() {
            let read = self.accounts.read(unit, &columns, |batch, _| {
                each(Block::decode(&batch, features, &mut odd).map_err(|e| e.file(&self.path))?)
            });
            read.map_err(|e| self.about(e))?;
        }
        match features.iter().zip(&odd).find(|(_, odd)| odd.any()) {
            Some((feature, odd)) if self.non_finite == config::NonFinite::Reject => {
                let hint =
                    "mend the column, or set target.non_finite = \"as_null\", which holds for histories too";
                let error = Error::data("a feature of the history holds values that are not finite")
                    .file(&self.path)
                    .column(&feature.name)
                    .value(odd);
                // An owner who makes a profile has no pipeline that could allow it.
                Err(if self.teacher.is_some() { error.hint(hint) } else { error })
            }
            _ => Ok(odd),
        }
    }

    /// A summary of each of these features that the history holds; what is not finite is logged.
    pub fn summaries(&self, features: Range<usize>, log: &Log) -> Result<Vec<Option<Summary>>> {
        let features = &self.features[features];
        let mut sketches: Vec<Sketch> = features.iter().map(|f| Sketch::new(f.kind)).collect();
        let odd = self.blocks_of(features, |block| {
            sketches.iter_mut().zip(&block.columns).for_each(|(sketch, column)| sketch.add(column));
            Ok(())
        })?;
        for (feature, odd) in features.iter().zip(odd).filter(|(_, odd)| odd.any()) {
            let details = json!({"column": feature.name, "found": odd.to_string(), "teacher": self.teacher});
            log.warn("profile", "not finite in a history, read as null", details);
        }
        Ok(sketches.par_iter().zip(features).map(|(sketch, f)| f.present.then(|| sketch.summary())).collect())
    }

    /// The class of each row among the target's, and which rows did not train the model.
    pub fn labels(&self, teacher: &Teacher, pipeline: &Pipeline) -> Result<(Vec<u16>, Option<Vec<bool>>)> {
        let spec =
            teacher.bundle.history.as_ref().ok_or_else(|| Error::bug("a history without its description"))?;
        let label = spec.label.as_deref().unwrap_or_default();
        let refuse = |e: Error| e.file(&self.path).column(label).with("teacher", teacher.name());
        let own = &teacher.bundle.model.classes;
        let texts = self.texts(label)?;
        let mut labels = Vec::with_capacity(texts.len());
        let mut counts = vec![0; pipeline.classes.len()];
        for text in &texts {
            let class = teacher.onto[class_of(own, text).map_err(refuse)?];
            labels.push(class as u16);
            counts[class] += 1;
        }
        enough_rows(pipeline, &counts).map_err(refuse)?;
        let held_out = match &spec.held_out {
            None => None,
            Some(name) => Some(self.flags(name)?),
        };
        Ok((labels, held_out))
    }

    fn column(&self, name: &str) -> Result<ArrayRef> {
        let batch = read_all(&self.accounts, &[name.to_string()]).map_err(|e| self.about(e))?;
        Ok(batch.column(0).clone())
    }

    /// The column of labels as text; none may be null.
    pub fn texts(&self, label: &str) -> Result<Vec<String>> {
        let refuse = |e: Error| self.about(e.file(&self.path).column(label));
        let texts = column::label_texts(&self.column(label)?).map_err(refuse)?;
        let whole = |(row, text): (usize, Option<&str>)| {
            text.map(str::to_string).ok_or_else(|| refuse(no_label(row)))
        };
        texts.iter().enumerate().map(whole).collect()
    }

    /// A boolean column; null is false.
    pub fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let array = self.column(name)?;
        let flags = array.as_boolean_opt();
        let flags = flags.ok_or_else(|| {
            self.about(Error::data("held_out is not boolean").file(&self.path).column(name))
        })?;
        Ok(flags.iter().map(|v| v == Some(true)).collect())
    }
}
