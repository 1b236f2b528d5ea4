//! The table `risk_coverage`: how wrong the accounts are that a rule would keep, measured on the histories.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::config::Method;
use crate::error::Result;
use crate::lake::part;
use crate::relevance::findings::risk::{self, Played, Point};
use crate::relevance::training::calculator::Calculator;
use crate::run::context::Run;
use crate::stages::write_table;

/// Writes the table into `folder`; without rows where fewer than three histories could play the target.
pub fn write(run: &Run, calculator: &Calculator, folder: &Path) -> Result<()> {
    let pipeline = run.pipeline;
    let rehearsed = calculator.rehearsed();
    let played: Vec<Played> = rehearsed
        .iter()
        .map(|r| {
            let label = match (pipeline.fuse.method, pipeline.target.class_shares.is_some()) {
                (Method::Reference, _) => &r.judged.default,
                (Method::Aligned, false) => &r.judged.aligned,
                (Method::Aligned, true) => &r.judged.with_shares,
            };
            Played { history: &r.history, judged: &r.judged, label }
        })
        .collect();
    let points = risk::table(&played, &pipeline.rule(), pipeline.classes.len());
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
