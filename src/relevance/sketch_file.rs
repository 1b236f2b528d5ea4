//! Step 1: the sketch of a scenario whose rows may not leave their owner, as JSON. It comes from a stranger, and is checked like one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::levels::CategorySummary;
use super::profiles::Summary;
use super::sketch::NumberSummary;
use crate::error::{Error, Result};

const FORMAT: u32 = 1;
/// More rows than this are no count of accounts; sums of counts stay far from overflow.
const MOST_ROWS: u64 = 1 << 48;

/// A scenario without its rows: for each feature at most 240 cells of a number, or the counts of a category's levels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchFile {
    format: u32,
    pub rows: u64,
    pub features: BTreeMap<String, Summary>,
}

impl SketchFile {
    pub fn new(rows: u64, features: BTreeMap<String, Summary>) -> SketchFile {
        SketchFile { format: FORMAT, rows, features }
    }

    /// Reads the JSON. Refuses (65) another version, counts that do not add up to the rows, and values or levels that are not ascending.
    pub fn parse(bytes: &[u8]) -> Result<SketchFile> {
        let file: SketchFile = serde_json::from_slice(bytes).map_err(|e| Error::data(format!("not a profile: {e}")))?;
        if file.format != FORMAT {
            return Err(Error::data("the profile has another format version").value(file.format));
        }
        if file.rows > MOST_ROWS {
            return Err(Error::data("the profile claims more rows than there can be").value(file.rows));
        }
        for (name, summary) in &file.features {
            let sound = match summary {
                Summary::Number(s) => number_is_sound(s, file.rows),
                Summary::Category(s) => category_is_sound(s, file.rows),
            };
            if !sound {
                return Err(Error::data("the profile is damaged: a feature's counts, values or levels do not agree").column(name));
            }
        }
        Ok(file)
    }
}

/// The sum, if it does not overflow.
fn total(counts: impl IntoIterator<Item = u64>) -> Option<u64> {
    counts.into_iter().try_fold(0u64, u64::checked_add)
}

fn number_is_sound(s: &NumberSummary, rows: u64) -> bool {
    let ends = match (s.min, s.max, s.values.first(), s.values.last()) {
        (Some(min), Some(max), Some(first), Some(last)) => min <= *first && *last <= max,
        (None, None, None, None) => true,
        _ => false,
    };
    ends && s.values.len() == s.counts.len()
        && s.values.is_sorted_by(|a, b| a < b)
        && total(s.counts.iter().copied()) == Some(s.n)
        && total([s.n, s.nulls, s.nans]) == Some(rows)
}

fn category_is_sound(s: &CategorySummary, rows: u64) -> bool {
    let counts = s.levels.iter().map(|(_, n)| *n);
    s.levels.is_sorted_by(|a, b| a.0 < b.0) && total(counts.chain([s.other, s.nulls])) == Some(rows)
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
        for (from, to) in [("\"format\":1", "\"format\":2"), ("\"rows\":5", "\"rows\":1000000000000000000"), ("9.5,", "1e999,")] {
            assert!(SketchFile::parse(FILE.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
