//! What a model file says of itself, beside what it computes: the names of its inputs, their categories, its
//! classes. `teacher.toml` is held against it (see `teacher/agree.rs`).

use crate::features::column::level_of_number;

/// Inputs that a bundle may have.
pub const MOST_INPUTS: usize = 100_000;

/// All that a file says; what it is silent about is None or empty.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// One for each input, in their order; empty for formats that say nothing of inputs.
    pub inputs: Vec<Input>,
    /// Lists of categories, in the order of the inputs that they belong to; the file does not say which those are.
    pub unplaced: Vec<Vec<String>>,
    /// Names of the outputs.
    pub classes: Option<Vec<String>>,
    /// The value that the library takes for missing.
    pub missing: Option<f64>,
    /// Labelled rows that trained the model.
    pub rows: Option<u64>,
    /// What was decided by the file, in sentences.
    pub notes: Vec<String>,
}

/// One input of a model.
#[derive(Debug, Clone, Default)]
pub struct Input {
    pub name: Option<String>,
    /// Whether the library was told that it is a category.
    pub is_category: Option<bool>,
    /// Names of its codes 0, 1, ...
    pub levels: Option<Vec<String>>,
    /// Another reading of those names, of which the last may be cut off: see `xgboost.rs`.
    pub levels_by_letter: Option<Vec<String>>,
    /// The largest code or value that it was trained with, so far as it is known.
    pub largest: Option<f64>,
    /// Whether its splits send missing values to the left here and to the right there: it was trained with some.
    pub knows_missing: bool,
    /// The least and the greatest value that its splits compare with.
    pub thresholds: Option<(f64, f64)>,
}

impl Said {
    /// `count` inputs of which nothing is known yet; of more than a bundle may have nothing is kept.
    pub fn of(count: usize) -> Said {
        let count = if count <= MOST_INPUTS { count } else { 0 };
        Said { inputs: vec![Input::default(); count], ..Said::default() }
    }

    /// Names the inputs, unless the names say no more than their places (`Column_3`, `f3`, `3`).
    pub fn name_inputs<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a str>) {
        if names.len() == self.inputs.len() {
            self.inputs.iter_mut().zip(names).for_each(|(input, name)| input.name = Some(name.to_string()));
        }
    }

    /// The names of all inputs, where the file has them.
    pub fn names(&self) -> Option<Vec<&str>> {
        let names: Option<Vec<&str>> = self.inputs.iter().map(|i| i.name.as_deref()).collect();
        names.filter(|names| !names.is_empty())
    }
}

/// Whether names are a common beginning and their places, counted from 0 or 1: what libraries make up themselves.
pub fn are_places(names: &[&str]) -> bool {
    let Some(first) = names.first() else { return true };
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let Ok(start) = first[stem.len()..].parse::<usize>() else { return false };
    let digits = first.len() - stem.len();
    let place = |name: &str, at: usize| {
        let rest = name.strip_prefix(stem).unwrap_or_default();
        rest.parse() == Ok(start + at)
            && (rest.len() == (start + at).to_string().len() || rest.len() == digits)
    };
    start <= 1 && names.iter().enumerate().all(|(at, name)| place(name, at))
}

/// A JSON value as a category.
pub fn level_of_json(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(n) => n.as_i64().map(|n| n.to_string()).or_else(|| n.as_f64().map(level_of_number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_places_are_known() {
        assert!(are_places(&["Column_0", "Column_1"]));
        assert!(are_places(&["f0", "f1", "f2"]));
        assert!(are_places(&["1", "2"]));
        assert!(are_places(&["V01", "V02"]));
        assert!(!are_places(&["age", "income"]));
        assert!(!are_places(&["f1", "f0"]));
        assert!(!are_places(&["q3", "q4"]));
        assert!(!are_places(&["f0", "g1"]));
    }

    #[test]
    fn categories_are_text_whatever_type_they_had() {
        let of = |text: &str| level_of_json(&serde_json::from_str(text).unwrap());
        assert_eq!(of("10").as_deref(), Some("10"));
        assert_eq!(of("10.0").as_deref(), Some("10"));
        assert_eq!(of("1.5").as_deref(), Some("1.5"));
        assert_eq!(of("true").as_deref(), Some("true"));
        assert_eq!(of("\"a b\"").as_deref(), Some("a b"));
        assert_eq!(of("null"), None);
    }
}
