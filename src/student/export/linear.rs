//! Linear functions of columns as ONNX nodes.

use crate::models::onnx_proto::element;
use crate::student::export::graph::Graph;
use crate::student::sample::Kind;
use crate::student::saved::{Linear, Term};

/// The logits [rows, classes] of the columns [rows, columns].
pub fn logits(graph: &mut Graph, columns: &str, kinds: &[Kind], linear: &Linear) -> String {
    let classes = linear.bias.len();
    let mut z = graph.doubles(&[1, classes], &linear.bias);
    for part in [numbers(graph, columns, linear, classes), categories(graph, columns, kinds, linear, classes)]
        .into_iter()
        .flatten()
    {
        z = graph.node("Add", &[&z, &part], Vec::new());
    }
    if graph.is_constant(&z) {
        // the shape of the rows comes from the columns
        let nothing = graph.doubles(&[kinds.len(), classes], &vec![0.0; kinds.len() * classes]);
        let zero = graph.doubles(&[1, 1], &[0.0]);
        let missing = graph.node("IsNaN", &[columns], Vec::new());
        let clean = graph.node("Where", &[&missing, &zero, columns], Vec::new());
        let rows = graph.node("MatMul", &[&clean, &nothing], Vec::new());
        z = graph.node("Add", &[&z, &rows], Vec::new());
    }
    z
}

/// weight * (x - mean) / deviation, and the weights of null.
fn numbers(graph: &mut Graph, columns: &str, linear: &Linear, classes: usize) -> Option<String> {
    let (mut of, mut means, mut deviations, mut weights, mut nulls) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (j, term) in linear.terms.iter().enumerate() {
        if let Term::Number { mean, deviation, weight, null } = term {
            of.push(j);
            means.push(*mean);
            deviations.push(*deviation);
            weights.extend_from_slice(weight);
            nulls.extend(null.clone().unwrap_or_else(|| vec![0.0; classes]));
        }
    }
    let n = of.len();
    if n == 0 {
        return None;
    }
    let x = graph.columns(columns, &of);
    let (means, deviations) = (graph.doubles(&[1, n], &means), graph.doubles(&[1, n], &deviations));
    let (weights, null_weights) =
        (graph.doubles(&[n, classes], &weights), graph.doubles(&[n, classes], &nulls));
    let missing = graph.node("IsNaN", &[&x], Vec::new());
    let x = graph.node("Where", &[&missing, &means, &x], Vec::new());
    let x = graph.node("Sub", &[&x, &means], Vec::new());
    let x = graph.node("Div", &[&x, &deviations], Vec::new());
    let z = graph.node("MatMul", &[&x, &weights], Vec::new());
    let missing = graph.cast(&missing, element::DOUBLE, None);
    let of_nulls = graph.node("MatMul", &[&missing, &null_weights], Vec::new());
    Some(graph.node("Add", &[&z, &of_nulls], Vec::new()))
}

/// A row of one table for each level of each category, the last for null; their sum.
fn categories(
    graph: &mut Graph,
    columns: &str,
    kinds: &[Kind],
    linear: &Linear,
    classes: usize,
) -> Option<String> {
    let (mut of, mut firsts, mut table) = (Vec::new(), Vec::new(), Vec::new());
    for (j, term) in linear.terms.iter().enumerate() {
        if let (Term::Category { levels, weights }, Kind::Category { levels: count }) = (term, kinds[j]) {
            of.push(j);
            firsts.push((table.len() / classes) as f64);
            let start = table.len();
            table.resize(start + count * classes, 0.0);
            for (level, weights) in levels.iter().zip(weights) {
                table[start + *level as usize * classes..][..classes].copy_from_slice(weights);
            }
        }
    }
    if of.is_empty() {
        return None;
    }
    let null = (table.len() / classes) as f64;
    table.resize(table.len() + classes, 0.0);
    let codes = graph.columns(columns, &of);
    let (firsts, null) = (graph.doubles(&[1, of.len()], &firsts), graph.doubles(&[1, 1], &[null]));
    let table = graph.doubles(&[table.len() / classes, classes], &table);
    let missing = graph.node("IsNaN", &[&codes], Vec::new());
    let rows = graph.node("Add", &[&codes, &firsts], Vec::new());
    let rows = graph.node("Where", &[&missing, &null, &rows], Vec::new());
    let rows = graph.cast(&rows, element::INT64, None);
    let weights = graph.node("Gather", &[&table, &rows], Vec::new());
    Some(graph.sum_over(&weights, 1, false))
}
