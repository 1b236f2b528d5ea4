//! Step 4 of 6: one soft label for each account.
//!
//! In: the scores, as they stream by, and what step 3 learned; the features are not read. Out: the tables
//! `soft_labels`, `relevance` (a row for each teacher), `relevance_features` (a row for each teacher and
//! feature) and `risk_coverage`.

pub mod risk_coverage;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use polars::prelude::{Column, DataFrame, IntoLazy, JoinArgs, JoinType, SortMultipleOptions, col};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::lake::bridge::to_arrow;
use crate::lake::part::{self, Part, Use};
use crate::lake::store::files::write_json;
use crate::relevance::fusion::fuse::Fuser;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::profile::distance::Distances;
use crate::relevance::training::calculator::Calculator;
use crate::run::context::Run;
use crate::stages::artifacts::{COUNTED_PROFILE, Profile, SCORED, SCORES, Scored, Weights, part_name};
use crate::stages::scores::{KNOWN, Scores, each_row, load_fuser};
use crate::stages::write_table;

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let scored = SCORED.load(run.directory)?;
    let (calculator, distances, fuser, fusion) = load_fuser(run)?;
    let names: Vec<&str> = scored.active.iter().map(|k| run.inputs.teachers[*k].name()).collect();
    let schema = schema(run, &names)?;
    let folder = run.directory.stage("fuse");
    let bar = run.log.progress("fuse", scored.rows);
    let one = |unit: usize| -> Result<ExactMeans> {
        let mut weights = ExactMeans::new(names.len());
        let mut out = Part::create(
            run.directory.store,
            &folder.join("soft_labels").join(part_name(unit, Some(run.id()))),
            &schema,
            Use::Published,
        )?;
        part::read(&SCORES.part(run, unit), |batch| {
            bar.inc(batch.num_rows() as u64);
            out.write(&fused_batch(run, &fuser, &batch, &schema, names.len(), &mut weights)?)
        })?;
        out.finish()?;
        Ok(weights)
    };
    let parts: Vec<ExactMeans> =
        (0..scored.units).into_par_iter().with_max_len(1).map(one).collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut weights = ExactMeans::new(names.len());
    parts.iter().for_each(|p| weights.merge(p));
    let profile = COUNTED_PROFILE.load(run.directory)?;
    let features = features_table(&names, &distances, &profile).map_err(|e| Error::bug(e.to_string()))?;
    let teachers = teachers_table(
        run,
        &scored,
        &calculator,
        &distances,
        (&weights.means(), &fusion.domain_areas),
        &features,
    )
    .map_err(|e| Error::bug(e.to_string()))?;
    let weights =
        Weights { teachers: names.iter().map(|n| n.to_string()).collect(), weights: weights.means() };
    write_json(run.directory.store, &folder.join("fuse.json"), &weights)?;
    risk_coverage::write(run, &calculator, &folder.join("risk_coverage"))?;
    for (table, frame) in [("relevance_features", features), ("relevance", teachers)] {
        write_table(run, &folder.join(table), &to_arrow(&frame)?)?;
    }
    Ok(())
}

fn schema(run: &Run, teachers: &[&str]) -> Result<SchemaRef> {
    let id = run.inputs.accounts.field(&run.pipeline.target.id)?;
    let mut fields = vec![part::id_field(id)];
    fields.extend(run.pipeline.classes.iter().map(|c| part::float_field(format!("p_{c}"))));
    fields.extend(teachers.iter().map(|t| part::float_field(format!("w_{t}"))));
    fields.extend(["support", "disagreement", KNOWN].map(part::float_field));
    fields.extend(
        ["uniform_agrees", "js_agrees", "gate_agrees"].map(|n| Field::new(n, DataType::Boolean, false)),
    );
    Ok(part::schema(fields))
}

fn fused_batch(
    run: &Run,
    fuser: &Fuser,
    batch: &RecordBatch,
    schema: &SchemaRef,
    teachers: usize,
    means: &mut ExactMeans,
) -> Result<RecordBatch> {
    let (rows, classes) = (batch.num_rows(), run.pipeline.classes.len());
    let mut floats = vec![Vec::with_capacity(rows); classes + teachers + 2];
    let mut agree = [const { Vec::new() }; 3];
    let mut broken = None;
    each_row(fuser, &Scores::of(batch, teachers, classes)?, rows, |i, fused| {
        let values = fused.label.iter().chain(&fused.weights).chain([&fused.support, &fused.disagreement]);
        floats.iter_mut().zip(values).for_each(|(column, v)| column.push(*v));
        agree.iter_mut().zip(fused.agree).for_each(|(column, v)| column.push(v));
        means.add(&fused.weights);
        let sum: f64 = fused.label.iter().sum();
        if !fused.label.iter().all(|p| (0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-12 {
            broken = Some(i);
        }
    });
    if let Some(row) = broken {
        return Err(Error::bug("a soft label is not a distribution").with("row of batch", row.to_string()));
    }
    let mut columns = vec![batch.column(0).clone()];
    columns.extend(floats.into_iter().map(part::float_array));
    columns.extend(batch.column_by_name(KNOWN).cloned());
    columns.extend(agree.into_iter().map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef));
    part::batch(schema, columns)
}

/// A row for each teacher with a history and each shared feature.
fn features_table(
    names: &[&str],
    distances: &Distances,
    profile: &Profile,
) -> polars::prelude::PolarsResult<DataFrame> {
    let profiles = &profile.profiles;
    let mut rows = Vec::new();
    for (j, feature) in profiles.features.iter().enumerate() {
        for (i, &k) in profiles.sources.iter().enumerate() {
            rows.push((names[k], feature.name.as_str(), distances.features[j][i], profile.wasserstein[j][i]));
        }
    }
    let column = |name: &str, value: &dyn Fn(usize) -> f64| {
        Column::new(name.into(), (0..rows.len()).map(value).collect::<Vec<f64>>())
    };
    DataFrame::new(
        rows.len(),
        vec![
            Column::new("teacher".into(), rows.iter().map(|r| r.0).collect::<Vec<_>>()),
            Column::new("feature".into(), rows.iter().map(|r| r.1).collect::<Vec<_>>()),
            column("js", &|i| rows[i].2.js),
            column("psi", &|i| rows[i].2.psi),
            column("ks", &|i| rows[i].2.ks),
            column("null_gap", &|i| rows[i].2.null_gap),
            Column::new("wasserstein".into(), rows.iter().map(|r| r.3).collect::<Vec<Option<f64>>>()),
        ],
    )
}

/// A row for each teacher: distances averaged over features, and what else decided its weight.
fn teachers_table(
    run: &Run,
    scored: &Scored,
    calculator: &Calculator,
    distances: &Distances,
    (weights, domain_areas): (&[f64], &[Option<f64>]),
    features: &DataFrame,
) -> polars::prelude::PolarsResult<DataFrame> {
    let teachers: Vec<_> = scored.active.iter().map(|k| &run.inputs.teachers[*k]).collect();
    let judgement = &calculator.judgement;
    let abroad = |k: usize| {
        let losses: Vec<f64> = judgement.cross_loss[k]
            .iter()
            .enumerate()
            .filter(|(q, _)| *q != k)
            .filter_map(|(_, l)| *l)
            .collect();
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    };
    let all = 0..teachers.len();
    let base = DataFrame::new(
        teachers.len(),
        vec![
            Column::new("teacher".into(), teachers.iter().map(|t| t.name()).collect::<Vec<_>>()),
            Column::new(
                "scenario".into(),
                teachers.iter().map(|t| t.bundle.scenario.as_str()).collect::<Vec<_>>(),
            ),
            Column::new(
                "training_rows".into(),
                teachers.iter().map(|t| t.bundle.training.rows).collect::<Vec<_>>(),
            ),
            Column::new("weight".into(), weights.to_vec()),
            Column::new(
                "relevance".into(),
                distances
                    .js
                    .iter()
                    .map(|js| 1.0 / (js + crate::relevance::profile::distance::LEAST_JS))
                    .collect::<Vec<_>>(),
            ),
            Column::new("js_weight".into(), distances.weights.clone()),
            Column::new("domain_auc".into(), domain_areas.to_vec()),
            Column::new(
                "own_slope".into(),
                calculator.calibrations.iter().map(|c| c.slope).collect::<Vec<_>>(),
            ),
            Column::new("foreign_slope".into(), judgement.slopes.clone()),
            Column::new(
                "own_loss".into(),
                all.clone().map(|k| judgement.cross_loss[k][k]).collect::<Vec<Option<f64>>>(),
            ),
            Column::new("foreign_loss".into(), all.map(abroad).collect::<Vec<Option<f64>>>()),
            Column::new("trained".into(), vec![calculator.trained; teachers.len()]),
        ],
    )?;
    let mean = |name: &str| col(name).mean();
    let worst = col("feature")
        .sort_by([col("js")], SortMultipleOptions::default().with_order_descending(true))
        .first()
        .alias("most_shifted");
    let by_teacher = features.clone().lazy().group_by_stable([col("teacher")]).agg([
        mean("js"),
        mean("psi"),
        mean("ks"),
        mean("null_gap"),
        mean("wasserstein"),
        worst,
    ]);
    base.lazy()
        .join(by_teacher, [col("teacher")], [col("teacher")], JoinArgs::new(JoinType::Left))
        .sort(
            ["weight", "teacher"],
            SortMultipleOptions::default().with_order_descending_multi([true, false]),
        )
        .collect()
}
