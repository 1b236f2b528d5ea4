//! `teacher.toml` against what the model file says of itself. Equal names in another order are followed by name; a
//! contradiction is refused with both sides; what the file is silent about is taken from `teacher.toml`.

mod columns;
pub mod levels;
pub mod lists;

use crate::error::{Error, Result};
use crate::features::kind::Kind;
use crate::models::said::Said;
use crate::teacher::agree::columns::Columns;
use crate::teacher::agree::levels::follow_levels;
use crate::teacher::agree::lists::{listed, same_set};
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec, MissingValue};

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

/// XGBoost's file does not say what it took for missing. Where it was trained with missing values of a feature, is
/// a number in the place of nulls that lies beyond all its splits, such as -999, the library's own missing value,
/// or is it a number? Zero is a number, and what lies among the splits is.
fn check_missing(bundle: &Bundle, said: &Said, columns: &Columns, order: &[usize]) -> Result<()> {
    if bundle.model.missing.is_some() {
        return Ok(());
    }
    for (input, place) in order.iter().enumerate() {
        let feature = &bundle.features[columns.of[*place].0];
        let Some(MissingValue::Number(value)) = &feature.missing else { continue };
        let said = &said.inputs[input];
        let is_beyond = said.thresholds.is_some_and(|(low, high)| *value < low || *value > high);
        if feature.kind == Kind::Number && said.knows_missing && is_beyond && *value != 0.0 {
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
