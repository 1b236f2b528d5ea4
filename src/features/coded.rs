//! Features as a fitted model takes them: float32 columns, a category as the position of its level.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature, places};
use crate::features::column::{Column, Kind, NULL};

/// A feature as a fitted model takes it; `levels` are a category's, most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodedFeature {
    pub name: String,
    pub kind: Kind,
    pub levels: Vec<String>,
}

/// The float32 columns of a block, one for each of `coded`: numbers, and levels as their position; null and
/// unknown are NaN. `features` names the columns of the block.
pub fn coded_columns(coded: &[CodedFeature], features: &[Feature], block: &Block) -> Result<Vec<Vec<f32>>> {
    let places = places(features.iter().map(|f| f.name.as_str()));
    let mut out = Vec::with_capacity(coded.len());
    for feature in coded {
        let place = places.get(feature.name.as_str());
        let place =
            *place.ok_or_else(|| Error::bug("a feature of the model is unknown").column(&feature.name))?;
        out.push(match (&block.columns[place], feature.kind) {
            (Column::Number(values), Kind::Number) => values.iter().map(|v| *v as f32).collect(),
            (Column::Category { codes, levels }, Kind::Category) => {
                let code =
                    |l: &String| feature.levels.iter().position(|v| v == l).map_or(f32::NAN, |i| i as f32);
                let table: Vec<f32> = levels.iter().map(code).collect();
                codes.iter().map(|c| if *c == NULL { f32::NAN } else { table[*c as usize] }).collect()
            }
            _ => return Err(Error::bug("a feature of the model changed its kind").column(&feature.name)),
        });
    }
    Ok(out)
}
