//! What a LightGBM file says of itself, in its header and behind its trees.

use std::collections::HashMap;

use crate::error::Result;
use crate::models::said::{Said, level_of_json};
use crate::models::trees::lightgbm::fields::{Fields, refused};

/// What stands behind the trees.
#[derive(Default)]
pub struct Tail<'a> {
    pub parameters: HashMap<&'a str, &'a str>,
    /// Lists of categories in the order of the columns that were pandas categories.
    pub categories: Vec<Vec<String>>,
}

impl<'a> Tail<'a> {
    pub fn read(mut lines: impl Iterator<Item = &'a str>) -> Result<Tail<'a>> {
        let mut tail = Tail::default();
        while let Some(line) = lines.next() {
            if line == "parameters:" {
                let mut is_ended = false;
                for line in lines.by_ref() {
                    if line == "end of parameters" {
                        is_ended = true;
                        break;
                    }
                    let pair = line.trim_start_matches('[').trim_end_matches(']').split_once(':');
                    tail.parameters.extend(pair.map(|(key, value)| (key, value.trim())));
                }
                if !is_ended {
                    return Err(refused("the file is cut off: `end of parameters` is missing"));
                }
            }
            if let Some(list) = line.strip_prefix("pandas_categorical:") {
                tail.categories = categories(list)?;
            }
        }
        Ok(tail)
    }

    pub fn said(&self, header: &Fields, features: usize) -> Said {
        let mut said = Said::of(features);
        if let Ok(names) = header.text("feature_names") {
            let names: Vec<&str> = names.split(' ').collect();
            said.name_inputs(names.into_iter());
        }
        let infos: Vec<&str> =
            header.text("feature_infos").map(|t| t.split(' ').collect()).unwrap_or_default();
        for (input, info) in said.inputs.iter_mut().zip(infos) {
            // [least:most] of a number, codes of a category, `none` of a column that was not used
            if let Some(range) = info.strip_prefix('[') {
                input.is_category = Some(false);
                input.largest =
                    range.trim_end_matches(']').split_once(':').and_then(|(_, most)| most.parse().ok());
            } else if info != "none" {
                input.is_category = Some(true);
                input.largest = info.split(':').filter_map(|code| code.parse().ok()).reduce(f64::max);
            }
        }
        said.unplaced = self.categories.clone();
        said
    }

    /// Whether every tree was grown on all rows.
    pub fn is_whole_sample(&self) -> bool {
        let is = |key: &str, value: &str| self.parameters.get(key).is_none_or(|v| *v == value);
        is("bagging_freq", "0") && is("data_sample_strategy", "bagging") && is("boosting", "gbdt")
    }
}

/// The lists of `pandas_categorical:`, JSON that Python writes.
pub fn categories(list: &str) -> Result<Vec<Vec<String>>> {
    let lists: Option<Vec<Vec<serde_json::Value>>> = serde_json::from_str(list)
        .map_err(|e| refused(format!("`pandas_categorical` is no list of lists: {e}")))?;
    let level = |value: &serde_json::Value| {
        level_of_json(value)
            .ok_or_else(|| refused("a category of `pandas_categorical` is no name").value(value))
    };
    lists.unwrap_or_default().iter().map(|list| list.iter().map(level).collect()).collect()
}
