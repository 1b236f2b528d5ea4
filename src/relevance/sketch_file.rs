//! Step 1: the sketch of a scenario whose rows may not leave their owner, as JSON. It comes from a stranger, and is checked like one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calibrate::Calibration;
use super::profiles::Summary;
use super::reliability::Cell;
use super::sketch_check::check;
use crate::error::{Error, Result};

/// The version that is written; earlier ones are read.
pub const FORMAT: u32 = 2;

/// A scenario without its rows: for each feature at most 240 cells of a number, or the counts of a category's levels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchFile {
    pub format: u32,
    pub rows: u64,
    pub features: BTreeMap<String, Summary>,
    /// What the labelled rows say, where the owner said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
}

/// How counts were made noisy.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    pub mechanism: String,
    pub epsilon: f64,
    /// Histograms in which each row is counted.
    pub histograms: u64,
    /// Scale of the noise, in rows: histograms / epsilon.
    pub scale: f64,
}

/// The part of a sketch that needs labels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Names of the labels: those of the own teacher, or all that there are.
    pub classes: Vec<String>,
    /// Rows of each.
    pub counts: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
    pub tables: Vec<Table>,
}

/// The owner's own teacher.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    pub teacher: String,
    /// SHA-256 of its model file.
    pub model: String,
    pub calibration: Calibration,
}

/// Scores of one teacher against labels; of its own rows those that were held out.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub teacher: String,
    /// SHA-256 of its model file.
    pub model: String,
    /// The model's classes: what a cell's scores are of.
    pub classes: Vec<String>,
    pub cells: Vec<Cell>,
}

impl SketchFile {
    /// Reads the JSON. Refuses (65) another version, counts that do not add up to the rows, and whatever else `coldstart profile` does not write.
    pub fn parse(bytes: &[u8]) -> Result<SketchFile> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let file: SketchFile = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| Error::data(format!("not a profile: {}", e.inner())).with("key", e.path().to_string()))?;
        json.end().map_err(|e| Error::data(format!("not a profile: {e}")))?;
        check(&file)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"format":1,"rows":5,"features":{
        "age":{"number":{"nulls":1,"nans":0,"n":4,"min":1.0,"max":9.5,"exact":true,"values":[1.0,9.5],"counts":[3,1]}},
        "job":{"category":{"nulls":2,"other":1,"levels":[["clerk",1],["cook",1]]}}}}"#;

    #[test]
    fn a_sound_file_is_read_and_a_damaged_one_names_its_feature() {
        assert_eq!(SketchFile::parse(FILE.as_bytes()).unwrap().rows, 5);
        for (from, to, column) in [
            ("[3,1]", "[3,2]", "age"),
            ("[3,1]", "[4]", "age"),
            ("[1.0,9.5]", "[9.5,1.0]", "age"),
            ("\"max\":9.5", "\"max\":9.0", "age"),
            ("\"max\":9.5", "\"max\":null", "age"),
            ("\"nulls\":1", "\"nulls\":18446744073709551615", "age"),
            ("\"other\":1", "\"other\":0", "job"),
            ("\"clerk\"", "\"cook\"", "job"),
        ] {
            assert!(FILE.contains(from));
            let error = SketchFile::parse(FILE.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(column), "{from} -> {to}: {error}");
        }
        for (from, to) in [("\"format\":1", "\"format\":3"), ("\"rows\":5", "\"rows\":1000000000000000000"), ("9.5,", "1e999,")] {
            assert!(SketchFile::parse(FILE.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
