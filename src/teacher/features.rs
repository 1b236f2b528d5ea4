//! The features that teachers take, as a scenario has them.

use std::path::Path;

use arrow::datatypes::{DataType, Schema};

use crate::error::{Error, Result, nearest};
use crate::features::block::Feature;
use crate::features::column::{self, Kind, level_of_number};
use crate::teacher::Teacher;
use crate::teacher::bundle::FeatureSpec;

/// The distinct features of all teachers, in the order of their first mention, before there is a target. What
/// one takes as a number and another as a category is decoded as a category, of which numbers are read again.
pub fn named_features(teachers: &[Teacher]) -> Result<Vec<Feature>> {
    let mut found: Vec<Feature> = Vec::new();
    for feature in teachers.iter().flat_map(|t| &t.bundle.features) {
        match found.iter_mut().find(|f| f.name == feature.name) {
            Some(known) if feature.kind == Kind::Category => known.kind = Kind::Category,
            Some(_) => {}
            None => found.push(Feature { name: feature.name.clone(), kind: feature.kind, present: true }),
        }
    }
    Ok(found)
}

/// [`named_features`] as the target has them.
/// A column that `schema` lacks is allowed where every teacher that names it says what stands for it.
pub fn features(teachers: &[Teacher], schema: &Schema, place: &Path) -> Result<Vec<Feature>> {
    for teacher in teachers {
        for feature in &teacher.bundle.features {
            let from = |e: Error| e.file(place).column(&feature.name).with("teacher", teacher.name());
            match schema.field_with_name(&feature.name).ok() {
                None if feature.missing.is_none() => {
                    let near = nearest(schema.fields().iter().map(|f| f.name().as_str()), &feature.name);
                    let hint = format!(
                        "the nearest column is {:?}; or give the feature `missing` in teacher.toml",
                        near.unwrap_or("")
                    );
                    return Err(from(Error::data(
                        "a teacher's feature is missing among the accounts' columns",
                    ))
                    .hint(hint));
                }
                Some(field) => check_type(feature, field.data_type()).map_err(from)?,
                None => {}
            }
        }
    }
    let mut found = named_features(teachers).map_err(|e| e.file(place))?;
    found.iter_mut().for_each(|f| f.present = schema.field_with_name(&f.name).is_ok());
    Ok(found)
}

/// A column of this type must hold what the teacher takes, and categories what could be its values.
fn check_type(feature: &FeatureSpec, data_type: &DataType) -> Result<()> {
    if !column::readable(feature.kind, data_type) {
        let wanted = format!("{:?}", feature.kind).to_lowercase();
        return Err(Error::data(format!("the teacher takes a {wanted} here, the column is {data_type}")));
    }
    let could_be: fn(&String) -> bool = match data_type {
        _ if feature.kind == Kind::Number => return Ok(()),
        DataType::Boolean => |v| v == "true" || v == "false",
        t if t.is_numeric() => |v| v.parse().is_ok_and(|n: f64| level_of_number(n) == *v),
        _ => return Ok(()),
    };
    match feature.values.iter().find(|v| !could_be(v)) {
        None => Ok(()),
        Some(value) => Err(Error::data(format!(
            "the column is {data_type}, in which the teacher's value of this category cannot stand"
        ))
        .with("key", "features.values")
        .value(value)
        .hint("name the values as the column has them: whole numbers ([1, 2, 3]) or [true, false]")),
    }
}
