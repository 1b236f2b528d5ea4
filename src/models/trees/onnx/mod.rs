//! ONNX graphs that are one tree ensemble over columns of floats -> [`TreeGraph`], as the converters of
//! LightGBM, XGBoost and scikit-learn write them.
//!
//! | node | read as |
//! |---|---|
//! | `Imputer`, `Scaler`; `Add`, `Sub`, `Mul`, `Div` by constants | what is done to a column before (see `onnx_columns.rs`) |
//! | `Concat`, `ArrayFeatureExtractor`, `Reshape` to the same columns | which columns there are |
//! | `TreeEnsembleClassifier`, `TreeEnsembleRegressor`, `TreeEnsemble` | the ensemble (see `onnx_nodes.rs`) |
//! | `Sigmoid`, `Softmax` after an ensemble without a link | its link |
//! | `Identity`, `Cast` to float, `Mul` by one | nothing |
//! | another way to the probabilities, `ZipMap` | not ours: such a graph is for a runtime |
//!
//! The meaning of the operators is ONNX Runtime's: sums are float32, and so are thresholds where the input
//! is.

mod attributes;
pub mod columns;
pub mod nodes;

use std::collections::HashMap;

use crate::error::Result;
use crate::models::onnx_proto::{self, GraphProto, ModelProto, NodeProto, TensorProto, element};
use crate::models::trees::ensemble::{Ensemble, Link};
use crate::models::trees::onnx::attributes::{Attributes, constants, element_type, integers, refused};
use crate::models::trees::onnx::columns::Prepared;
use crate::models::trees::onnx::nodes::ensemble;

/// A graph whose probability output is a tree ensemble's.
#[derive(Debug)]
pub struct TreeGraph {
    /// Name of the output that has the probabilities.
    pub output: String,
    /// The ensemble's columns, made of the model's inputs.
    pub columns: Vec<Prepared>,
    pub ensemble: Ensemble,
    /// Whether the columns are float64 from the inputs on; nothing is done to them then.
    pub is_float64: bool,
}

/// Reads a graph over a matrix of `features` columns, or over one input of one column for each of `names`.
/// None: it is sound so far as one can see, but for a runtime.
pub fn parse(bytes: &[u8], features: usize, names: &[&str]) -> Result<Option<TreeGraph>> {
    read(&onnx_proto::read(bytes)?, features, names)
}

/// [`parse`] of a model that is decoded.
pub fn read(model: &ModelProto, features: usize, names: &[&str]) -> Result<Option<TreeGraph>> {
    let graph = model.graph.as_ref().ok_or_else(|| refused("the model has no graph"))?;
    if !model.outside().is_empty() {
        return Ok(None);
    }
    let Some(end) = End::find(graph) else { return Ok(None) };
    let Some(source) = end.trees.input.first() else { return Ok(None) };
    let Some((columns, wide)) = columns::prepared(graph, source, features, names)? else { return Ok(None) };
    let Some(mut ensemble) = ensemble(end.trees, columns.len(), wide)? else { return Ok(None) };
    if let Some(link) = end.link {
        if end.trees.op_type == "TreeEnsembleClassifier"
            || ensemble.link != Link::Identity
            || (ensemble.outputs == 1 && link == Link::Softmax)
        {
            return Ok(None);
        }
        ensemble.link = link;
    }
    if end.is_one_column && ensemble.outputs != 1 {
        return Ok(None);
    }
    ensemble.validate()?;
    let is_float64 = wide && graph.input.iter().any(|i| element_type(i) == Some(element::DOUBLE));
    Ok(Some(TreeGraph { output: end.output.to_owned(), columns, ensemble, is_float64 }))
}

/// The way from a tree ensemble to the one float output.
struct End<'a> {
    trees: &'a NodeProto,
    output: &'a str,
    link: Option<Link>,
    /// Whether the output is reshaped as only one column can be.
    is_one_column: bool,
}

impl<'a> End<'a> {
    fn find(graph: &'a GraphProto) -> Option<End<'a>> {
        let constants = constants(graph);
        let makers: HashMap<&str, &NodeProto> =
            graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
        let mut outputs = graph
            .output
            .iter()
            .filter(|o| element_type(o) != Some(element::INT64) && element_type(o) != Some(element::STRING));
        let (Some(output), None) = (outputs.next(), outputs.next()) else { return None };
        if element_type(output) != Some(element::FLOAT) {
            return None;
        }
        let mut at = output.name.as_str();
        let (mut link, mut is_one_column) = (None, false);
        // a graph is no longer than its list of nodes, whatever circles it claims
        for _ in 0..=graph.node.len() {
            let node = *makers.get(at)?;
            match (node.domain.as_str(), node.op_type.as_str()) {
                ("ai.onnx.ml", "TreeEnsembleClassifier") if node.output.get(1).is_some_and(|o| o == at) => {
                    return Some(End { trees: node, output: &output.name, link, is_one_column });
                }
                ("ai.onnx.ml", "TreeEnsembleRegressor" | "TreeEnsemble") => {
                    return Some(End { trees: node, output: &output.name, link, is_one_column });
                }
                ("", "Sigmoid") if link.is_none() => link = Some(Link::Sigmoid { slope: 1.0 }),
                ("", "Softmax")
                    if link.is_none() && matches!(Attributes(node).int("axis"), None | Some(1 | -1)) =>
                {
                    link = Some(Link::Softmax)
                }
                ("", "Reshape")
                    if matches!(integers(&constants, node.input.get(1)?)?.as_slice(), [-1] | [-1, 1]) =>
                {
                    is_one_column = true
                }
                ("", "Squeeze") if integers(&constants, node.input.get(1)?)? == [1] => is_one_column = true,
                _ if changes_nothing(node, &constants) => {}
                _ => return None,
            }
            at = node.input.first()?;
        }
        None
    }
}

fn changes_nothing(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> bool {
    let is_one = |name: &String| {
        constants.get(name.as_str()).is_some_and(|t| {
            t.data_type == element::FLOAT && t.floats().is_some_and(|values| values == [1.0])
        })
    };
    match (node.domain.as_str(), node.op_type.as_str()) {
        ("", "Identity") => true,
        ("", "Cast") => Attributes(node).int("to") == Some(i64::from(element::FLOAT)),
        ("", "Mul") => node.input.get(1).is_some_and(is_one),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::models::onnx_proto::{
        AttributeProto, ModelProto, StringStringEntryProto, TensorTypeProto, TypeProto, ValueInfoProto,
    };

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
        let graph = GraphProto {
            node: vec![trees],
            input: vec![value("x")],
            output: vec![value("p")],
            ..Default::default()
        };
        ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()
    }

    fn second(bytes: &[u8], x: f32) -> f64 {
        let graph = parse(bytes, 1, &[]).unwrap().unwrap();
        let mut out = [0.0; 2];
        graph.ensemble.predict_row(&[f64::from(x)], &mut out);
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
                for (x, yes) in
                    [0.4, 0.5, 0.6, f32::NAN].into_iter().zip([yes[0], yes[1], yes[2], missing_yes == 1])
                {
                    assert_eq!(second(&bytes, x), if yes { 0.9 } else { 0.2 }, "{x} {mode}");
                }
            }
        }
    }

    #[test]
    fn other_graphs_are_for_a_runtime_and_damaged_ones_refused() {
        assert!(parse(&model("BRANCH_EQ", 1, 0), 1, &[]).unwrap().is_none());
        assert!(parse(&model("BRANCH_LEQ", 0, 0), 1, &[]).is_err());
        assert!(parse(&model("BRANCH_LEQ", 7, 0), 1, &[]).is_err());
        let bytes = model("BRANCH_LEQ", 1, 0);
        assert!((1..bytes.len()).all(|cut| !matches!(parse(&bytes[..cut], 1, &[]), Ok(Some(_)))));
    }

    #[test]
    fn constants_in_other_files_are_found_wherever_they_hide() {
        let outside = TensorProto { name: "w".into(), data_location: 1, ..Default::default() };
        let entry = StringStringEntryProto { key: "location".into(), value: "../../secret".into() };
        let named = TensorProto { external_data: vec![entry], ..Default::default() };
        let sound = ModelProto::decode(model("BRANCH_LEQ", 1, 0).as_slice()).unwrap();
        let graph = |initializer| GraphProto { initializer, ..Default::default() };
        let inner =
            AttributeProto { name: "body".into(), g: Some(graph(vec![named.clone()])), ..Default::default() };
        for spoil in [
            &(|g: &mut GraphProto| g.initializer.push(outside.clone())) as &dyn Fn(&mut GraphProto),
            &|g| g.node[0].attribute[0].t = Some(named.clone()),
            &|g| g.node[0].attribute.push(inner.clone()),
        ] {
            let mut model = sound.clone();
            spoil(model.graph.as_mut().unwrap());
            assert_eq!(model.outside().len(), 1);
            assert!(parse(&model.encode_to_vec(), 1, &[]).unwrap().is_none());
        }
    }
}
