//! What a model file says of itself, whatever its format.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::commands::add::request::Request;
use crate::error::{Error, Result};
use crate::models::onnx_proto::{self, GraphProto, ValueInfoProto, element};
use crate::models::said::{Input, Said, are_places};
use crate::models::trees::{lightgbm, xgboost};
use crate::models::{Read, Scorer, Told, onnx_facts};
use crate::teacher::bundle::{Format, read_limited};

/// A model file as a bundle begins with it.
pub struct Draft {
    pub format: Format,
    /// Its name in the bundle.
    pub file: String,
    pub bytes: Vec<u8>,
    /// Files beside it that hold some of its constants: their names in it, and where they are.
    pub outside: BTreeMap<String, PathBuf>,
    pub said: Said,
    pub inputs: Inputs,
    /// Classes that have a probability; 0 where the file does not say.
    pub classes: usize,
}

/// How the model takes its features.
pub enum Inputs {
    /// One row of numbers, as long as that, if it is known.
    Row(Option<usize>),
    /// One row of texts.
    Texts(Option<usize>),
    /// An input for each feature: its name, and whether it is text.
    Each(Vec<(String, bool)>),
}

impl Draft {
    /// Reads the model; its format is known by its first bytes.
    pub fn read(request: &Request) -> Result<Draft> {
        let path = &request.model;
        let bytes = read_limited(path)?;
        let opening: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).take(1).collect();
        let draft = match opening.as_slice() {
            _ if bytes.starts_with(b"tree") => trees(Format::Lightgbm, "model.txt", &bytes),
            b"{" if is_student(&bytes) => {
                Err(Error::data("this is a student of ours, which is a bundle already")
                    .hint("name its folder in the pipeline: [[teachers]] bundle = \"...\""))
            }
            b"{" => {
                let is_text = bytes.iter().find(|b| !b.is_ascii_whitespace() && **b != b'{') == Some(&b'"');
                trees(Format::Xgboost, if is_text { "model.json" } else { "model.ubj" }, &bytes)
            }
            _ => onnx(path, &bytes),
        };
        let draft = draft.map_err(|e| e.file(path))?;
        Ok(Draft { bytes, ..draft })
    }

    /// The names that the file has for its inputs, where they are more than places.
    pub fn names(&self) -> Option<Vec<String>> {
        match &self.inputs {
            Inputs::Each(inputs) => Some(inputs.iter().map(|(name, _)| name.clone()).collect()),
            _ => self
                .said
                .names()
                .filter(|n| !are_places(n))
                .map(|n| n.into_iter().map(str::to_string).collect()),
        }
    }

    /// How many inputs there are, if that is known.
    pub fn width(&self) -> Option<usize> {
        match &self.inputs {
            Inputs::Row(width) | Inputs::Texts(width) => *width,
            Inputs::Each(inputs) => Some(inputs.len()),
        }
    }

    /// What the file says of the input at a place.
    pub fn input(&self, at: usize) -> Input {
        self.said.inputs.get(at).cloned().unwrap_or_default()
    }
}

fn is_student(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| crate::student::from_json(text).is_ok())
}

fn trees(format: Format, file: &str, bytes: &[u8]) -> Result<Draft> {
    let told = Told::default();
    let Read { scorer, said } = match format {
        Format::Lightgbm => lightgbm::read(bytes, &told)?,
        _ => xgboost::read(bytes, &told)?,
    };
    let (width, classes) = match &scorer {
        Scorer::Trees(model) => (model.features, model.classes()),
        Scorer::LinearTrees(model) => (model.trees.features, model.trees.classes()),
        Scorer::Linear(model) => (model.features, model.classes()),
    };
    let (bytes, outside) = (Vec::new(), BTreeMap::new());
    Ok(Draft {
        format,
        file: file.to_string(),
        bytes,
        outside,
        said,
        inputs: Inputs::Row(Some(width)),
        classes,
    })
}

fn onnx(path: &std::path::Path, bytes: &[u8]) -> Result<Draft> {
    let unknown = |e: Error| {
        Error::data("this is no model file that is read here")
            .with("because", e.message())
            .hint("read are: LightGBM's text (save_model), XGBoost's JSON and UBJSON (save_model), ONNX")
    };
    let model = onnx_proto::read(bytes).map_err(unknown)?;
    let Some(graph) = model.graph.as_ref().filter(|g| !g.output.is_empty()) else {
        return Err(unknown(Error::data("an ONNX model without a graph")));
    };
    let facts = onnx_facts::facts(&model);
    let beside = path.parent().unwrap_or(std::path::Path::new(""));
    let outside = model.outside().into_keys().map(|name| (name.to_string(), beside.join(name))).collect();
    let classes = facts.classes.as_ref().map_or_else(|| declared_classes(graph), Vec::len);
    let said = Said { classes: facts.classes, ..Said::default() };
    let (format, bytes) = (Format::Onnx, Vec::new());
    Ok(Draft { format, file: "model.onnx".to_string(), bytes, outside, said, inputs: inputs(graph), classes })
}

fn inputs(graph: &GraphProto) -> Inputs {
    let is_constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !is_constant(&i.name)).collect();
    let is_text = |input: &ValueInfoProto| element_of(input) == Some(element::STRING);
    match inputs.as_slice() {
        [one] => {
            let width = dims(one).get(1).copied().flatten();
            if is_text(one) { Inputs::Texts(width) } else { Inputs::Row(width) }
        }
        many => Inputs::Each(many.iter().map(|i| (i.name.clone(), is_text(i))).collect()),
    }
}

fn element_of(value: &ValueInfoProto) -> Option<i32> {
    Some(value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)
}

/// The declared sizes; None for one that is known when the model runs.
fn dims(value: &ValueInfoProto) -> Vec<Option<usize>> {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.as_slice()).unwrap_or_default();
    dims.iter().map(|d| d.dim_value.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)).collect()
}

/// The classes of the output of floats: its columns, or two where it has one number.
fn declared_classes(graph: &GraphProto) -> usize {
    let floats = [element::FLOAT, element::DOUBLE, element::FLOAT16];
    let output = graph.output.iter().find(|o| element_of(o).is_some_and(|t| floats.contains(&t)));
    match output.map(|o| (dims(o).len(), dims(o).get(1).copied().flatten())) {
        Some((1, _)) | Some((_, Some(1))) => 2,
        Some((_, Some(columns))) => columns,
        _ => 0,
    }
}
