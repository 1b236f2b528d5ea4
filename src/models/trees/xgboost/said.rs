//! What an XGBoost file says of itself.

use crate::error::Result;
use crate::models::said::{Said, level_of_json};
use crate::models::trees::ensemble::{Ensemble, Rule};
use crate::models::trees::xgboost::file::{Categories, Learner, refused};

/// What the file says in words.
pub fn said(learner: &Learner, features: usize) -> Said {
    let mut said = Said::of(features);
    said.name_inputs(learner.feature_names.iter().map(String::as_str));
    if learner.feature_types.len() == said.inputs.len() {
        let types = said.inputs.iter_mut().zip(&learner.feature_types);
        types.for_each(|(input, kind)| input.is_category = Some(kind == "c"));
    }
    // older versions keep all attributes of the Python object: NaN among them, which JSON does not know
    let wrapper = learner.attributes.get("scikit_learn").map(|text| text.replace(": NaN", ": null"));
    let wrapper: Option<serde_json::Value> = wrapper.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(wrapper) = wrapper {
        said.missing = wrapper.get("missing").and_then(serde_json::Value::as_f64);
        let classes = wrapper.get("classes_").or_else(|| wrapper.get("_le")?.get("classes_"));
        let names = classes.and_then(|list| list.as_array()?.iter().map(level_of_json).collect());
        said.classes = names.filter(|names: &Vec<String>| names.len() >= 2);
    }
    said
}

/// What the splits give away of the data that trained them.
pub fn observe(model: &Ensemble, said: &mut Said) {
    let mut sides = vec![[false; 2]; said.inputs.len()];
    for split in model.trees.iter().flat_map(|t| &t.splits) {
        let at = split.feature as usize;
        let Some(input) = said.inputs.get_mut(at) else { continue };
        match &split.rule {
            // without missing values all splits have the same default side
            Rule::Less(threshold) => {
                sides[at][usize::from(split.missing_left)] = true;
                let (low, high) = input.thresholds.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
                let threshold = f64::from(*threshold);
                input.thresholds = Some((low.min(threshold), high.max(threshold)));
            }
            Rule::InSet(set) => {
                let largest = set.categories.last().map(|c| f64::from(*c));
                input.largest = input.largest.into_iter().chain(largest).reduce(f64::max);
            }
            Rule::LessOrEqual(_) => {}
        }
    }
    said.inputs.iter_mut().zip(sides).for_each(|(input, [right, left])| input.knows_missing = right && left);
}

/// A byte, written with or without a sign.
fn byte(number: &serde_json::Number) -> Option<u8> {
    number.as_i64().filter(|b| (-128..=255).contains(b)).map(|b| b as u8)
}

impl Categories {
    /// Names the inputs' codes.
    pub fn name(&self, said: &mut Said) -> Result<()> {
        let damaged = || refused("the names of categories (`cats`) are damaged");
        if self.enc.len() != said.inputs.len() {
            return if self.enc.is_empty() { Ok(()) } else { Err(damaged()) };
        }
        for (input, names) in said.inputs.iter_mut().zip(&self.enc).filter(|(_, n)| !n.values.is_empty()) {
            input.is_category = Some(true);
            let Some(offsets) = &names.offsets else {
                let levels =
                    names.values.iter().map(|n| level_of_json(&n.clone().into())).collect::<Option<_>>();
                input.levels = Some(levels.ok_or_else(damaged)?);
                continue;
            };
            let bytes = names.values.iter().map(byte).collect::<Option<Vec<u8>>>().ok_or_else(damaged)?;
            if !offsets.is_sorted() || offsets.last().is_none_or(|end| *end > bytes.len()) {
                return Err(damaged());
            }
            let by_byte = offsets.windows(2).map(|pair| String::from_utf8(bytes[pair[0]..pair[1]].to_vec()));
            input.levels = by_byte.collect::<std::result::Result<_, _>>().ok();
            // pandas' own strings come with offsets that count letters, and lose as many bytes at the end
            if !bytes.is_ascii() {
                let letters: Vec<char> = String::from_utf8_lossy(&bytes).chars().collect();
                let part = |pair: &[usize]| letters.iter().take(pair[1]).skip(pair[0]).collect::<String>();
                input.levels_by_letter = Some(offsets.windows(2).map(part).collect());
            }
        }
        Ok(())
    }
}
