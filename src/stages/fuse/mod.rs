//! Step 4 of 6: one soft label for each account.
//!
//! In: the scores, as they stream by, and what the relevance stage learned; the features are not read. Out: the tables
//! `soft_labels`, `relevance` (a row for each teacher), `relevance_features` (a row for each teacher and
//! feature) and `risk_coverage`.

pub mod risk_coverage;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use polars::prelude::{Column, DataFrame, IntoLazy, JoinArgs, JoinType, SortMultipleOptions, col};

use crate::error::{Error, Result};
use crate::lake::bridge::to_arrow;
use crate::lake::part::{self, Part, Purpose};
use crate::relevance::fusion::fuse::Fuser;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::real::{Lanes, Real};
use crate::relevance::profile::distance::{Distances, LEAST_JS};
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::pooled::NAME;
use crate::run::context::Run;
use crate::run::fold::Fold;
use crate::stages::artifacts::{
    COUNTED_PROFILE, Profile, SCORED, SCORES, SOFT_LABELS, Scored, WEIGHTS, Weights,
};
use crate::stages::scores::{KNOWN, Scores, load_fuser};
use crate::stages::{Mapped, pieces, write_table};

/// The map over the scores, and what is made of all of them.
pub struct Step;

impl Mapped for Step {
    /// Means of the teachers' weights.
    type State = ExactMeans;

    fn map(run: &Run, pieces: Range<usize>) -> Result<ExactMeans> {
        let scored = SCORED.load(run.directory)?;
        let (calculator, _, fuser, _) = load_fuser(run)?;
        let names = names(run, &scored, &calculator);
        let schema = schema(run, &names)?;
        let rows = run.inputs.accounts.rows_of(pieces.clone());
        Fold { log: run.log, stage: "fuse", rows, pieces }.run(
            || ExactMeans::new(names.len()),
            |piece, weights| {
                let path = SOFT_LABELS.part(run, piece);
                let mut out = Part::create(run.directory.store, &path, &schema, Purpose::Published)?;
                let mut rows = 0;
                part::read(&SCORES.part(run, piece), |batch| {
                    rows += batch.num_rows() as u64;
                    out.write(&fused_batch(run, &fuser, &batch, &schema, scored.active.len(), weights)?)
                })?;
                out.finish().map(|()| rows)
            },
        )
    }

    fn reduce(run: &Run, weights: ExactMeans) -> Result<()> {
        let scored = SCORED.load(run.directory)?;
        let (calculator, distances, _, fusion) = load_fuser(run)?;
        let names = names(run, &scored, &calculator);
        pieces::join(run, &SOFT_LABELS, &schema(run, &names)?)?;
        let folder = run.directory.stage("fuse");
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
        WEIGHTS.save(run.directory, &weights)?;
        risk_coverage::write(run, &calculator, &folder.join("risk_coverage"))?;
        for (table, frame) in [("relevance_features", features), ("relevance", teachers)] {
            write_table(run, &folder.join(table), &to_arrow(&frame)?)?;
        }
        Ok(())
    }
}

/// The teachers that count, the pooled one last where there is one.
fn names<'a>(run: &'a Run, scored: &Scored, calculator: &Calculator) -> Vec<&'a str> {
    let given = scored.active.iter().map(|k| run.inputs.teachers[*k].name());
    given.chain(calculator.pooled.iter().map(|_| NAME)).collect()
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
    let mut floats = vec![Vec::with_capacity(rows); classes + fuser.scratch::<Lanes>().weights.len() + 2];
    let mut agree = [const { Vec::new() }; 3];
    let mut broken = None;
    fuser.each(&Scores::of(batch, teachers, classes)?.columns, 0..rows, |first, count, fused| {
        let values = fused.label.iter().chain(&fused.weights).chain([&fused.support, &fused.disagreement]);
        floats.iter_mut().zip(values).for_each(|(column, v)| column.extend_from_slice(&v.rows()[..count]));
        let flags = agree.iter_mut().zip(&fused.agree);
        flags.for_each(|(column, v)| column.extend(v.rows()[..count].iter().map(|v| *v > 0.0)));
        means.add_rows(&fused.weights, count);
        for i in 0..count {
            let sum: f64 = fused.label.iter().map(|p| p.0[i]).sum();
            if !fused.label.iter().all(|p| (0.0..=1.0).contains(&p.0[i])) || (sum - 1.0).abs() > 1e-12 {
                broken = Some(first + i);
            }
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
    let pooled = calculator.pooled.as_ref();
    let all = 0..teachers.len();
    // the pooled teacher comes last; what it has no history for is null
    let text = |name: &str, own: Vec<&str>, of_pooled: &'static str| {
        Column::new(name.into(), own.into_iter().chain(pooled.map(|_| of_pooled)).collect::<Vec<_>>())
    };
    let number = |name: &str, own: Vec<Option<f64>>, of_pooled: Option<f64>| {
        Column::new(name.into(), own.into_iter().chain(pooled.map(|_| of_pooled)).collect::<Vec<_>>())
    };
    let known = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    let relevance: Vec<f64> = distances.js.iter().map(|js| 1.0 / (js + LEAST_JS)).collect();
    let slopes: Vec<f64> = calculator.calibrations.iter().map(|c| c.slope).collect();
    let rows = teachers.iter().map(|t| t.bundle.training.rows).chain(pooled.map(|p| p.rows as u64));
    let base = DataFrame::new(
        teachers.len() + usize::from(pooled.is_some()),
        vec![
            text("teacher", teachers.iter().map(|t| t.name()).collect(), NAME),
            text(
                "scenario",
                teachers.iter().map(|t| t.bundle.scenario.as_str()).collect(),
                "all histories together",
            ),
            Column::new("training_rows".into(), rows.map(|rows| rows as i64).collect::<Vec<_>>()),
            Column::new("weight".into(), weights.to_vec()),
            number("relevance", known(&relevance), None),
            number("js_weight", known(&distances.weights), None),
            number("domain_auc", domain_areas.to_vec(), None),
            number("own_slope", known(&slopes), None),
            number("foreign_slope", known(&judgement.slopes), None),
            number("own_loss", all.clone().map(|k| judgement.at_home(k)).collect(), None),
            number("foreign_loss", all.map(abroad).collect(), calculator.pooled_loss()),
            Column::new(
                "trained".into(),
                vec![calculator.trained; teachers.len() + usize::from(pooled.is_some())],
            ),
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
