//! The features that teachers take, as a scenario has them.

use arrow::datatypes::DataType;

use crate::error::{Error, Result, which_column};
use crate::features::block::Feature;
use crate::features::column::{self, Kind, level_of_number};
use crate::lake::scan::Accounts;
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
/// A column that they lack is allowed where every teacher that names it says what stands for it.
pub fn features(teachers: &[Teacher], accounts: &Accounts) -> Result<Vec<Feature>> {
    let place = accounts.place();
    for teacher in teachers {
        for feature in &teacher.bundle.features {
            fits(feature, accounts)
                .map_err(|e| e.file(place).column(&feature.name).with("teacher", teacher.name()))?;
        }
    }
    let mut found = named_features(teachers).map_err(|e| e.file(place))?;
    found.iter_mut().for_each(|f| f.present = accounts.find(&f.name).is_some());
    Ok(found)
}

/// The accounts must have the column, of a type that can be what the teacher takes, or the teacher must say what
/// stands for it.
pub fn fits(feature: &FeatureSpec, accounts: &Accounts) -> Result<()> {
    match accounts.find(&feature.name) {
        Some(field) => check_type(feature, field.data_type()),
        None if feature.missing.is_some() => Ok(()),
        None => {
            let near =
                which_column(accounts.schema().fields().iter().map(|f| f.name().as_str()), &feature.name);
            let refused = Error::data("a teacher's feature is missing among the accounts' columns");
            Err(refused.hint(format!(
                "{near}; rename the column of the accounts, or give the feature `missing` in teacher.toml"
            )))
        }
    }
}

/// A column of this type must hold what the teacher takes, and categories what could be its values.
fn check_type(feature: &FeatureSpec, data_type: &DataType) -> Result<()> {
    if !column::readable(feature.kind, data_type) {
        let wanted = format!("{:?}", feature.kind).to_lowercase();
        let found = match column::name_of(data_type).as_str() {
            "text" => format!("text ({data_type})"),
            _ => data_type.to_string(),
        };
        let refused = Error::data(format!("the teacher takes a {wanted} here, the column is {found}"));
        return Err(refused.hint("write the column of the accounts in the type of the teacher's history"));
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
