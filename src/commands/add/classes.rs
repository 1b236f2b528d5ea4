//! Which class each output of the model is.

use crate::commands::add::draft::Draft;
use crate::commands::add::history::History;
use crate::commands::add::request::{Request, ask};
use crate::error::Result;

/// The classes, and whether their order is known or has to be proved.
pub struct Order {
    pub names: Vec<String>,
    pub is_known: bool,
    /// Whether it was typed, whatever the labels prove.
    pub is_typed: bool,
}

/// The order of the classes: as typed, as the file says, that of whole numbers and truth values; labels that are
/// texts have to be tried.
pub fn order(draft: &Draft, history: Option<&History>, request: &Request) -> Result<Order> {
    let labels: Vec<String> = history.iter().flat_map(|h| h.counts.keys().cloned()).collect();
    let file = draft.said.classes.as_deref();
    let known = |names: Vec<String>| {
        check(Order { names, is_known: true, is_typed: !request.classes.is_empty() }, draft, history, request)
    };
    if !request.classes.is_empty() {
        return known(request.classes.clone());
    }
    let whole = |text: &String| text.parse::<i64>().is_ok();
    match file {
        // numbers are names where labels are numbers too
        Some(file) if labels.iter().all(|l| file.contains(l)) => return known(file.to_vec()),
        Some(file) if !file.iter().all(whole) => return known(file.to_vec()),
        _ => {}
    }
    if labels.is_empty() {
        let count = if draft.classes > 0 { draft.classes.to_string() } else { "its".to_string() };
        return Err(ask(
            format!("the model file does not name {count} classes"),
            "--classes",
            "--classes no,yes in the order of the model's outputs",
        ));
    }
    if labels.iter().all(whole) {
        let mut numbers = labels;
        numbers.sort_by_key(|text| text.parse::<i64>().unwrap_or(0));
        return known(numbers);
    }
    let is_truth = labels == ["false", "true"];
    check(Order { names: labels, is_known: is_truth, is_typed: false }, draft, history, request)
}

fn check(order: Order, draft: &Draft, history: Option<&History>, request: &Request) -> Result<Order> {
    let refuse = |what: String| {
        let found = history.map(|h| h.counts.keys().cloned().collect::<Vec<_>>().join(", "));
        let asked = ask(
            what,
            "--classes",
            "--classes A,B,... in the order of the model's outputs, the labels as they stand in the history",
        );
        let column = history.map_or("", |h| h.label.as_str());
        Err(asked
            .with("label column", column)
            .with("classes", order.names.join(", "))
            .with("labels", found.unwrap_or_default())
            .with("model", request.model.display().to_string()))
    };
    if draft.classes > 0 && order.names.len() != draft.classes {
        return refuse(format!("the model has {} classes, {} are named", draft.classes, order.names.len()));
    }
    match history.and_then(|h| h.counts.keys().find(|label| !order.names.contains(label))) {
        Some(label) => refuse(format!("the label {label:?} is none of the classes")),
        None => Ok(order),
    }
}
