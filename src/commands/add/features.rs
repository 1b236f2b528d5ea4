//! Which column each input of the model is, and what is made of it.

use arrow::datatypes::Schema;

use crate::commands::add::draft::{Draft, Inputs};
use crate::commands::add::history::{History, is_text_type};
use crate::commands::add::request::{Request, ask};
use crate::error::{Error, Result, nearest, which_column};
use crate::features::kind::Kind;
use crate::models::said::Input;
use crate::teacher::agree::levels::whole_names;
use crate::teacher::bundle::{Encode, FeatureSpec};

/// What encoders put between a column's name and a value.
const SEPARATORS: [&str; 4] = ["_", "=", "-", "."];

/// The features, in the order of the model's inputs.
pub fn features(
    draft: &Draft,
    history: Option<&History>,
    request: &Request,
    notes: &mut Vec<String>,
) -> Result<Vec<FeatureSpec>> {
    let schema = history.map(|h| h.accounts.schema());
    let names = names(draft, history, request, notes)?;
    let levels = levels(draft, &names, history, request)?;
    let mut features: Vec<FeatureSpec> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let column =
            request.columns.iter().find(|(input, _)| input == name).map_or(name, |(_, column)| column);
        let said = draft.input(at);
        match find(schema, column) {
            Some(column) => {
                let levels = levels[at].clone();
                features.push(feature(draft, at, name, &column, &said, levels, schema)?);
            }
            None => match schema.and_then(|schema| one_hot(schema, name)) {
                Some((column, value)) => match features.iter_mut().find(|f| f.name == column) {
                    Some(known) => known.values.push(value),
                    None => {
                        features.push(spec(&column, None, Kind::Category, Some(Encode::OneHot), vec![value]))
                    }
                },
                None => return Err(no_column(schema, name)),
            },
        }
    }
    Ok(features)
}

fn spec(
    name: &str,
    input: Option<&str>,
    kind: Kind,
    encode: Option<Encode>,
    values: Vec<String>,
) -> FeatureSpec {
    let input = input.filter(|i| *i != name).map(str::to_string);
    FeatureSpec { name: name.to_string(), input, kind, encode, values, missing: None }
}

fn feature(
    draft: &Draft,
    at: usize,
    name: &str,
    column: &str,
    said: &Input,
    levels: Option<Vec<String>>,
    schema: Option<&Schema>,
) -> Result<FeatureSpec> {
    // names that are no more than places are not kept
    let input = draft.names().map(|_| name);
    let is_text = match &draft.inputs {
        Inputs::Each(inputs) => inputs[at].1,
        Inputs::Texts(_) => true,
        Inputs::Row(_) => false,
    };
    if is_text {
        return Ok(spec(column, input, Kind::Category, Some(Encode::Text), Vec::new()));
    }
    if let Some(levels) = levels {
        return Ok(spec(column, input, Kind::Category, Some(Encode::Code), levels));
    }
    let stored = schema.and_then(|s| s.field_with_name(column).ok()).map(|f| f.data_type());
    match stored {
        Some(t) if is_text_type(t) => {
            let kind = if said.is_category == Some(true) { "as a category" } else { "as a number" };
            let example = format!("--values '{column}=[\"a\", \"b\"]': code 0 is \"a\", code 1 is \"b\"");
            Err(ask(
                format!(
                    "the column is text, the model takes it {kind}, and its file does not name the codes"
                ),
                "--values",
                example,
            )
            .column(column))
        }
        _ => Ok(spec(column, input, Kind::Number, None, Vec::new())),
    }
}

/// The inputs' names: as typed, as the file has them, or the history's columns where there are as many.
fn names(
    draft: &Draft,
    history: Option<&History>,
    request: &Request,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let file = draft.names();
    if !request.features.is_empty() {
        return match draft.width() {
            Some(width) if width != request.features.len() => Err(ask(
                format!("the model has {width} inputs"),
                "--features",
                "one column for each input, in their order",
            )
            .value(request.features.len())),
            _ => Ok(request.features.clone()),
        };
    }
    if let Some(names) = file {
        return Ok(names);
    }
    let Some(history) = history else {
        return Err(ask(
            "the model file does not name its inputs",
            "--features",
            "--features age,income,job, in the order of the inputs",
        ));
    };
    let all = history.candidates(request);
    let numbers: Vec<String> = all.iter().filter(|(_, text)| !text).map(|(name, _)| name.clone()).collect();
    let columns: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
    let takes_text = matches!(draft.inputs, Inputs::Texts(_));
    let found = [&columns, &numbers].into_iter().find(|c| match draft.width() {
        Some(width) => c.len() == width,
        None => takes_text || c.len() == numbers.len(),
    });
    let found = found.ok_or_else(|| {
        let width = draft.width().map_or("some".to_string(), |w| w.to_string());
        ask(
            format!(
                "the model has {width} inputs without names, the history has {} columns beside the label",
                columns.len()
            ),
            "--features",
            format!(
                "--features A,B,... in the order of the inputs, or --leave-out what is no feature, of: {}",
                columns.join(", ")
            ),
        )
    })?;
    notes.push(format!(
        "the model file does not name its inputs: they are the history's columns in their order, {}",
        found.join(", ")
    ));
    Ok(found.clone())
}

/// The column of this name; LightGBM writes spaces as underscores, a ColumnTransformer puts a name before it.
fn find(schema: Option<&Schema>, name: &str) -> Option<String> {
    let Some(schema) = schema else { return Some(name.to_string()) };
    let plain = |n: &str| n.replace(char::is_whitespace, "_");
    let columns = || schema.fields().iter().map(|f| f.name());
    let exact = columns().find(|c| *c == name);
    let spaced = || columns().find(|c| plain(c) == name);
    let behind = || name.split_once("__").and_then(|(_, rest)| columns().find(|c| plain(c) == rest));
    exact.or_else(spaced).or_else(behind).cloned()
}

/// The text column and the value that an input is the 0/1 column of.
fn one_hot(schema: &Schema, name: &str) -> Option<(String, String)> {
    let behind = name.split_once("__").map(|(_, rest)| rest);
    let texts = schema.fields().iter().filter(|f| is_text_type(f.data_type()));
    let mut found: Vec<(String, String)> = Vec::new();
    for field in texts {
        for name in [Some(name), behind].into_iter().flatten() {
            let rest = name.strip_prefix(field.name().as_str());
            let value = rest.and_then(|rest| SEPARATORS.iter().find_map(|s| rest.strip_prefix(s)));
            found.extend(value.map(|v| (field.name().clone(), v.to_string())));
        }
    }
    // of `job` and `job_type` the longer is meant
    found.into_iter().max_by_key(|(column, _)| column.len())
}

fn no_column(schema: Option<&Schema>, name: &str) -> Error {
    let columns = schema.iter().flat_map(|s| s.fields().iter().map(|f| f.name().as_str()));
    let near = nearest(columns.clone(), name).unwrap_or("COLUMN");
    ask(
        "the history has no column of the name of the model's input",
        "--column",
        format!(
            "{}: --column '{name}={near}', if that is the input under another name",
            which_column(columns, name)
        ),
    )
    .value(name)
}

/// Names of categories that the file does not have whole, with the help of the values in the history; None where
/// they have to be typed.
fn whole_levels(
    history: Option<&History>,
    column: Option<String>,
    by_byte: Option<&[String]>,
    by_letter: &[String],
) -> Result<Option<Vec<String>>> {
    let (Some(history), Some(column)) = (history, column) else { return Ok(None) };
    let values = history.values(&column)?;
    Ok(whole_names(by_byte, by_letter, &values))
}

/// The categories of each input: as typed, or as the file names them.
fn levels(
    draft: &Draft,
    names: &[String],
    history: Option<&History>,
    request: &Request,
) -> Result<Vec<Option<Vec<String>>>> {
    let schema = history.map(|h| h.accounts.schema());
    let mut levels: Vec<Option<Vec<String>>> = (0..names.len()).map(|at| draft.input(at).levels).collect();
    for (at, name) in names.iter().enumerate() {
        if let Some(by_letter) = draft.input(at).levels_by_letter {
            levels[at] = whole_levels(history, find(schema, name), levels[at].as_deref(), &by_letter)?;
        }
    }
    let lists = &draft.said.unplaced;
    if !lists.is_empty() {
        let told: Vec<usize> =
            (0..names.len()).filter(|at| draft.input(*at).is_category == Some(true)).collect();
        let is_text = |at: &usize| {
            let field = schema.and_then(|s| s.field_with_name(&find(schema, &names[*at])?).ok());
            field.is_some_and(|f| is_text_type(f.data_type()))
        };
        let texts: Vec<usize> = (0..names.len()).filter(is_text).collect();
        let takers = [told, texts].into_iter().find(|takers| takers.len() == lists.len()).ok_or_else(|| {
            let lists: Vec<String> = lists.iter().map(|l| format!("[{}]", l.join(", "))).collect();
            ask(
                "the model file names categories, and not whose they are",
                "--values",
                "--values 'COLUMN=[...]' for each column that was a category",
            )
            .with("the file says", lists.join(", "))
        });
        match takers {
            Ok(takers) => {
                takers.into_iter().zip(lists).for_each(|(at, list)| levels[at] = Some(list.clone()))
            }
            Err(e) if request.values.is_empty() => return Err(e),
            Err(_) => {}
        }
    }
    for (column, values) in &request.values {
        let at = names.iter().position(|n| n == column || find(schema, n).as_ref() == Some(column));
        let at = at.ok_or_else(|| {
            ask("no input of the model is of this column", "--values", names.join(", ")).value(column)
        })?;
        levels[at] = Some(values.to_vec());
    }
    Ok(levels)
}
