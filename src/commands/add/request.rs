//! What was typed to `coldstart teacher add`, and how more is asked for.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Kind};
use crate::teacher::bundle::FeatureSpec;

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct Request {
    /// The model file: LightGBM's text, XGBoost's JSON or UBJSON, or ONNX.
    pub model: PathBuf,
    /// The labelled accounts of the model's own scenario: one Parquet file.
    #[arg(long, value_name = "FILE", requires = "label")]
    pub history: Option<PathBuf>,
    /// The history's column of labels.
    #[arg(long, value_name = "COLUMN", requires = "history")]
    pub label: Option<String>,
    /// The history's boolean column of rows that did not train the model.
    #[arg(long, value_name = "COLUMN", requires = "history")]
    pub held_out: Option<String>,
    /// The folder that is made.
    #[arg(short, long = "output", value_name = "DIR")]
    pub out: PathBuf,
    /// The teacher's name in every output; the folder's if not given.
    #[arg(long)]
    pub name: Option<String>,
    /// A line for people.
    #[arg(long)]
    pub scenario: Option<String>,
    /// Names of the classes in the order of the model's outputs.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Columns of the model's inputs, in their order.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub features: Vec<String>,
    /// The column of an input that has another name; may be repeated.
    #[arg(long = "column", value_name = "INPUT=COLUMN", value_parser = pair)]
    pub columns: Vec<(String, String)>,
    /// The categories of a column in the order of their codes, as TOML; may be repeated.
    #[arg(long, value_name = "COLUMN=[VALUES]", value_parser = column_values)]
    pub values: Vec<(String, Values)>,
    /// A column of the history that is no feature, such as an id; may be repeated.
    #[arg(long = "leave-out", value_name = "COLUMN")]
    pub leave_out: Vec<String>,
    /// Labelled rows that trained the model.
    #[arg(long)]
    pub rows: Option<u64>,
    /// The last day of the data that trained it.
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
    /// The value that the model's library takes for missing, such as XGBoost's missing=-999.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub missing: Option<f64>,
}

/// Categories in the order of their codes.
pub type Values = std::sync::Arc<[String]>;

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (input, column) = text.split_once('=').ok_or("INPUT=COLUMN")?;
    Ok((input.to_string(), column.to_string()))
}

fn column_values(text: &str) -> std::result::Result<(String, Values), String> {
    let (column, list) = text.split_once('=').ok_or("COLUMN=[\"a\", \"b\"]")?;
    let spec: std::result::Result<FeatureSpec, _> =
        toml::from_str(&format!("name = \"x\"\nkind = \"category\"\nvalues = {list}"));
    let values = spec.map_err(|e| e.message().to_string())?.values;
    Ok((column.to_string(), values.into()))
}

/// The refusal to guess: what is missing, and the flag that says it.
pub fn ask(what: impl Into<String>, flag: &'static str, example: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what).with("argument", flag).hint(example)
}
