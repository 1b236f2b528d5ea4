//! The inputs of a model by name.

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::models::said::{Said, are_places};
use crate::teacher::agree::lists::listed;
use crate::teacher::bundle::{Bundle, Encode};

/// What stands between a feature's name and a value in the names that one-hot encoders give their columns.
const SEPARATORS: [&str; 7] = ["_", "=", "-", ".", "__", " ", ":"];

/// The columns that the features make, in their order.
pub struct Columns {
    /// Feature of each, and which of its values for `one_hot`.
    pub of: Vec<(usize, Option<usize>)>,
}

impl Columns {
    pub fn of(bundle: &Bundle) -> Columns {
        let columns = bundle.features.iter().enumerate().flat_map(|(at, feature)| {
            let count = if feature.encode == Some(Encode::OneHot) { feature.values.len() } else { 1 };
            (0..count).map(move |value| (at, (feature.encode == Some(Encode::OneHot)).then_some(value)))
        });
        Columns { of: columns.collect() }
    }

    /// A column as a message names it.
    fn name(&self, bundle: &Bundle, place: usize) -> String {
        let (feature, value) = self.of[place];
        let feature = &bundle.features[feature];
        match value {
            Some(value) => format!("{}={}", feature.input(), feature.values[value]),
            None => feature.input().to_string(),
        }
    }

    /// The file and the features must make as many inputs.
    pub fn check_count(&self, bundle: &Bundle, said: &Said) -> Result<()> {
        let (file, own) = (said.inputs.len(), self.of.len());
        if file == own {
            return Ok(());
        }
        let refused =
            Error::data(format!("the model has {file} inputs, the features of teacher.toml make {own}"))
                .with("key", "features");
        let Some(names) = said.names().filter(|names| !are_places(names)) else { return Err(refused) };
        let table = self.table(bundle);
        let stray: Vec<&str> = names.iter().copied().filter(|n| place_of(&table, n).is_none()).collect();
        let found: Vec<usize> = names.iter().filter_map(|n| place_of(&table, n)).collect();
        let left: Vec<String> =
            (0..own).filter(|place| !found.contains(place)).map(|place| self.name(bundle, place)).collect();
        Err(refused.with("only in the file", listed(&stray)).with("only in teacher.toml", listed(&left)))
    }

    /// Every name that a column may have in a model file, and its place; None where two columns share it.
    fn table(&self, bundle: &Bundle) -> HashMap<String, Option<usize>> {
        let mut table: HashMap<String, Option<usize>> = HashMap::new();
        let mut add = |name: String, place: usize| {
            table.entry(name).and_modify(|p| *p = p.filter(|p| *p == place)).or_insert(Some(place));
        };
        for (place, (feature, value)) in self.of.iter().enumerate() {
            let feature = &bundle.features[*feature];
            match value {
                None => add(plain(feature.input()), place),
                Some(value) => {
                    let value = &feature.values[*value];
                    SEPARATORS
                        .iter()
                        .for_each(|s| add(plain(&format!("{}{s}{value}", feature.input())), place));
                }
            }
        }
        table
    }

    /// For each input of the model the place of its column.
    pub fn order(
        &self,
        bundle: &Bundle,
        said: &Said,
        notes: &mut Vec<String>,
        silent: &mut Vec<String>,
    ) -> Result<Vec<usize>> {
        let as_listed: Vec<usize> = (0..self.of.len()).collect();
        let Some(names) = said.names() else {
            silent.push("the names of inputs".to_string());
            return Ok(as_listed);
        };
        let table = self.table(bundle);
        let places: Vec<Option<usize>> = names.iter().map(|name| place_of(&table, name)).collect();
        let mut seen = vec![false; self.of.len()];
        let distinct = places.iter().flatten().all(|place| !std::mem::replace(&mut seen[*place], true));
        if let Some(places) = places.iter().copied().collect::<Option<Vec<usize>>>().filter(|_| distinct) {
            if places != as_listed {
                notes.push(format!("the inputs are in the order of the model file: {}", listed(&names)));
            }
            return Ok(places);
        }
        if are_places(&names) && places.iter().all(Option::is_none) {
            silent.push("the names of inputs".to_string());
            return Ok(as_listed);
        }
        // one-hot columns may have names of any making, where they stand between inputs that are in their places
        let in_place =
            |at: usize| places[at] == Some(at) || (places[at].is_none() && self.of[at].1.is_some());
        if distinct && (0..places.len()).all(in_place) {
            silent.push("which value each one_hot column is of".to_string());
            return Ok(as_listed);
        }
        let stray: Vec<&str> =
            names.iter().zip(&places).filter(|(_, p)| p.is_none()).map(|(n, _)| *n).collect();
        let left: Vec<String> =
            (0..seen.len()).filter(|at| !seen[*at]).map(|at| self.name(bundle, at)).collect();
        Err(Error::data("the model file and teacher.toml name different inputs")
            .with("key", "features.name")
            .with("only in the file", listed(&stray))
            .with("only in teacher.toml", listed(&left))
            .hint("give a feature the name that the model knows it by, or, where the column has another, `input = \"NAME\"` beside its name"))
    }
}

/// As LightGBM writes names.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect()
}

/// The place of a column by its name in the file, also behind what a ColumnTransformer puts before it.
fn place_of(table: &HashMap<String, Option<usize>>, name: &str) -> Option<usize> {
    let name = plain(name);
    let behind = || name.split_once("__").and_then(|(_, rest)| table.get(rest).copied().flatten());
    table.get(&name).copied().flatten().or_else(behind)
}
