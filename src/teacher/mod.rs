//! Teachers: trained classifiers of related scenarios, read from their bundles and ready to score a batch of
//! accounts.

pub mod agree;
pub mod bundle;
pub mod encode;
pub mod features;
pub mod onnx;
pub mod spec;

use std::borrow::Cow;
use std::cell::Cell;
use std::path::Path;

use crate::config::{Pipeline, TeacherRef};
use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::models::linear::{Linear, LinearTrees};
use crate::models::onnx_proto::{self, ModelProto};
use crate::models::said::Said;
use crate::models::trees::engine::{Engine, Scratch};
use crate::models::trees::exact::{self, Exact};
use crate::models::trees::onnx::TreeGraph;
use crate::models::trees::onnx::columns::Prepared;
use crate::models::{Read, Scorer, onnx_facts, trees};
use crate::student::Student;
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec, Format};
use crate::teacher::encode::{Encoder, Matrix};

/// What computes a teacher's probabilities.
enum Model {
    /// A tree ensemble over the columns as they are; of float64 ones where its library compares in float64.
    Trees(Engine, Vec<Exact>),
    Linear(Linear),
    LinearTrees(LinearTrees),
    /// A tree ensemble over the columns that an ONNX graph makes of them; the rest is empty for float32 inputs.
    TreeGraph(Engine, Vec<Prepared>, Vec<Exact>),
    Onnx(Box<onnx::Onnx>),
    Student(Box<dyn Student>),
}

/// How far the outputs of an account may sum from 1: more than float16 rounds.
const SUM_TOLERANCE: f64 = 2e-3;

/// A teacher whose classes are the target's.
pub struct Teacher {
    pub bundle: Bundle,
    /// What the model file decided, and what it does not say, in sentences.
    pub notes: Vec<String>,
    model: Model,
    /// For each class of the model its index among the target's classes.
    pub onto: Vec<usize>,
    classes: usize,
}

/// Working memory of one thread.
#[derive(Default)]
struct Workspace {
    scratch: Scratch,
    own: Vec<f64>,
}

thread_local! {
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

impl Teacher {
    /// Loads the bundle and its model. Refuses a teacher that is still cold, classes that do not map onto the
    /// target's, and damaged files.
    pub fn load(pipeline: &Pipeline, reference: &TeacherRef) -> Result<Teacher> {
        let folder = pipeline.resolve(&reference.bundle);
        let bundle = Bundle::read(&folder)?;
        if bundle.training.rows < pipeline.relevance.min_training_rows {
            let least = pipeline.relevance.min_training_rows;
            return Err(Error::data(format!(
                "the teacher is still cold: it was trained on fewer than {least} labelled rows"
            ))
            .file(&folder.join("teacher.toml"))
            .with("key", "training.rows")
            .value(bundle.training.rows)
            .hint("name another teacher, or lower relevance.min_training_rows"));
        }
        let toml = folder.join("teacher.toml");
        let onto =
            |bundle: &Bundle| map_classes(bundle, reference, &pipeline.classes).map_err(|e| e.file(&toml));
        Teacher::with_model(bundle, onto, pipeline.classes.len())
    }

    /// Loads a bundle for its own classes, outside of any pipeline, and without its history.
    pub fn alone(folder: &Path) -> Result<Teacher> {
        let bundle = Bundle::read_model(folder)?;
        let classes = bundle.model.classes.len();
        Teacher::with_model(bundle, |bundle| Ok((0..bundle.model.classes.len()).collect()), classes)
    }

    fn with_model(
        mut bundle: Bundle,
        onto: impl Fn(&Bundle) -> Result<Vec<usize>>,
        classes: usize,
    ) -> Result<Teacher> {
        // a stranger among the classes is a matter of the pipeline, whatever the model
        onto(&bundle)?;
        let path = bundle.model_path();
        let (model, notes) = load_model(&mut bundle).map_err(|e| e.file(&path))?;
        let onto = onto(&bundle)?;
        Ok(Teacher { bundle, notes, model, onto, classes })
    }

    pub fn name(&self) -> &str {
        &self.bundle.name
    }

    /// Classes of the target.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Probabilities of the target's classes for a block, row-major `[rows, classes]`, into `out`.
    pub fn score(&self, encoder: &Encoder, block: &Block, matrix: &Matrix, out: &mut [f64]) -> Result<()> {
        let mut work = WORKSPACE.take();
        let scored = self.score_with(&mut work, encoder, block, matrix, out);
        WORKSPACE.set(work);
        scored
    }

    fn score_with(
        &self,
        work: &mut Workspace,
        encoder: &Encoder,
        block: &Block,
        matrix: &Matrix,
        out: &mut [f64],
    ) -> Result<()> {
        let (own, rows) = (self.onto.len(), block.rows);
        work.own.resize(rows * own, 0.0);
        match &self.model {
            Model::Trees(engine, exact) if exact.is_empty() => {
                engine.predict(&encoder.columns(matrix), &mut work.own, &mut work.scratch)
            }
            Model::Trees(engine, exact) => {
                let columns = encoder.exact_columns(block, matrix, exact.iter().enumerate());
                engine.predict(&slices(&columns), &mut work.own, &mut work.scratch);
            }
            Model::Linear(model) => model.predict(&encoder.columns(matrix), &mut work.own),
            Model::LinearTrees(model) => {
                let columns: Vec<Vec<f64>> =
                    (0..encoder.width()).map(|column| encoder.wide(block, matrix, column)).collect();
                model.predict(&columns, &mut work.own);
            }
            Model::TreeGraph(engine, prepared, exact) => {
                let inputs = encoder.columns(matrix);
                let columns = match exact.is_empty() {
                    true => prepared.iter().map(|p| p.of(&inputs)).collect(),
                    false => {
                        let sources = prepared.iter().map(|p| p.source);
                        encoder.exact_columns(block, matrix, sources.zip(exact))
                    }
                };
                engine.predict(&slices(&columns), &mut work.own, &mut work.scratch);
            }
            Model::Student(student) => student.predict(&encoder.columns(matrix), &mut work.own),
            Model::Onnx(onnx) => onnx
                .predict(encoder, block, matrix, &mut work.own)
                .map_err(|e| e.file(&self.bundle.model_path()))?,
        }
        self.check_rows(&work.own).map_err(|e| e.file(&self.bundle.model_path()))?;
        out.fill(0.0);
        for (from, to) in work.own.chunks_exact(own).zip(out.chunks_exact_mut(self.classes)) {
            for (p, class) in from.iter().zip(&self.onto) {
                to[*class] += p;
            }
        }
        Ok(())
    }

    /// The model's outputs must be probabilities; those of an ONNX graph, which may be anything, must sum to 1.
    fn check_rows(&self, own: &[f64]) -> Result<()> {
        let is_probability = |p: &f64| p.is_finite() && (-1e-6..=1.0 + 1e-6).contains(p);
        if let Some(odd) = own.iter().find(|p| !is_probability(p)) {
            return Err(Error::data("the model's outputs are not probabilities")
                .value(odd)
                .hint("export it with probabilities as its output"));
        }
        if self.bundle.model.format != Format::Onnx {
            return Ok(());
        }
        let sums = own.chunks_exact(self.onto.len()).map(|row| row.iter().sum::<f64>());
        match sums.into_iter().find(|sum| (sum - 1.0).abs() > SUM_TOLERANCE) {
            None => Ok(()),
            Some(sum) => Err(Error::data("the model's outputs of an account do not sum to 1: they are no distribution over the classes")
                .with("sum", format!("{sum:.4}"))
                .hint(onnx::distribution_remedy(&self.bundle.producer))),
        }
    }
}

fn slices<'a>(columns: &'a [Cow<'_, [f32]>]) -> Vec<&'a [f32]> {
    columns.iter().map(|c| c.as_ref()).collect()
}

/// The model must have as many classes and inputs as the bundle says.
fn check_shape(bundle: &Bundle, inputs: usize, classes: usize) -> Result<()> {
    let (said, width) = (bundle.model.classes.len(), bundle.matrix_width());
    if classes != said {
        return Err(Error::data(format!("the model has {classes} classes, teacher.toml names {said}"))
            .with("key", "model.classes"));
    }
    match inputs == width {
        true => Ok(()),
        false => Err(Error::data(format!(
            "the model has {inputs} inputs, the features of teacher.toml make {width}"
        ))
        .with("key", "features")),
    }
}

/// The model, and what its file said; the bundle is made to agree with it.
fn load_model(bundle: &mut Bundle) -> Result<(Model, Vec<String>)> {
    let bytes = bundle::read_limited(&bundle.model_path())?;
    match bundle.model.format {
        Format::Lightgbm => trees_model(bundle, trees::lightgbm::read(&bytes, &bundle.told())?),
        Format::Xgboost => trees_model(bundle, trees::xgboost::read(&bytes, &bundle.told())?),
        Format::Coldstart => {
            let student = read_student(&bytes)?;
            check_shape(bundle, student.kinds().len(), student.classes())?;
            Ok((Model::Student(student), Vec::new()))
        }
        Format::Onnx => onnx_model(bundle, bytes),
    }
}

fn trees_model(bundle: &mut Bundle, read: Read) -> Result<(Model, Vec<String>)> {
    let (inputs, classes) = match &read.scorer {
        Scorer::Trees(model) => (model.features, model.classes()),
        Scorer::LinearTrees(model) => (model.trees.features, model.trees.classes()),
        Scorer::Linear(model) => (model.features, model.classes()),
    };
    let notes = agree::agree(bundle, &read.said)?;
    check_shape(bundle, inputs, classes)?;
    let model = match read.scorer {
        Scorer::Trees(mut model) => {
            let is_float64 = bundle.model.format == Format::Lightgbm;
            let exact = if is_float64 { exact::prepare(&mut model) } else { Vec::new() };
            Model::Trees(Engine::new(&model)?, exact)
        }
        Scorer::LinearTrees(model) => Model::LinearTrees(model),
        Scorer::Linear(model) => Model::Linear(model),
    };
    Ok((model, notes))
}

/// A graph over numbers that is no more than trees is scored by our engine; everything else by ONNX Runtime.
fn onnx_model(bundle: &mut Bundle, bytes: Vec<u8>) -> Result<(Model, Vec<String>)> {
    let model = onnx_proto::read(&bytes)?;
    let facts = onnx_facts::facts(&model);
    let mut said = Said { classes: facts.classes.clone(), ..Said::default() };
    let cut = onnx_facts::without_zipmap(&bytes, &model)?;
    if cut.is_some() {
        said.notes.push("a ZipMap is cut off: what it made maps of is the output".to_string());
    }
    let (model, bytes) = match cut {
        Some(cut) => (onnx_proto::read(&cut)?, cut),
        None => (model, bytes),
    };
    bundle.producer = facts.producer.clone();
    let mut notes = agree::agree(bundle, &said)?;
    if let Some(mut graph) = tree_graph(bundle, &model)? {
        check_shape(bundle, bundle.matrix_width(), graph.ensemble.classes())?;
        let exact = if graph.is_float64 { exact::prepare(&mut graph.ensemble) } else { Vec::new() };
        return Ok((Model::TreeGraph(Engine::new(&graph.ensemble)?, graph.columns, exact), notes));
    }
    let source = onnx::Source { bytes, outside: bundle.read_outside()? };
    let onnx = onnx::Onnx::load(source, bundle, facts)?;
    notes.extend(onnx.note());
    Ok((Model::Onnx(Box::new(onnx)), notes))
}

fn tree_graph(bundle: &Bundle, model: &ModelProto) -> Result<Option<TreeGraph>> {
    if bundle.model.batch.is_some() || bundle.features.iter().any(|f| f.encode == Some(Encode::Text)) {
        return Ok(None);
    }
    // an input of its own is for a feature of one column
    let is_single = |f: &FeatureSpec| f.encode.is_none_or(|e| e == Encode::Code);
    let names: Vec<&str> = bundle.features.iter().map(FeatureSpec::input).collect();
    let names = if bundle.features.iter().all(is_single) { names.as_slice() } else { &[] };
    let graph = trees::onnx::read(model, bundle.matrix_width(), names)?;
    Ok(graph.filter(|g| bundle.model.output.as_ref().is_none_or(|output| *output == g.output)))
}

/// A student from the bytes of its file.
pub fn read_student(bytes: &[u8]) -> Result<Box<dyn Student>> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Error::data("not a student: the file is not UTF-8 text"))?;
    crate::student::from_json(text)
}

fn map_classes(bundle: &Bundle, reference: &TeacherRef, classes: &[String]) -> Result<Vec<usize>> {
    let own = &bundle.model.classes;
    if let Some(stray) = reference.classes.keys().find(|c| !own.contains(c)) {
        return Err(Error::config("teachers.classes maps a class that the teacher does not have")
            .value(stray)
            .with("teacher", &bundle.name));
    }
    let mut onto = Vec::with_capacity(own.len());
    for class in own {
        let meant = reference.classes.get(class).unwrap_or(class);
        let index = classes.iter().position(|c| c == meant).ok_or_else(|| {
            Error::config("a teacher's class is not one of the target's")
                .with("teacher", &bundle.name)
                .value(meant)
                .hint(format!("map it: teachers.classes = {{ {class:?} = one of {classes:?} }}"))
        })?;
        onto.push(index);
    }
    match classes.iter().enumerate().find(|(i, _)| !onto.contains(i)) {
        Some((_, class)) => Err(Error::config("no class of the teacher stands for one of the target's")
            .with("teacher", &bundle.name)
            .value(class)),
        None => Ok(onto),
    }
}
