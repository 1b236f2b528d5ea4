//! The keys of `teacher.toml` that describe the model and its features.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::column::level_of_number;
use crate::features::kind::Kind;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The model, inside the folder.
    pub file: String,
    /// `lightgbm` (text), `xgboost` (JSON or UBJSON), `onnx`, `coldstart` (an earlier student).
    pub format: Format,
    /// Names of the outputs, in their order.
    #[schemars(length(min = 2, max = 10000))]
    pub classes: Vec<String>,
    /// XGBoost's own `missing`, such as `-999.0` or `0.0`: such values are fed as missing. `nan`: nothing but NaN is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
    /// The link of a LightGBM model with a custom objective: `"binary"`, `"binary sigmoid:0.7"`, `"multiclass"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// Boosting rounds that count, from the first on (LightGBM, XGBoost).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// The output of an ONNX graph that has the probabilities, where it has several of floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Rows that an ONNX graph is given at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Lightgbm,
    Xgboost,
    Onnx,
    Coldstart,
}

/// One input of the model, or several for `one_hot`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// A column of the target (and of the history).
    pub name: String,
    /// What the model calls it, if not by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// `number` (integers, floats, decimals, booleans as 0 and 1; null is NaN) or `category` (text, dictionaries of
    /// text, integers, floats, booleans).
    pub kind: Kind,
    /// Of a category: `code` (position in `values`; unknown or null is NaN), `one_hot` (a 0/1 column for each of
    /// `values`), `text` (ONNX: the string itself, null is `""`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encode: Option<Encode>,
    /// The categories: texts, whole numbers `[1, 2, 3]` or `[false, true]`. May be left out for `code` where the model
    /// file names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "levels")]
    #[schemars(with = "Vec<Level>")]
    pub values: Vec<String>,
    /// What stands for null, and for the column where the target lacks it. XGBoost's word `missing` means something
    /// else: `model.missing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    Code,
    OneHot,
    Text,
}

/// What stands for null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MissingValue {
    Number(f64),
    Text(String),
}

/// A category as TOML has it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Level {
    Truth(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

fn levels<'de, D: serde::Deserializer<'de>>(values: D) -> std::result::Result<Vec<String>, D::Error> {
    let levels = Vec::<Level>::deserialize(values)?;
    Ok(levels
        .into_iter()
        .map(|level| match level {
            Level::Truth(truth) => truth.to_string(),
            Level::Whole(number) => number.to_string(),
            Level::Number(number) => level_of_number(number),
            Level::Text(text) => text,
        })
        .collect())
}

impl ModelFile {
    /// A model of which its file says the rest.
    pub fn new(file: &str, format: Format, classes: Vec<String>) -> ModelFile {
        let (missing, objective, rounds, output, batch) = (None, None, None, None, None);
        ModelFile { file: file.to_string(), format, classes, missing, objective, rounds, output, batch }
    }

    /// Each key is of the formats that can do what it says.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &'static str, why: &str| Err(Error::data(why).with("key", key));
        let trees = matches!(self.format, Format::Lightgbm | Format::Xgboost);
        match self {
            ModelFile { missing: Some(m), .. } if m.is_infinite() => {
                refuse("model.missing", "a number, or nan, is missing")
            }
            ModelFile { missing: Some(_), format: Format::Coldstart, .. } => {
                refuse("model.missing", "a student takes nulls alone for missing")
            }
            ModelFile { objective: Some(_), format, .. } if *format != Format::Lightgbm => {
                refuse("model.objective", "the objective is for LightGBM models with a custom one")
            }
            ModelFile { rounds: Some(_), .. } if !trees => {
                refuse("model.rounds", "rounds are for LightGBM and XGBoost models")
            }
            ModelFile { output: Some(_), format, .. } if *format != Format::Onnx => {
                refuse("model.output", "an output is named for ONNX models only")
            }
            ModelFile { batch: Some(_), format, .. } if *format != Format::Onnx => {
                refuse("model.batch", "rows of a run are for ONNX models only")
            }
            ModelFile { batch: Some(0), .. } => refuse("model.batch", "a run takes one row or more"),
            _ => Ok(()),
        }
    }
}

impl FeatureSpec {
    /// What the model calls it.
    pub fn input(&self) -> &str {
        self.input.as_deref().unwrap_or(&self.name)
    }

    /// A kind, its encoding, values and missing value must go together.
    pub fn check(&self, format: Format) -> Result<()> {
        let refuse = |why: &str| Err(Error::data(why).with("key", "features").column(&self.name));
        match (self.kind, self.encode) {
            (Kind::Number, Some(_)) => return refuse("a number takes no `encode`"),
            (Kind::Category, None) => return refuse("a category needs `encode`: code, one_hot or text"),
            (Kind::Category, Some(Encode::Text)) if format != Format::Onnx => {
                return refuse("`encode = \"text\"` is for ONNX models only");
            }
            (Kind::Category, Some(Encode::OneHot)) if self.values.is_empty() => {
                return refuse("`values` is missing");
            }
            _ => {}
        }
        let mut seen = hashbrown::HashSet::new();
        if let Some(twice) = self.values.iter().find(|v| !seen.insert(v.as_str())) {
            return Err(Error::data("a value stands twice")
                .with("key", "features.values")
                .column(&self.name)
                .value(twice));
        }
        match (&self.missing, self.kind) {
            (Some(MissingValue::Number(v)), Kind::Number) if v.is_finite() => Ok(()),
            (None, _) | (Some(MissingValue::Text(_)), Kind::Category) => Ok(()),
            (Some(MissingValue::Number(v)), Kind::Category) if v.is_finite() => Ok(()),
            _ => refuse("`missing` is a finite number for a number and a text for a category"),
        }
    }
}
