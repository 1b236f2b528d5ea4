//! `teacher.toml` against what the model file says of itself. Equal names in another order are followed by name; a
//! contradiction is refused with both sides; what the file is silent about is taken from `teacher.toml`.

use hashbrown::HashMap;

use super::bundle::{Bundle, Encode, FeatureSpec, MissingValue};
use crate::error::{Error, Result};
use crate::features::kind::Kind;
use crate::models::said::{Said, are_places};

/// What stands between a feature's name and a value in the names that one-hot encoders give their columns.
const SEPARATORS: [&str; 7] = ["_", "=", "-", ".", "__", " ", ":"];
/// Names and values that a message lists.
const LISTED: usize = 12;

/// Makes the bundle say what its model file says, where the two can mean the same; what was followed, and what the
/// file does not say, in sentences.
pub fn agree(bundle: &mut Bundle, said: &Said) -> Result<Vec<String>> {
    let mut notes = said.notes.clone();
    let mut silent = Vec::new();
    match &said.classes {
        Some(classes) => follow_classes(bundle, classes, &mut notes)?,
        None => silent.push("the names of classes".to_string()),
    }
    follow_missing(bundle, said)?;
    if !said.inputs.is_empty() {
        let columns = Columns::of(bundle);
        columns.check_count(bundle, said)?;
        let order = columns.order(bundle, said, &mut notes, &mut silent)?;
        follow_levels(bundle, said, &columns, &order, &mut notes, &mut silent)?;
        check_missing(bundle, said, &columns, &order)?;
        bundle.order = (!order.iter().enumerate().all(|(at, place)| at == *place)).then_some(order);
    }
    if let Some(feature) = bundle.features.iter().find(|f| lacks_values(f)) {
        return Err(Error::data("`values` is missing, and the model file does not say them")
            .with("key", "features.values")
            .column(&feature.name));
    }
    if !silent.is_empty() {
        notes.push(format!("the model file does not say {}: as in teacher.toml", silent.join(", ")));
    }
    Ok(notes)
}

fn lacks_values(feature: &FeatureSpec) -> bool {
    matches!(feature.encode, Some(Encode::Code | Encode::OneHot)) && feature.values.is_empty()
}

/// A list for a message.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(", ... ({} in all)", names.len()));
    }
    text
}

/// A list as TOML: whole numbers and truth values as such, where all are.
pub fn toml_values(values: &[String]) -> String {
    let plain = |v: &String| v.parse::<i64>().is_ok_and(|n| n.to_string() == *v);
    let truth = |v: &String| v == "true" || v == "false";
    let bare = values.iter().all(plain) || values.iter().all(truth);
    let quoted = |v: &String| toml::Value::String(v.clone()).to_string();
    let all: Vec<String> = values.iter().map(|v| if bare { v.clone() } else { quoted(v) }).collect();
    format!("[{}]", all.join(", "))
}

fn same_set<S: AsRef<str> + Ord>(a: &[S], b: &[S]) -> bool {
    let sorted = |names: &[S]| {
        let mut names: Vec<String> = names.iter().map(|n| n.as_ref().to_string()).collect();
        names.sort();
        names
    };
    sorted(a) == sorted(b)
}

/// The outputs are in the order of the file's own names; numbers are names only where teacher.toml has numbers too.
fn follow_classes(bundle: &mut Bundle, file: &[String], notes: &mut Vec<String>) -> Result<()> {
    let own = &bundle.model.classes;
    if file == own {
        return Ok(());
    }
    let refuse = |why: &str| {
        Err(Error::data(why)
            .with("key", "model.classes")
            .with("the file says", listed(file))
            .with("teacher.toml says", listed(own)))
    };
    if file.len() != own.len() {
        return refuse("the model file and teacher.toml name different numbers of classes");
    }
    if same_set(file, own) {
        notes.push(format!("the classes are in the order of the model file: {}", listed(file)));
        bundle.model.classes = file.to_vec();
        return Ok(());
    }
    let is_number = |name: &String| name.parse::<f64>().is_ok();
    if file.iter().all(is_number) && !own.iter().any(is_number) {
        let pairs: Vec<String> = file.iter().zip(own).map(|(f, o)| format!("{f} is {o}")).collect();
        notes.push(format!("the model file numbers its classes: {}", listed(&pairs)));
        return Ok(());
    }
    let hint = format!(
        "classes = {} in teacher.toml; a pipeline maps them: [[teachers]] classes = {{ {:?} = ... }}",
        toml::Value::Array(file.iter().cloned().map(toml::Value::String).collect()),
        file[0]
    );
    refuse("the model file and teacher.toml name different classes").map_err(|e: Error| e.hint(hint))
}

/// The value that the library takes for missing is said by the file (older XGBoost), or by `model.missing`.
fn follow_missing(bundle: &mut Bundle, said: &Said) -> Result<()> {
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    match (said.missing, bundle.model.missing) {
        (Some(file), Some(own)) if !same(file, own) => {
            Err(Error::data("the model file and teacher.toml say that different values are missing")
                .with("key", "model.missing")
                .with("the file says", file.to_string())
                .with("teacher.toml says", own.to_string()))
        }
        (Some(file), None) => {
            bundle.model.missing = Some(file);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The columns that the features make, in their order.
struct Columns {
    /// Feature of each, and which of its values for `one_hot`.
    of: Vec<(usize, Option<usize>)>,
}

impl Columns {
    fn of(bundle: &Bundle) -> Columns {
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

    fn check_count(&self, bundle: &Bundle, said: &Said) -> Result<()> {
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
    fn order(
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

/// Categories: the file's own lists decide the codes.
fn follow_levels(
    bundle: &mut Bundle,
    said: &Said,
    columns: &Columns,
    order: &[usize],
    notes: &mut Vec<String>,
    silent: &mut Vec<String>,
) -> Result<()> {
    let placed = place_lists(bundle, said, columns, order)?;
    for (input, place) in order.iter().enumerate() {
        let (at, value) = columns.of[*place];
        let feature = &mut bundle.features[at];
        let levels = said.inputs[input].levels.as_ref().or(placed[input]);
        let by_letter = said.inputs[input].levels_by_letter.as_deref();
        match (levels, feature.encode) {
            (_, Some(Encode::Code)) if by_letter.is_some() => {
                follow_letters(feature, levels, by_letter.unwrap_or_default(), notes)?
            }
            (Some(levels), Some(Encode::Code)) => follow_list(feature, levels, notes)?,
            (Some(levels), _) if value.is_none() => {
                let values = toml_values(levels);
                return Err(Error::data(
                    "the model was trained on this input as a category, teacher.toml says number",
                )
                .with("key", "features.kind")
                .column(&feature.name)
                .with("the file says", format!("codes of {}", listed(levels)))
                .hint(format!("kind = \"category\", encode = \"code\", values = {values}")));
            }
            (None, Some(Encode::Code)) => {
                check_codes(feature, said.inputs[input].largest)?;
                silent.push(format!("the categories of {}", feature.name));
            }
            (None, None) if said.inputs[input].is_category == Some(true) => {
                silent.push(format!(
                    "the categories of {} (a number: its column holds their codes)",
                    feature.name
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// For each input the list of the file that is its own: of lists without a place those inputs that the file knows
/// as categories take one each, or else those that teacher.toml does.
fn place_lists<'a>(
    bundle: &Bundle,
    said: &'a Said,
    columns: &Columns,
    order: &[usize],
) -> Result<Vec<Option<&'a Vec<String>>>> {
    let mut placed = vec![None; order.len()];
    if said.unplaced.is_empty() {
        return Ok(placed);
    }
    let told: Vec<usize> = (0..order.len()).filter(|i| said.inputs[*i].is_category == Some(true)).collect();
    let is_code = |i: &usize| bundle.features[columns.of[order[*i]].0].encode == Some(Encode::Code);
    let declared: Vec<usize> = (0..order.len()).filter(is_code).collect();
    let lists = said.unplaced.len();
    let takers = [&told, &declared].into_iter().find(|takers| takers.len() == lists).ok_or_else(|| {
        let first: Vec<String> = said.unplaced.iter().map(|l| format!("[{}]", listed(l))).collect();
        Error::data("the model file has another number of category columns than teacher.toml has features of `encode = \"code\"`")
            .with("key", "features.encode")
            .with("the file says", listed(&first))
            .with("teacher.toml says", format!("{} features", declared.len()))
            .hint("declare each column that was a pandas category as kind = \"category\", encode = \"code\"")
    })?;
    takers.iter().zip(&said.unplaced).for_each(|(input, list)| placed[*input] = Some(list));
    Ok(placed)
}

fn follow_list(feature: &mut FeatureSpec, levels: &[String], notes: &mut Vec<String>) -> Result<()> {
    if feature.values == levels {
        return Ok(());
    }
    if feature.values.is_empty() || same_set(&feature.values, levels) {
        notes.push(format!(
            "the categories of {} are in the order of the model file: {}",
            feature.name,
            listed(levels)
        ));
        feature.values = levels.to_vec();
        return Ok(());
    }
    Err(Error::data("the model file and teacher.toml name different categories")
        .with("key", "features.values")
        .column(&feature.name)
        .with("the file says", listed(levels))
        .with("teacher.toml says", listed(&feature.values))
        .hint(format!("values = {}, or leave `values` out: the file's are taken", toml_values(levels))))
}

/// Names with letters beyond ASCII, which XGBoost may have counted by letters and not by bytes, so that the end of
/// the last is lost: of both readings the one that has these values is whole.
pub fn whole_names(
    by_byte: Option<&[String]>,
    by_letter: &[String],
    values: &[String],
) -> Option<Vec<String>> {
    if let Some(levels) = by_byte.filter(|levels| same_set(levels, values)) {
        return Some(levels.to_vec());
    }
    let (last, rest) = by_letter.split_last()?;
    let mut left = values.iter().filter(|v| !rest.contains(v));
    match (left.next(), left.next()) {
        (Some(ending), None) if ending.starts_with(last.as_str()) && values.len() == by_letter.len() => {
            Some(rest.iter().chain([ending]).cloned().collect())
        }
        _ => None,
    }
}

/// The names are only followed where teacher.toml has them whole.
fn follow_letters(
    feature: &mut FeatureSpec,
    by_byte: Option<&Vec<String>>,
    by_letter: &[String],
    notes: &mut Vec<String>,
) -> Result<()> {
    match whole_names(by_byte.map(Vec::as_slice), by_letter, &feature.values) {
        Some(levels) => follow_list(feature, &levels, notes),
        None => Err(Error::data(
            "XGBoost has not written the names of this feature's categories whole (letters beyond ASCII), and \
             what there is does not fit teacher.toml",
        )
        .with("key", "features.values")
        .column(&feature.name)
        .with("the file says", listed(by_letter))
        .with("teacher.toml says", listed(&feature.values))
        .hint("values = [...]: the whole names of all categories, in any order: the file's is followed")),
    }
}

/// A model that knows more codes than there are values was trained on other ones.
fn check_codes(feature: &FeatureSpec, largest: Option<f64>) -> Result<()> {
    match largest {
        Some(code) if code >= feature.values.len() as f64 && !feature.values.is_empty() => {
            Err(Error::data("the model knows more codes of this category than teacher.toml has values")
                .with("key", "features.values")
                .column(&feature.name)
                .with("the file says", format!("codes up to {code}"))
                .with("teacher.toml says", listed(&feature.values)))
        }
        _ => Ok(()),
    }
}

/// XGBoost's file does not say what it took for missing. Where it was trained with missing values of a feature, a
/// number in the place of nulls is the library's own missing value, or is it a number?
fn check_missing(bundle: &Bundle, said: &Said, columns: &Columns, order: &[usize]) -> Result<()> {
    if bundle.model.missing.is_some() {
        return Ok(());
    }
    for (input, place) in order.iter().enumerate() {
        let feature = &bundle.features[columns.of[*place].0];
        let Some(MissingValue::Number(value)) = &feature.missing else { continue };
        if feature.kind == Kind::Number && said.inputs[input].knows_missing {
            return Err(Error::data(format!(
                "the model was trained with missing values of this feature, and teacher.toml puts {value} in the place of nulls: \
                 the model file does not say whether it takes {value} for missing"
            ))
            .with("key", "model.missing")
            .column(&feature.name)
            .value(value)
            .hint(format!(
                "missing = {value:?} under [model] if it was trained with missing={value}, missing = nan if {value} is a number to it; \
                 or leave the feature's `missing` out: nulls are missing values"
            )));
        }
    }
    Ok(())
}
