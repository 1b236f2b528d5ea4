//! The part of an ONNX graph before its trees: columns of the model's inputs, chosen, put side by side, and
//! changed one by one in float32.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::Result;
use crate::models::onnx_proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, element};
use crate::models::trees::onnx::attributes::{Attributes, constants, element_type, integers, refused};

/// A column of the model's inputs and what is done to it, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub source: usize,
    pub steps: Vec<Step>,
}

/// Float32 arithmetic on a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// The value `replaced` (often NaN) becomes `value`.
    Impute {
        replaced: f32,
        value: f32,
    },
    Add(f32),
    Subtract(f32),
    Multiply(f32),
    Divide(f32),
}

impl Prepared {
    /// The column, made of the model's inputs.
    pub fn of<'a>(&self, inputs: &[&'a [f32]]) -> Cow<'a, [f32]> {
        let mut column = Cow::Borrowed(inputs[self.source]);
        for step in &self.steps {
            column.to_mut().iter_mut().for_each(|v| *v = step.apply(*v));
        }
        column
    }
}

impl Step {
    fn apply(self, v: f32) -> f32 {
        match self {
            Step::Impute { replaced, value } if v == replaced || (replaced.is_nan() && v.is_nan()) => value,
            Step::Impute { .. } => v,
            Step::Add(by) => v + by,
            Step::Subtract(by) => v - by,
            Step::Multiply(by) => v * by,
            Step::Divide(by) => v / by,
        }
    }
}

/// Longer work on a column, or more columns of all nodes together, is for a runtime: a few bytes can repeat a
/// list of columns.
const MOST_STEPS: usize = 8;
const MOST_COLUMNS: usize = 1 << 19;

/// The columns of the value `wanted`, and whether they are float64; None where a node on the way does
/// something else. The one input of the graph is a matrix of `features` columns, or its inputs are columns by
/// `names`.
pub(super) fn prepared(
    graph: &GraphProto,
    wanted: &str,
    features: usize,
    names: &[&str],
) -> Result<Option<(Vec<Prepared>, bool)>> {
    let constants = constants(graph);
    let inputs: Vec<_> = graph.input.iter().filter(|i| !constants.contains_key(i.name.as_str())).collect();
    let plain = |source: usize| Prepared { source, steps: Vec::new() };
    let mut known: HashMap<&str, (Vec<Prepared>, bool)> = HashMap::new();
    for input in &inputs {
        let wide = match element_type(input) {
            Some(element::FLOAT) => false,
            Some(element::DOUBLE) => true,
            _ => return Ok(None),
        };
        let columns = match names.iter().position(|n| *n == input.name) {
            Some(place) => vec![plain(place)],
            None if inputs.len() == 1 => {
                if let Some(width) = width(input).filter(|width| usize::try_from(*width) != Ok(features)) {
                    return Err(refused(format!(
                        "the model's input has {width} columns, the features of teacher.toml make {features}"
                    )));
                }
                (0..features).map(plain).collect()
            }
            None => return Ok(None),
        };
        known.insert(&input.name, (columns, wide));
    }
    let mut made = 0;
    for node in &graph.node {
        let [output] = node.output.as_slice() else { continue };
        let Some(columns) = step(node, &known, &constants)? else { continue };
        made += columns.0.len();
        if made > MOST_COLUMNS || columns.0.iter().any(|c| c.steps.len() > MOST_STEPS) {
            return Ok(None);
        }
        known.insert(output, columns);
    }
    Ok(known.remove(wanted))
}

/// The declared number of columns, if it is fixed.
fn width(input: &ValueInfoProto) -> Option<i64> {
    let dims = &input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim;
    dims.get(1)?.dim_value
}

/// What a node makes of known columns; None where it is not for us.
fn step(
    node: &NodeProto,
    known: &HashMap<&str, (Vec<Prepared>, bool)>,
    constants: &HashMap<&str, &TensorProto>,
) -> Result<Option<(Vec<Prepared>, bool)>> {
    let attributes = Attributes(node);
    let input = |at: usize| node.input.get(at).map(String::as_str).unwrap_or_default();
    let Some((columns, wide)) = known.get(input(0)) else { return Ok(None) };
    let mut columns = columns.clone();
    match (node.domain.as_str(), node.op_type.as_str()) {
        ("", "Identity") => {}
        // of a float32 input both are exact, and float32 is what models are fed
        ("", "Cast") if attributes.int("to") == Some(i64::from(element::FLOAT)) => {
            return Ok(Some((columns, false)));
        }
        ("", "Cast") if attributes.int("to") == Some(i64::from(element::DOUBLE)) && !wide => {
            return Ok(Some((columns, true)));
        }
        ("", "Reshape") => match integers(constants, input(1)).as_deref() {
            Some([-1 | 0, width]) if usize::try_from(*width) == Ok(columns.len()) => {}
            _ => return Ok(None),
        },
        ("", "Concat") if matches!(attributes.int("axis"), Some(1 | -1)) => {
            for name in node.input.iter().skip(1) {
                match known.get(name.as_str()) {
                    Some((more, also)) if also == wide => columns.extend_from_slice(more),
                    _ => return Ok(None),
                }
            }
        }
        ("ai.onnx.ml", "ArrayFeatureExtractor") => {
            let Some(places) = integers(constants, input(1)) else { return Ok(None) };
            let take = |place: i64| usize::try_from(place).ok().and_then(|p| columns.get(p)).cloned();
            let Some(taken) = places.into_iter().map(take).collect() else {
                return Err(refused("an ArrayFeatureExtractor takes a column that is not there"));
            };
            columns = taken;
        }
        // float64 arithmetic is not that of the steps
        _ if *wide => return Ok(None),
        ("ai.onnx.ml", "Imputer") => {
            let (values, replaced) = (
                attributes.floats("imputed_value_floats"),
                attributes.float("replaced_value_float").unwrap_or(0.0),
            );
            if values.is_empty() {
                return Ok(None);
            }
            each(&mut columns, values, node, |value| Step::Impute { replaced, value })?;
        }
        ("ai.onnx.ml", "Scaler") => {
            each(&mut columns, attributes.floats("offset"), node, Step::Subtract)?;
            each(&mut columns, attributes.floats("scale"), node, Step::Multiply)?;
        }
        ("", operator @ ("Add" | "Sub" | "Mul" | "Div")) => {
            let Some(by) = constants.get(input(1)).filter(|t| t.data_type == element::FLOAT) else {
                return Ok(None);
            };
            let Some(values) = by.floats() else { return Ok(None) };
            // [n] or [1, n], or one for all
            if !matches!(by.dims.as_slice(), [] | [_] | [1, _])
                || (values.len() != 1 && values.len() != columns.len())
            {
                return Ok(None);
            }
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            each(
                &mut columns,
                &values,
                node,
                match operator {
                    "Add" => Step::Add,
                    "Sub" => Step::Subtract,
                    "Mul" => Step::Multiply,
                    _ => Step::Divide,
                },
            )?;
        }
        _ => return Ok(None),
    }
    Ok(Some((columns, *wide)))
}

/// Adds a step to each column; `values` has one for each, or one for all.
fn each(
    columns: &mut [Prepared],
    values: &[f32],
    node: &NodeProto,
    step: impl Fn(f32) -> Step,
) -> Result<()> {
    if values.len() != 1 && values.len() != columns.len() {
        let message = format!("the {} has values for another number of columns than there are", node.op_type);
        return Err(refused(message).value(values.len()));
    }
    for (place, column) in columns.iter_mut().enumerate() {
        column.steps.push(step(values[if values.len() == 1 { 0 } else { place }]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_done_in_order() {
        let steps =
            vec![Step::Impute { replaced: f32::NAN, value: 7.0 }, Step::Subtract(1.0), Step::Multiply(0.5)];
        let column = Prepared { source: 1, steps }.of(&[&[0.0, 0.0], &[f32::NAN, 2.0]]);
        assert_eq!(*column, [3.0, 0.5]);
    }
}
