//! Teachers: trained classifiers of related scenarios, read from their bundles and ready to score a batch of
//! accounts.

pub mod bundle;
pub mod encode;
pub mod onnx;

use std::borrow::Cow;
use std::path::Path;

use arrow::datatypes::Schema;

use crate::config::{Pipeline, TeacherRef};
use crate::error::{Error, Result, nearest};
use crate::features::block::{Block, Feature};
use crate::features::column;
use crate::models::trees;
use crate::models::trees::engine::{Engine, Scratch};
use crate::models::trees::onnx::TreeGraph;
use crate::models::trees::onnx::columns::Prepared;
use crate::student::Student;
use crate::teacher::bundle::{Bundle, Format};
use crate::teacher::encode::{Encoder, Matrix};

/// What computes a teacher's probabilities.
enum Model {
    /// A tree ensemble over the columns as they are.
    Trees(Engine),
    /// A tree ensemble over the columns that an ONNX graph makes of them.
    TreeGraph(Engine, Vec<Prepared>),
    Onnx(onnx::Onnx),
    Student(Box<dyn Student>),
}

/// A teacher whose classes are the target's.
pub struct Teacher {
    pub bundle: Bundle,
    model: Model,
    /// For each class of the model its index among the target's classes.
    pub onto: Vec<usize>,
    classes: usize,
}

/// Working memory of one worker.
#[derive(Default)]
pub struct Workspace {
    scratch: Scratch,
    own: Vec<f64>,
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
        let onto = map_classes(&bundle, reference, &pipeline.classes)
            .map_err(|e| e.file(&folder.join("teacher.toml")))?;
        Teacher::with_model(bundle, onto, pipeline.classes.len())
    }

    /// Loads a bundle for its own classes, outside of any pipeline, and without its history.
    pub fn alone(folder: &Path) -> Result<Teacher> {
        let bundle = Bundle::read_model(folder)?;
        let classes = bundle.model.classes.len();
        Teacher::with_model(bundle, (0..classes).collect(), classes)
    }

    fn with_model(bundle: Bundle, onto: Vec<usize>, classes: usize) -> Result<Teacher> {
        let path = bundle.model_path();
        let model = load_model(&bundle, &path).map_err(|e| e.file(&path))?;
        let teacher = Teacher { bundle, model, onto, classes };
        teacher.check_shape().map_err(|e| e.file(&path))?;
        Ok(teacher)
    }

    pub fn name(&self) -> &str {
        &self.bundle.name
    }

    /// Classes of the target.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Probabilities of the target's classes for a block, row-major `[rows, classes]`, into `out`.
    pub fn score(
        &self,
        encoder: &Encoder,
        block: &Block,
        matrix: &Matrix,
        work: &mut Workspace,
        out: &mut [f64],
    ) -> Result<()> {
        let (own, rows) = (self.onto.len(), block.rows);
        work.own.resize(rows * own, 0.0);
        match &self.model {
            Model::Trees(engine) => {
                engine.predict(&encoder.columns(matrix), &mut work.own, &mut work.scratch)
            }
            Model::TreeGraph(engine, prepared) => {
                let inputs = encoder.columns(matrix);
                let columns: Vec<Cow<[f32]>> = prepared.iter().map(|p| p.of(&inputs)).collect();
                let columns: Vec<&[f32]> = columns.iter().map(|c| c.as_ref()).collect();
                engine.predict(&columns, &mut work.own, &mut work.scratch);
            }
            Model::Student(student) => student.predict(&encoder.columns(matrix), &mut work.own),
            Model::Onnx(onnx) => onnx
                .predict(encoder, block, matrix, &mut work.own)
                .map_err(|e| e.file(&self.bundle.model_path()))?,
        }
        out.fill(0.0);
        for (from, to) in work.own.chunks_exact(own).zip(out.chunks_exact_mut(self.classes)) {
            for (p, class) in from.iter().zip(&self.onto) {
                to[*class] += p;
            }
        }
        match out.iter().all(|p| p.is_finite() && (-1e-6..=1.0 + 1e-6).contains(p)) {
            true => Ok(()),
            false => Err(Error::data("the model's outputs are not probabilities")
                .file(&self.bundle.model_path())
                .hint("export it with probabilities as its output")),
        }
    }

    /// The model must have as many inputs and outputs as the bundle says.
    fn check_shape(&self) -> Result<()> {
        let width = self.bundle.matrix_width();
        let (inputs, classes) = match &self.model {
            Model::Trees(engine) => (engine.features(), engine.classes()),
            // its columns are of the features' making
            Model::TreeGraph(engine, _) => (width, engine.classes()),
            Model::Student(student) => (student.kinds().len(), student.classes()),
            Model::Onnx(_) => return Ok(()),
        };
        if classes != self.onto.len() {
            let said = self.onto.len();
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
}

fn load_model(bundle: &Bundle, path: &Path) -> Result<Model> {
    let bytes = bundle::read_limited(path)?;
    Ok(match bundle.model.format {
        Format::Lightgbm => Model::Trees(Engine::new(&trees::lightgbm::parse(&bytes)?)?),
        Format::Xgboost => Model::Trees(Engine::new(&trees::xgboost::parse(&bytes)?)?),
        Format::Coldstart => Model::Student(read_student(&bytes)?),
        Format::Onnx => match tree_graph(bundle, &bytes)? {
            Some(graph) => Model::TreeGraph(Engine::new(&graph.ensemble)?, graph.columns),
            None => Model::Onnx(onnx::Onnx::load(bytes, bundle)?),
        },
    })
}

/// A graph over numbers that is no more than trees, which our engine scores; everything else is for ONNX
/// Runtime.
fn tree_graph(bundle: &Bundle, bytes: &[u8]) -> Result<Option<TreeGraph>> {
    // an input of its own is for a feature of one column
    let is_single = |f: &bundle::FeatureSpec| f.encode.is_none_or(|e| e == bundle::Encode::Code);
    let names: Vec<&str> = bundle.features.iter().map(|f| f.name.as_str()).collect();
    let names = if bundle.features.iter().all(is_single) { names.as_slice() } else { &[] };
    match bundle.features.iter().any(|f| f.encode == Some(bundle::Encode::Text)) {
        true => crate::models::onnx_proto::read(bytes).map(|_| None),
        false => trees::onnx::parse(bytes, bundle.matrix_width(), names),
    }
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

/// The distinct features of all teachers, in the order of their first mention, with the kind that the first
/// teacher gives them, before there is a target.
pub fn named_features(teachers: &[Teacher]) -> Result<Vec<Feature>> {
    let mut found: Vec<Feature> = Vec::new();
    for teacher in teachers {
        for feature in &teacher.bundle.features {
            match found.iter().find(|f| f.name == feature.name) {
                Some(known) if known.kind != feature.kind => {
                    return Err(Error::data("two teachers take this feature as different kinds")
                        .column(&feature.name)
                        .with("teacher", teacher.name()));
                }
                Some(_) => {}
                None => found.push(Feature { name: feature.name.clone(), kind: feature.kind, present: true }),
            }
        }
    }
    Ok(found)
}

/// [`named_features`] as the target has them.
/// A column that `schema` lacks is allowed where every teacher that names it says what stands for it.
pub fn features(teachers: &[Teacher], schema: &Schema, place: &Path) -> Result<Vec<Feature>> {
    for teacher in teachers {
        for feature in &teacher.bundle.features {
            let from = |e: Error| e.file(place).column(&feature.name).with("teacher", teacher.name());
            match schema.field_with_name(&feature.name).ok() {
                None if feature.missing.is_none() => {
                    let near = nearest(schema.fields().iter().map(|f| f.name().as_str()), &feature.name);
                    let hint = format!(
                        "the nearest column is {:?}; or give the feature `missing` in teacher.toml",
                        near.unwrap_or("")
                    );
                    return Err(from(Error::data(
                        "a teacher's feature is missing among the accounts' columns",
                    ))
                    .hint(hint));
                }
                Some(field) if !column::readable(feature.kind, field.data_type()) => {
                    let wanted = format!("{:?}", feature.kind).to_lowercase();
                    return Err(from(Error::data(format!(
                        "the teacher takes a {wanted} here, the column is {}",
                        field.data_type()
                    ))));
                }
                _ => {}
            }
        }
    }
    let mut found = named_features(teachers).map_err(|e| e.file(place))?;
    found.iter_mut().for_each(|f| f.present = schema.field_with_name(&f.name).is_ok());
    Ok(found)
}
