//! The table `risk_coverage`: how wrong the accounts are that a rule would keep, measured on the histories.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::config::{Method, Pipeline};
use crate::error::Result;
use crate::lake::part;
use crate::relevance::findings::risk::{self, Judged, Played, Point};
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::rehearsal::Rehearsal;
use crate::run::context::Run;
use crate::stages::write_table;

/// The histories that played the target, with the labels that the pipeline would have published for them.
pub fn played<'a>(pipeline: &Pipeline, rehearsed: &'a [Rehearsal]) -> Vec<Played<'a>> {
    let label = |judged: &'a Judged| match (pipeline.fuse.method, pipeline.target.class_shares.is_some()) {
        (Method::Reference, _) => &judged.default,
        (Method::Aligned, false) => &judged.aligned,
        (Method::Aligned, true) => &judged.with_shares,
    };
    rehearsed
        .iter()
        .map(|r| Played { history: &r.history, judged: &r.judged, label: label(&r.judged) })
        .collect()
}

/// Writes the table into `folder`; without rows where fewer than three histories could play the target.
pub fn write(run: &Run, calculator: &Calculator, folder: &Path) -> Result<()> {
    let rehearsed = calculator.rehearsed();
    let points =
        risk::table(&played(run.pipeline, &rehearsed), &run.pipeline.rule(), run.pipeline.classes.len());
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let text = |name: &str, null: bool| Field::new(name, DataType::Utf8, null);
    let schema = part::schema(vec![
        text("measure", false),
        float("threshold"),
        part::float_field("coverage"),
        float("error_rate"),
        float("log_loss"),
        float("cost"),
        text("worst_history", true),
        float("worst_error_rate"),
    ]);
    let floats =
        |of: fn(&Point) -> Option<f64>| Arc::new(points.iter().map(of).collect::<Float64Array>()) as ArrayRef;
    let batch = part::batch(
        &schema,
        vec![
            Arc::new(StringArray::from_iter_values(points.iter().map(|p| p.measure))),
            floats(|p| p.threshold),
            part::float_array(points.iter().map(|p| p.coverage).collect()),
            floats(|p| p.error_rate),
            floats(|p| p.log_loss),
            floats(|p| p.cost),
            Arc::new(points.iter().map(|p| p.worst.as_ref().map(|w| w.0.as_str())).collect::<StringArray>()),
            floats(|p| p.worst.as_ref().map(|w| w.1)),
        ],
    )?;
    write_table(run, folder, &batch)
}
