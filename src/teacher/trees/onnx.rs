//! ONNX graphs that are one tree ensemble over one float matrix -> [`TreeGraph`], as the converters of LightGBM, XGBoost and scikit-learn write them.
//!
//! | node | read as |
//! |---|---|
//! | `Imputer`, `Scaler` | what is done to the columns before |
//! | `TreeEnsembleClassifier` | the ensemble |
//! | `Identity`, `Cast` to float, `Mul` by one | nothing |
//! | another way to the probabilities, `ZipMap` | not ours: such a graph is for a runtime |
//!
//! The meaning of the operators is ONNX Runtime's: thresholds and sums are float32.

use std::collections::HashMap;

use prost::Message;

use super::ensemble::Ensemble;
use super::onnx_nodes::ensemble;
use crate::error::{Error, Result};
use crate::teacher::onnx_proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, element};

/// A graph whose probability output is a tree ensemble's.
#[derive(Debug)]
pub struct TreeGraph {
    /// Name of the output that has the probabilities.
    pub output: String,
    /// What is done to the columns first, in order.
    pub steps: Vec<Step>,
    pub ensemble: Ensemble,
}

/// Work on one column at a time; a list holds one value for each column, or one for all.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `replaced` (often NaN) becomes the column's value.
    Impute { replaced: f32, values: Vec<f32> },
    /// `(x - offset) * scale`, in float32.
    Scale { offset: Vec<f32>, scale: Vec<f32> },
}

impl Step {
    /// Does it to the values of column `feature`.
    pub fn apply(&self, feature: usize, values: &mut [f32]) {
        let of = |list: &[f32]| list.get(feature).or(list.first()).copied().unwrap_or(0.0);
        match self {
            Step::Impute { replaced, values: new } => {
                let new = of(new);
                let is_replaced = |v: f32| v == *replaced || (replaced.is_nan() && v.is_nan());
                values.iter_mut().filter(|v| is_replaced(**v)).for_each(|v| *v = new);
            }
            Step::Scale { offset, scale } => {
                let (offset, scale) = (of(offset), of(scale));
                values.iter_mut().for_each(|v| *v = (*v - offset) * scale);
            }
        }
    }

    fn fits(&self, features: usize) -> bool {
        let fits = |list: &[f32]| list.len() == 1 || list.len() == features;
        match self {
            Step::Impute { values, .. } => fits(values),
            Step::Scale { offset, scale } => fits(offset) && fits(scale),
        }
    }
}

/// Reads a graph over a matrix of `features` columns. None: it is sound so far as one can see, but for a runtime.
pub fn parse(bytes: &[u8], features: usize) -> Result<Option<TreeGraph>> {
    let model = ModelProto::decode(bytes).map_err(|e| refused(format!("this is not an ONNX model: {e}")))?;
    let graph = model.graph.ok_or_else(|| refused("the model has no graph"))?;
    let Some(path) = Path::find(&graph) else { return Ok(None) };
    let mut steps = Vec::new();
    for node in path.before {
        let Some(step) = step(node) else { return Ok(None) };
        steps.extend(step);
    }
    if !steps.iter().all(|step| step.fits(features)) {
        return Err(refused("an Imputer or Scaler has another number of columns than the features").value(features));
    }
    let Some(ensemble) = ensemble(&Attributes(path.trees), features)? else { return Ok(None) };
    ensemble.validate()?;
    Ok(Some(TreeGraph { output: path.output.to_owned(), steps, ensemble }))
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::data(message).with("format", "onnx")
}

/// The way from the one input through a tree ensemble to the one float output.
struct Path<'a> {
    before: Vec<&'a NodeProto>,
    trees: &'a NodeProto,
    output: &'a str,
}

impl<'a> Path<'a> {
    fn find(graph: &'a GraphProto) -> Option<Path<'a>> {
        let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let makers: HashMap<&str, &NodeProto> = graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
        let mut inputs = graph.input.iter().filter(|i| !constants.contains_key(i.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else { return None };
        let mut outputs =
            graph.output.iter().filter(|o| element_type(o) != Some(element::INT64) && element_type(o) != Some(element::STRING));
        let (Some(output), None) = (outputs.next(), outputs.next()) else { return None };
        if element_type(input) != Some(element::FLOAT) || element_type(output) != Some(element::FLOAT) {
            return None;
        }
        let mut at = output.name.as_str();
        // a graph is no longer than its list of nodes, whatever circles it claims
        let mut before = Vec::new();
        let mut trees: Option<&NodeProto> = None;
        for _ in 0..=graph.node.len() {
            if at == input.name {
                before.reverse();
                return trees.map(|trees| Path { before, trees, output: &output.name });
            }
            let node = *makers.get(at)?;
            if trees.is_some() {
                before.push(node);
            } else if node.op_type == "TreeEnsembleClassifier" && node.domain == "ai.onnx.ml" && node.output.get(1).is_some_and(|o| o == at)
            {
                trees = Some(node);
            } else if !changes_nothing(node, &constants) {
                return None;
            }
            at = node.input.first()?;
        }
        None
    }
}

fn element_type(value: &ValueInfoProto) -> Option<i32> {
    Some(value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)
}

fn changes_nothing(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> bool {
    let is_one = |name: &String| {
        constants.get(name.as_str()).is_some_and(|t| {
            let count: i64 = t.dims.iter().product();
            t.data_type == element::FLOAT && count == 1 && (t.float_data == [1.0] || t.raw_data == 1f32.to_le_bytes())
        })
    };
    match (node.domain.as_str(), node.op_type.as_str()) {
        ("", "Identity") => true,
        ("", "Cast") => Attributes(node).int("to") == Some(i64::from(element::FLOAT)),
        ("", "Mul") => node.input.get(1).is_some_and(is_one),
        _ => false,
    }
}

/// What a node before the trees does: nothing, a step, or (None) something else.
fn step(node: &NodeProto) -> Option<Option<Step>> {
    let attributes = Attributes(node);
    match (node.domain.as_str(), node.op_type.as_str()) {
        ("ai.onnx.ml", "Scaler") => {
            Some(Some(Step::Scale { offset: attributes.floats("offset").to_vec(), scale: attributes.floats("scale").to_vec() }))
        }
        ("ai.onnx.ml", "Imputer") => {
            let values = attributes.floats("imputed_value_floats").to_vec();
            (!values.is_empty()).then(|| Some(Step::Impute { replaced: attributes.float("replaced_value_float").unwrap_or(0.0), values }))
        }
        _ => changes_nothing(node, &HashMap::new()).then_some(None),
    }
}

/// The attributes of a node; lists that are not there are empty.
pub(super) struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    pub fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|a| a.name == name)
    }

    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |a| &a.ints)
    }

    pub fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |a| &a.floats)
    }

    pub fn strings(&self, name: &str) -> &'a [Vec<u8>] {
        self.find(name).map_or(&[], |a| &a.strings)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|a| a.i)
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.find(name).map(|a| a.f)
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::teacher::onnx_proto::{TensorTypeProto, TypeProto};

    fn value(name: &str) -> ValueInfoProto {
        let tensor_type = Some(TensorTypeProto { elem_type: element::FLOAT, ..Default::default() });
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type, ..Default::default() }) }
    }

    fn ints(name: &str, ints: &[i64]) -> AttributeProto {
        AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() }
    }

    fn floats(name: &str, floats: &[f32]) -> AttributeProto {
        AttributeProto { name: name.into(), floats: floats.to_vec(), ..Default::default() }
    }

    /// One split at 0.5 by `mode`: P(second) is 0.9 on the yes side, 0.2 on the no side.
    fn model(mode: &str, yes: i64, missing_yes: i64) -> Vec<u8> {
        let modes = [mode, "LEAF", "LEAF"].map(|m| m.as_bytes().to_vec()).to_vec();
        let trees = NodeProto {
            op_type: "TreeEnsembleClassifier".into(),
            domain: "ai.onnx.ml".into(),
            input: vec!["x".into()],
            output: vec!["label".into(), "p".into()],
            attribute: vec![
                ints("classlabels_int64s", &[0, 1]),
                ints("class_ids", &[0, 0]),
                ints("class_treeids", &[0, 0]),
                ints("class_nodeids", &[1, 2]),
                floats("class_weights", &[0.9, 0.2]),
                ints("nodes_treeids", &[0; 3]),
                ints("nodes_nodeids", &[0, 1, 2]),
                ints("nodes_featureids", &[0; 3]),
                ints("nodes_truenodeids", &[yes, 0, 0]),
                ints("nodes_falsenodeids", &[2, 0, 0]),
                ints("nodes_missing_value_tracks_true", &[missing_yes, 0, 0]),
                floats("nodes_values", &[0.5, 0.0, 0.0]),
                AttributeProto { name: "nodes_modes".into(), strings: modes, ..Default::default() },
            ],
            ..Default::default()
        };
        let graph = GraphProto { node: vec![trees], input: vec![value("x")], output: vec![value("p")], ..Default::default() };
        ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()
    }

    fn second(bytes: &[u8], x: f32) -> f64 {
        let graph = parse(bytes, 1).unwrap().unwrap();
        let mut out = [0.0; 2];
        graph.ensemble.predict_row(&[x], &mut out);
        (out[1] * 10.0).round() / 10.0
    }

    #[test]
    fn every_comparison_keeps_its_sides() {
        for (mode, yes) in [
            ("BRANCH_LEQ", [true, true, false]),
            ("BRANCH_LT", [true, false, false]),
            ("BRANCH_GT", [false, false, true]),
            ("BRANCH_GTE", [false, true, true]),
        ] {
            for missing_yes in [0, 1] {
                let bytes = model(mode, 1, missing_yes);
                for (x, yes) in [0.4, 0.5, 0.6, f32::NAN].into_iter().zip([yes[0], yes[1], yes[2], missing_yes == 1]) {
                    assert_eq!(second(&bytes, x), if yes { 0.9 } else { 0.2 }, "{x} {mode}");
                }
            }
        }
    }

    #[test]
    fn other_graphs_are_for_a_runtime_and_damaged_ones_refused() {
        assert!(parse(&model("BRANCH_EQ", 1, 0), 1).unwrap().is_none());
        assert!(parse(&model("BRANCH_LEQ", 0, 0), 1).is_err());
        assert!(parse(&model("BRANCH_LEQ", 7, 0), 1).is_err());
        let bytes = model("BRANCH_LEQ", 1, 0);
        assert!((1..bytes.len()).all(|cut| !matches!(parse(&bytes[..cut], 1), Ok(Some(_)))));
    }

    #[test]
    fn steps_go_by_column_or_are_for_all() {
        let mut values = [f32::NAN, 2.0];
        Step::Impute { replaced: f32::NAN, values: vec![7.0] }.apply(3, &mut values);
        Step::Scale { offset: vec![0.0, 1.0], scale: vec![1.0, 0.5] }.apply(1, &mut values);
        assert_eq!(values, [3.0, 0.5]);
    }
}
