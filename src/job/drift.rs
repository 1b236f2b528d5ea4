//! The tables of a date that compare it with the earlier dates of its pipeline.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Pipeline;
use crate::drift::tables::{Day, Days};
use crate::error::Result;
use crate::job::{kept, published};
use crate::lake::part::{Part, Purpose};
use crate::run::directory::Directory;
use crate::stages::artifacts::{FEATURE_SKETCHES, SCORE_SKETCHES, part_name};

/// Writes the three tables of a date below `folder`; `dates` are the earlier ones of this pipeline, ascending.
///
/// A date that an older version published kept no sketches; its features and scores are not compared.
pub fn write(
    pipeline: &Pipeline,
    directory: &Directory,
    (date, key): (&str, &str),
    classes: &BTreeMap<String, u64>,
    dates: &[String],
    folder: &Path,
) -> Result<()> {
    let store = directory.store;
    let now = Day {
        date: date.to_string(),
        features: FEATURE_SKETCHES.load(directory)?,
        scores: SCORE_SKETCHES.load(directory)?,
        classes: classes.clone(),
    };
    let day = |date: &String| -> Result<Day> {
        let kept = kept::place(&Directory::place(&pipeline.output_path(), &pipeline.name, date));
        Ok(Day {
            date: date.clone(),
            features: FEATURE_SKETCHES.load_from(store, &kept).unwrap_or_default(),
            scores: SCORE_SKETCHES.load_from(store, &kept).unwrap_or_default(),
            classes: published::record(store, pipeline, date)?.classes,
        })
    };
    let (first, previous) = (dates.first().map(day).transpose()?, dates.last().map(day).transpose()?);
    let days = Days::new(&now, first.as_ref(), previous.as_ref());
    let tables = [
        ("feature_drift", days.feature_drift()?),
        ("score_drift", days.score_drift()?),
        ("class_shares", days.class_shares(&pipeline.classes)?),
    ];
    for (table, batch) in tables {
        let path = folder.join(table).join(part_name(0, Some(&key[..12])));
        let mut part = Part::create(store, &path, &batch.schema(), Purpose::Published)?;
        part.write(&batch)?;
        part.finish()?;
    }
    Ok(())
}
