//! What an ONNX file says of itself, and the one thing that is cut off it: a `ZipMap` at its end, which makes a list
//! of maps of what was a matrix of probabilities.

use std::collections::HashMap;

use prost::Message;

use super::onnx_proto::{
    GraphProto, ModelProto, NodeProto, TensorTypeProto, TypeProto, ValueInfoProto, element,
};
use crate::error::{Error, Result};

/// What the file says beside its graph.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The program that wrote the file, such as `skl2onnx`.
    pub producer: String,
    /// Names of the classes in the order of the columns of probabilities; numbers as text.
    pub classes: Option<Vec<String>>,
    /// A node whose result for a row depends on the rows beside it.
    pub depends_on_batch: Option<String>,
    /// Whether a node of the graph is made for missing values.
    pub knows_missing: bool,
}

/// Operators that scale by the extremes of the whole batch.
const OF_THE_BATCH: [&str; 4] =
    ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "DynamicQuantizeGRU"];
/// Operators that take NaN for missing.
const FOR_MISSING: [&str; 6] =
    ["Imputer", "IsNaN", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "LabelEncoder"];

/// The facts of a model.
pub fn facts(model: &ModelProto) -> Facts {
    let mut facts = Facts {
        producer: model.producer_name.lines().next().unwrap_or_default().trim().to_string(),
        ..Facts::default()
    };
    let Some(graph) = &model.graph else { return facts };
    let functions = model.functions.iter().flat_map(|f| &f.node);
    for node in graph.node.iter().chain(functions) {
        each_node(node, &mut |node| {
            if OF_THE_BATCH.contains(&node.op_type.as_str()) {
                facts.depends_on_batch.get_or_insert_with(|| node.op_type.clone());
            }
            facts.knows_missing |= FOR_MISSING.contains(&node.op_type.as_str());
        });
    }
    facts.classes = classes(graph);
    facts
}

fn each_node(node: &NodeProto, see: &mut impl FnMut(&NodeProto)) {
    see(node);
    let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
    graphs.flat_map(|g| &g.node).for_each(|inner| each_node(inner, see));
}

/// The names of the classes: those of a `ZipMap`, those that a label output is chosen from, or those of the one
/// classifier; of several each may know two of the classes.
fn classes(graph: &GraphProto) -> Option<Vec<String>> {
    let zipped = graph.node.iter().filter(|n| n.op_type == "ZipMap").find_map(labels);
    zipped.or_else(|| of_label_output(graph)).or_else(|| {
        let mut all = graph.node.iter().filter_map(labels);
        all.next().filter(|_| all.next().is_none())
    })
}

/// The labels of a classifier or a `ZipMap`.
fn labels(node: &NodeProto) -> Option<Vec<String>> {
    let list = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let text = list("classlabels_strings").filter(|a| !a.strings.is_empty());
    let text = text.map(|a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect());
    text.or_else(|| {
        let numbers = ["classlabels_int64s", "classlabels_ints"]
            .into_iter()
            .find_map(list)
            .filter(|a| !a.ints.is_empty());
        numbers.map(|a| a.ints.iter().map(i64::to_string).collect())
    })
}

/// From an output of labels back to the classifier that says them, or to the constant that they are taken from.
fn of_label_output(graph: &GraphProto) -> Option<Vec<String>> {
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let is_label = |o: &&ValueInfoProto| {
        let tensor = o.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        tensor.is_some_and(|t| matches!(t.elem_type, element::INT64 | element::STRING | element::INT32))
    };
    let mut at = graph.output.iter().find(is_label)?.name.as_str();
    for _ in 0..=graph.node.len() {
        let node = *makers.get(at)?;
        match node.op_type.as_str() {
            "ArrayFeatureExtractor" | "Gather" | "GatherElements" => {
                let constant = graph.initializer.iter().find(|t| Some(&t.name) == node.input.first())?;
                return constant
                    .texts()
                    .or_else(|| Some(constant.integers()?.iter().map(i64::to_string).collect()));
            }
            "Identity" | "Cast" | "Reshape" | "Squeeze" | "Flatten" => at = node.input.first()?,
            _ => return labels(node),
        }
    }
    None
}

/// A field of a message: its number, where it starts, and where its content is if it has a length.
struct Field {
    number: u64,
    start: usize,
    content: Option<(usize, usize)>,
    end: usize,
}

/// The fields of a message.
fn fields(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let key = varint(bytes, &mut at)?;
        let (mut content, length) =
            (None, |n: usize, at: usize| at.checked_add(n).filter(|end| *end <= bytes.len()));
        at = match key & 7 {
            0 => {
                varint(bytes, &mut at)?;
                at
            }
            1 => length(8, at)?,
            2 => {
                let n = usize::try_from(varint(bytes, &mut at)?).ok()?;
                let end = length(n, at)?;
                content = Some((at, end));
                end
            }
            5 => length(4, at)?,
            _ => return None,
        };
        found.push(Field { number: key >> 3, start, content, end: at });
    }
    Some(found)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn push_field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

const GRAPH: u64 = 7;
const NODE: u64 = 1;
const OUTPUT: u64 = 12;

/// The model without the `ZipMap` nodes that make its outputs; what they were made of is the output instead. All
/// other bytes stay as they are. None where there is no such node.
pub fn without_zipmap(bytes: &[u8], model: &ModelProto) -> Result<Option<Vec<u8>>> {
    let Some(graph) = &model.graph else { return Ok(None) };
    let zips: Vec<&NodeProto> =
        graph.node.iter().filter(|n| n.op_type == "ZipMap" && n.domain == "ai.onnx.ml").collect();
    let makes = |name: &str| {
        zips.iter().find(|z| z.output.first().is_some_and(|o| o == name)).and_then(|z| z.input.first())
    };
    if !graph.output.iter().any(|o| makes(&o.name).is_some()) {
        return Ok(None);
    }
    let damaged = || Error::data("this is not an ONNX model: its fields do not end where they should");
    let mut out = Vec::with_capacity(bytes.len());
    for field in fields(bytes).ok_or_else(damaged)? {
        let Some((from, to)) = field.content.filter(|_| field.number == GRAPH) else {
            out.extend_from_slice(&bytes[field.start..field.end]);
            continue;
        };
        let body = &bytes[from..to];
        let mut kept = Vec::with_capacity(body.len());
        for inner in fields(body).ok_or_else(damaged)? {
            let content = inner.content.map(|(from, to)| &body[from..to]);
            match (inner.number, content) {
                (NODE, Some(content)) if is_zipmap(content, &makes) => {}
                (OUTPUT, Some(content)) => {
                    let output = ValueInfoProto::decode(content).map_err(|_| damaged())?;
                    match makes(&output.name) {
                        Some(input) if graph.output.iter().any(|o| o.name == *input) => {}
                        Some(input) => push_field(&mut kept, OUTPUT as u8, &floats(input).encode_to_vec()),
                        None => kept.extend_from_slice(&body[inner.start..inner.end]),
                    }
                }
                _ => kept.extend_from_slice(&body[inner.start..inner.end]),
            }
        }
        push_field(&mut out, GRAPH as u8, &kept);
    }
    Ok(Some(out))
}

fn is_zipmap<'a>(content: &[u8], makes: &impl Fn(&str) -> Option<&'a String>) -> bool {
    let node = NodeProto::decode(content);
    node.is_ok_and(|n| n.op_type == "ZipMap" && n.output.first().is_some_and(|o| makes(o).is_some()))
}

fn floats(name: &str) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type: element::FLOAT, shape: None });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type, ..Default::default() }) }
}
