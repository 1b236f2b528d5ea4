//! A student as an ONNX model that takes accounts as they come.
//!
//! In: a student, and the name (and levels) of each of its columns. Out: the bytes of `model.onnx`: one input
//! of shape [rows, 1] for each column (float32 with NaN for null; strings for a category, "" or an unknown
//! one for null), one output `probabilities`, float32
//! [rows, classes]. Thresholds, leaves and weights are float64 and so is every sum, so that it agrees with
//! [`Student::predict`] to float32's rounding of a probability.
//!
//! Operators: ONNX 18 and ai.onnx.ml 5 (`TreeEnsemble`, whose set membership is ours), which ONNX Runtime
//! knows from 1.24 on at the latest.

mod graph;
mod linear;
mod trees;

use crate::error::{Error, Result};
use crate::models::onnx_proto::element;
use crate::student::contract::Student;
use crate::student::export::graph::Graph;
use crate::student::sample::Kind;
use crate::student::saved::{Linear, Model, SavedLink};

/// A column of the student as the ONNX model's user knows it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub name: &'a str,
    /// The texts of a category's levels, in the order of their codes; empty for a number.
    pub levels: &'a [String],
}

/// The output's name; no input may have it.
pub const OUTPUT: &str = "probabilities";

/// The student as ONNX. Refuses (65) inputs that do not fit its columns: another number of them or of levels,
/// a name twice.
pub fn to_onnx(student: &dyn Student, inputs: &[Input]) -> Result<Vec<u8>> {
    check(student.kinds(), inputs)?;
    let saved = student.saved();
    let mut graph = Graph::default();
    let columns = read_columns(&mut graph, &saved.columns, inputs);
    let probabilities = match &saved.model {
        Model::Logistic(linear) => {
            let z = linear::logits(&mut graph, &columns, &saved.columns, linear);
            graph.softmax(&z)
        }
        Model::Trees { link, base, scale, start, trees } => {
            let to_classes = Linked { link: *link, base, scale: *scale, classes: saved.classes };
            let sums = trees::sums(&mut graph, &columns, trees, base.len());
            linked(&mut graph, &columns, &saved.columns, &sums, &to_classes, start.as_ref())
        }
    };
    graph.cast(&probabilities, element::FLOAT, Some(OUTPUT));
    graph.output(OUTPUT, element::FLOAT, saved.classes);
    Ok(graph.model(&format!("coldstart {} student", student.family())))
}

fn check(kinds: &[Kind], inputs: &[Input]) -> Result<()> {
    if kinds.len() != inputs.len() {
        return Err(Error::data("the student has another number of columns than inputs were named")
            .value(format!("{} {}", kinds.len(), inputs.len())));
    }
    let mut names: Vec<&str> = inputs.iter().map(|i| i.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1] || pair[1].is_empty()) {
        return Err(Error::data("an input's name is empty or another's, too").column(pair[0]));
    }
    for (kind, input) in kinds.iter().zip(inputs) {
        let levels = if let Kind::Category { levels } = kind { *levels } else { 0 };
        if levels != input.levels.len() || input.name.is_empty() || input.name == OUTPUT {
            return Err(Error::data("a column's name is taken, or its levels are not the student's")
                .column(input.name)
                .value(input.levels.len()));
        }
    }
    Ok(())
}

/// The student's columns as one float64 matrix [rows, columns], codes for levels, NaN for null and for
/// infinite numbers.
fn read_columns(graph: &mut Graph, kinds: &[Kind], inputs: &[Input]) -> String {
    let element = |kind: &Kind| if *kind == Kind::Number { element::FLOAT } else { element::STRING };
    kinds.iter().zip(inputs).for_each(|(kind, input)| graph.input(input.name, element(kind)));
    let mut column = |(kind, input): (&Kind, &Input)| match kind {
        Kind::Number => input.name.to_string(),
        Kind::Category { .. } => graph.level_codes(input.name, input.levels),
    };
    let columns: Vec<String> = kinds.iter().zip(inputs).map(&mut column).collect();
    let matrix = graph.concat(&columns);
    let infinite = graph.node("IsInf", &[&matrix], Vec::new());
    let nan = graph.floats(&[f32::NAN]);
    let clean = graph.node("Where", &[&infinite, &nan, &matrix], Vec::new());
    graph.cast(&clean, element::DOUBLE, None)
}

/// From sums of leaves to classes.
struct Linked<'a> {
    link: SavedLink,
    base: &'a [f64],
    scale: f64,
    classes: usize,
}

/// scale * sums + base, spread over the classes, on top of the start; then the link. With two classes and one
/// sum, that is the second's: its softmax beside a 0 is the sigmoid, and a mean of probabilities stands
/// beside 1 - itself.
fn linked(
    graph: &mut Graph,
    columns: &str,
    kinds: &[Kind],
    sums: &str,
    to: &Linked,
    start: Option<&Linear>,
) -> String {
    let (outputs, classes) = (to.base.len(), to.classes);
    let identity = to.link == SavedLink::Identity;
    let mut spread = vec![0.0; outputs * classes];
    let mut constant = vec![0.0; classes];
    let first = classes - outputs;
    for output in 0..outputs {
        spread[output * classes + first + output] = to.scale;
        constant[first + output] = to.base[output];
    }
    if identity && first == 1 {
        (spread[0], constant[0]) = (-to.scale, 1.0 - to.base[0]);
    }
    let spread = graph.doubles(&[outputs, classes], &spread);
    let constant = graph.doubles(&[1, classes], &constant);
    let scaled = graph.node("MatMul", &[sums, &spread], Vec::new());
    let mut z = graph.node("Add", &[&scaled, &constant], Vec::new());
    if let Some(start) = start {
        let logits = linear::logits(graph, columns, kinds, start);
        z = graph.node("Add", &[&z, &logits], Vec::new());
    }
    if !identity {
        return graph.softmax(&z);
    }
    let least = graph.doubles(&[1, 1], &[super::trees::LEAST]);
    let p = graph.node("Max", &[&z, &least], Vec::new());
    let total = graph.sum_over(&p, 1, true);
    graph.node("Div", &[&p, &total], Vec::new())
}
