//! A sketch comes from somebody else, and is refused by name (65) where it cannot be what `coldstart profile`
//! writes.

use std::fmt::Display;

use hashbrown::HashSet;

use crate::error::{Error, Result};
use crate::relevance::profile::categories::CategorySummary;
use crate::relevance::profile::numbers::NumberSummary;
use crate::relevance::profile::profiles::Summary;
use crate::relevance::shared::file::{FORMAT, Labels, SketchFile, Table};
use crate::relevance::transfer::calibrate::Calibration;

/// Rows that a count may stand for; far below what overflows a sum of counts.
const MOST_ROWS: u64 = 1 << 48;
const MOST_CELLS: usize = 100_000;
/// How far a slope's logarithm and a bias may be from none.
const LARGEST_BIAS: f64 = 100.0;

impl SketchFile {
    /// Reads the JSON. Refuses (65) another version, counts that do not add up to the rows, and whatever else
    /// `coldstart profile` does not write.
    pub fn parse(bytes: &[u8]) -> Result<SketchFile> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let file: SketchFile = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            Error::data(format!("not a profile: {}", e.inner())).with("key", e.path().to_string())
        })?;
        json.end().map_err(|e| Error::data(format!("not a profile: {e}")))?;
        check(&file)?;
        Ok(file)
    }
}

/// Refuses what contradicts itself.
pub fn check(file: &SketchFile) -> Result<()> {
    if file.format == 0 || file.format > FORMAT {
        return Err(Error::data(format!(
            "the profile has another format version, this program reads 1 to {FORMAT}"
        ))
        .value(file.format));
    }
    if file.rows > MOST_ROWS {
        return Err(refuse("rows", file.rows, "the profile claims more rows than there can be"));
    }
    for (name, summary) in &file.features {
        // noise makes every histogram another number of rows
        let rows = file.privacy.is_none().then_some(file.rows);
        let checked = match summary {
            Summary::Number(s) => check_number(s, rows),
            Summary::Category(s) => check_category(s, rows),
        };
        checked.map_err(|e| e.column(name))?;
    }
    if let Some(privacy) = &file.privacy
        && !(privacy.epsilon > 0.0
            && privacy.epsilon.is_finite()
            && privacy.scale >= 0.0
            && privacy.scale.is_finite())
    {
        return Err(refuse("privacy.epsilon", privacy.epsilon, "epsilon and scale are positive numbers"));
    }
    file.labels.as_ref().map_or(Ok(()), check_labels)
}

fn refuse(key: impl Into<String>, value: impl Display, why: &str) -> Error {
    Error::data(why).with("key", key).value(value)
}

fn check_number(s: &NumberSummary, rows: Option<u64>) -> Result<()> {
    if s.values.len() != s.counts.len() || s.values.len() > MOST_CELLS {
        return Err(refuse("values", s.values.len(), "each cell of a number has one count"));
    }
    if let Some(v) = s.values.iter().chain(&s.min).chain(&s.max).find(|v| !v.is_finite()) {
        return Err(refuse("values", v, "a cell begins at a finite number"));
    }
    if let Some(w) = s.values.windows(2).find(|w| w[0] >= w[1]) {
        return Err(refuse("values", format!("{} before {}", w[0], w[1]), "cells ascend"));
    }
    let ends = match (s.min, s.max, s.values.first(), s.values.last()) {
        (Some(min), Some(max), Some(first), Some(last)) => min <= *first && *last <= max,
        (None, None, None, None) => true,
        _ => false,
    };
    if !ends {
        return Err(refuse(
            "min",
            format!("{:?} to {:?}", s.min, s.max),
            "all values are between min and max",
        ));
    }
    let total = sum(s.counts.iter().chain([&s.nulls, &s.nans]))?;
    if total - s.nulls - s.nans != s.n {
        return Err(refuse("n", s.n, "n is the sum of the counts"));
    }
    adds_up(total, rows)
}

fn check_category(s: &CategorySummary, rows: Option<u64>) -> Result<()> {
    if s.levels.len() > MOST_CELLS {
        return Err(refuse("levels", s.levels.len(), "too many levels"));
    }
    let total = sum(s.levels.iter().map(|(_, n)| n).chain([&s.nulls, &s.other]))?;
    match s.levels.windows(2).find(|w| w[0].0 >= w[1].0) {
        Some(w) => Err(refuse(
            "levels",
            format!("{:?} before {:?}", w[0].0, w[1].0),
            "levels ascend, each stands once",
        )),
        None => adds_up(total, rows),
    }
}

fn adds_up(total: u64, rows: Option<u64>) -> Result<()> {
    match rows {
        Some(rows) if rows != total => Err(refuse("rows", total, "a feature counts every row once")),
        _ => Ok(()),
    }
}

fn sum<'a>(counts: impl IntoIterator<Item = &'a u64>) -> Result<u64> {
    let total = counts.into_iter().try_fold(0u64, |sum, n| sum.checked_add(*n)).filter(|n| *n <= MOST_ROWS);
    total.ok_or_else(|| refuse("counts", format!("more than {MOST_ROWS}"), "counts beyond any table"))
}

fn check_labels(labels: &Labels) -> Result<()> {
    let classes = &labels.classes;
    let unique: HashSet<&String> = classes.iter().collect();
    if unique.len() != classes.len() || !(1..=1000).contains(&classes.len()) {
        return Err(refuse(
            "labels.classes",
            format!("{} classes", classes.len()),
            "between 1 and 1000 classes, each once",
        ));
    }
    if labels.counts.len() != classes.len() || sum(&labels.counts)? == 0 {
        return Err(refuse(
            "labels.counts",
            format!("{:?}", labels.counts),
            "a count for each class, and some row",
        ));
    }
    if let Some(own) = &labels.own {
        check_calibration(&own.calibration, classes.len()).map_err(|e| e.with("teacher", &own.teacher))?;
    }
    for (i, table) in labels.tables.iter().enumerate() {
        if labels.tables[..i].iter().any(|t| t.teacher == table.teacher) {
            return Err(refuse("labels.tables", &table.teacher, "two tables of one teacher"));
        }
        check_table(table, classes.len()).map_err(|e| e.with("teacher", &table.teacher))?;
    }
    Ok(())
}

fn check_calibration(calibration: &Calibration, classes: usize) -> Result<()> {
    let Calibration { slope, bias } = calibration;
    if !(slope.is_finite() && *slope > 0.0 && slope.ln().abs() <= LARGEST_BIAS) {
        return Err(refuse("labels.own.calibration.slope", slope, "a slope is positive"));
    }
    if bias.len() != classes || bias.iter().any(|b| b.is_nan() || b.abs() > LARGEST_BIAS) {
        return Err(refuse(
            "labels.own.calibration.bias",
            format!("{bias:?}"),
            "one moderate bias for each class",
        ));
    }
    Ok(())
}

fn check_table(table: &Table, label_classes: usize) -> Result<()> {
    let classes = table.classes.len();
    let unique: HashSet<&String> = table.classes.iter().collect();
    if unique.len() != classes || !(2..=1000).contains(&classes) {
        return Err(refuse("labels.tables.classes", classes, "between 2 and 1000 classes, each once"));
    }
    if table.cells.len() > MOST_CELLS {
        return Err(refuse("labels.tables.cells", table.cells.len(), "too many cells"));
    }
    for cell in &table.cells {
        let is_distribution = (cell.score.iter().sum::<f64>() - 1.0).abs() < 1e-6
            && cell.score.iter().all(|p| (0.0..=1.0).contains(p));
        if cell.score.len() != classes || !is_distribution {
            return Err(refuse(
                "labels.tables.cells.score",
                format!("{:?}", cell.score),
                "a cell's scores are a distribution over the classes",
            ));
        }
        if cell.label >= label_classes {
            return Err(refuse(
                "labels.tables.cells.label",
                cell.label,
                "the place of a label among labels.classes",
            ));
        }
    }
    sum(table.cells.iter().map(|c| &c.rows)).map(|_| ())
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
        for (from, to) in [
            ("\"format\":1", "\"format\":3"),
            ("\"rows\":5", "\"rows\":1000000000000000000"),
            ("9.5,", "1e999,"),
        ] {
            assert!(SketchFile::parse(FILE.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
