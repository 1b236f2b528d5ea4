//! The categories of a model's inputs.

use crate::error::{Error, Result};
use crate::models::said::Said;
use crate::teacher::agree::columns::Columns;
use crate::teacher::agree::lists::{listed, same_set, toml_values};
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec};

/// Categories: the file's own lists decide the codes.
pub fn follow_levels(
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
