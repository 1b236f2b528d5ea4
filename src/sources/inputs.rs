//! Everything a run reads, opened and checked.

use rayon::prelude::*;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::features::block::{Block, Feature};
use crate::lake::scan::{Accounts, ids};
use crate::process::log::Log;
use crate::relevance::training::calculator::Calculator;
use crate::sources::calculator_file;
use crate::teacher::Teacher;
use crate::teacher::encode::{Encoder, Plan};
use crate::teacher::features::features;

/// The opened inputs of a pipeline.
pub struct Inputs {
    /// Classes C of the target.
    pub classes: usize,
    pub accounts: Accounts,
    pub teachers: Vec<Teacher>,
    pub features: Vec<Feature>,
    /// The float32 columns that the teachers take, and for each teacher which.
    pub plan: Plan,
    pub encoders: Vec<Encoder>,
    /// Columns of the target that are labels of some history; never read.
    pub ignored: Vec<String>,
    /// The calculator that the pipeline names.
    pub calculator: Option<Calculator>,
}

/// The teachers and what they take: all that training needs.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub pipeline: &'a Pipeline,
    pub log: &'a Log,
    pub teachers: &'a [Teacher],
    pub features: &'a [Feature],
    pub plan: &'a Plan,
    pub encoders: &'a [Encoder],
}

impl Inputs {
    /// Opens the target and loads every teacher; nothing is scored.
    pub fn open(pipeline: &Pipeline) -> Result<Inputs> {
        let accounts = open_accounts(pipeline)?;
        let teachers = load_teachers(pipeline)?;
        let features = features(&teachers, &accounts)?;
        accounts.check(features.iter().filter(|f| f.present).map(|f| &f.name))?;
        if let Some(f) = features.iter().find(|f| f.name == pipeline.target.id) {
            return Err(Error::data("a teacher takes the account id as a feature").column(&f.name));
        }
        let mut plan = Plan::default();
        let encoders = teachers.iter().map(|t| plan.add(&t.bundle, &features)).collect::<Result<Vec<_>>>()?;
        let ignored = label_columns(&accounts, &teachers, &features);
        refuse_reserved(pipeline, &teachers, &accounts)?;
        let calculator = saved_calculator(pipeline, &teachers)?;
        let classes = pipeline.classes.len();
        Ok(Inputs { classes, accounts, teachers, features, plan, encoders, ignored, calculator })
    }

    /// The teachers without the target.
    pub fn panel<'a>(&'a self, pipeline: &'a Pipeline, log: &'a Log) -> Panel<'a> {
        Panel {
            pipeline,
            log,
            teachers: &self.teachers,
            features: &self.features,
            plan: &self.plan,
            encoders: &self.encoders,
        }
    }

    /// The saved calculator, where it knows just these teachers.
    pub fn calculator_for(&self, active: &[usize]) -> Option<&Calculator> {
        self.calculator.as_ref().filter(|c| c.teachers.len() == active.len())
    }

    /// The teachers that are asked, as places: all but those that a saved calculator knows to repeat another.
    pub fn asked(&self) -> Vec<usize> {
        let repeats = |k: &usize| {
            self.calculator.iter().any(|c| c.repeats.iter().any(|r| r.name == self.teachers[*k].name()))
        };
        (0..self.teachers.len()).filter(|k| !repeats(k)).collect()
    }

    /// Probabilities `[n, C]` of the target's classes for a block of accounts, of each of the teachers.
    pub fn score(&self, teachers: &[usize], block: &Block) -> Result<Vec<Vec<f64>>> {
        let matrix = self.plan.encode(block);
        let score = |&k: &usize| {
            let mut out = vec![0.0; block.rows * self.classes];
            self.teachers[k].score(&self.encoders[k], block, &matrix, &mut out).map(|()| out)
        };
        // a thread that has nothing left to do takes a teacher from another; of several errors the first counts
        teachers.par_iter().with_max_len(1).map(score).collect::<Vec<_>>().into_iter().collect()
    }

    /// Names of the features that the target holds.
    pub fn present(&self) -> Vec<String> {
        self.features.iter().filter(|f| f.present).map(|f| f.name.clone()).collect()
    }
}

/// Every teacher, by name, so that the order in the pipeline file does not reach the sums over teachers.
pub fn load_teachers(pipeline: &Pipeline) -> Result<Vec<Teacher>> {
    let mut teachers =
        pipeline.teachers.par_iter().map(|t| Teacher::load(pipeline, t)).collect::<Result<Vec<_>>>()?;
    teachers.sort_by(|a, b| a.name().cmp(b.name()));
    refuse_same_names(&teachers)?;
    Ok(teachers)
}

/// The calculator that the pipeline names, if it fits these teachers.
fn saved_calculator(pipeline: &Pipeline, teachers: &[Teacher]) -> Result<Option<Calculator>> {
    let Some(file) = &pipeline.relevance.calculator else { return Ok(None) };
    let path = pipeline.resolve(file);
    let calculator = calculator_file::read(&path)?;
    calculator.check(&calculator_file::members(teachers)?, &pipeline.classes).map_err(|e| e.file(&path))?;
    Ok(Some(if pipeline.wants_pooled() { calculator } else { calculator.without_pooled() }))
}

/// The target with its id, of a type that can be one.
pub fn open_accounts(pipeline: &Pipeline) -> Result<Accounts> {
    let accounts = open_target(pipeline)?.with_id(&pipeline.target.id);
    let place = pipeline.resolve(&pipeline.target.accounts);
    ids::refuse_type(accounts.field(&pipeline.target.id)?).map_err(|e| e.file(&place))?;
    Ok(accounts)
}

/// The target's files, those aside that `target.where` leaves out by their partitions; without a file or a
/// row the target is empty.
pub fn open_target(pipeline: &Pipeline) -> Result<Accounts> {
    let place = pipeline.resolve(&pipeline.target.accounts);
    let target = &pipeline.target;
    let accounts = Accounts::open_where(&place, &target.pin()?, target.filter.as_deref())?;
    match accounts.stored_rows() {
        0 => Err(Error::new(Kind::Empty, "the target has no account").file(&place)),
        _ => Ok(accounts),
    }
}

fn refuse_same_names(teachers: &[Teacher]) -> Result<()> {
    for (i, teacher) in teachers.iter().enumerate() {
        if teachers[..i].iter().any(|t| t.name() == teacher.name()) {
            return Err(Error::data("two teachers have the same name")
                .file(&teacher.bundle.folder)
                .value(teacher.name()));
        }
    }
    Ok(())
}

/// Columns of the tables that hold an account in each row, and between the stages.
const RESERVED: [&str; 13] = [
    "class",
    "confidence",
    "decision",
    "reason",
    "student",
    "run_id",
    "ds",
    "support",
    "disagreement",
    "known",
    "uniform_agrees",
    "js_agrees",
    "gate_agrees",
];

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The output's own columns cannot be the id.
fn refuse_reserved(pipeline: &Pipeline, teachers: &[Teacher], accounts: &Accounts) -> Result<()> {
    // Some readers do not tell names by their case.
    let id = pipeline.target.id.to_lowercase();
    let id = id.as_str();
    let is_one = |prefix: &str, name: &str| id.strip_prefix(prefix) == Some(name.to_lowercase().as_str());
    let between = |prefix: char| id.strip_prefix(prefix).is_some_and(|r| r.split('_').all(is_digits));
    let reserved = RESERVED.contains(&id)
        || between('t')
        || between('s')
        || id.strip_prefix("pooled_").is_some_and(is_digits)
        || id == "w_pooled"
        || pipeline.classes.iter().any(|class| is_one("p_", class))
        || teachers.iter().any(|teacher| is_one("w_", teacher.name()));
    match reserved {
        true => Err(Error::data("the id column has the name of a column of the output")
            .file(accounts.place())
            .column(&pipeline.target.id)
            .hint("write the id under another name, or choose other class names")),
        false => Ok(()),
    }
}

fn label_columns(accounts: &Accounts, teachers: &[Teacher], features: &[Feature]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for label in teachers.iter().filter_map(|t| t.bundle.history.as_ref()?.label.clone()) {
        let is_feature = features.iter().any(|f| f.name == label);
        if accounts.schema().field_with_name(&label).is_ok() && !is_feature && !found.contains(&label) {
            found.push(label);
        }
    }
    found
}
