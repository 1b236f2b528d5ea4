//! Step 2 of 6: every teacher on every account, in one pass over the features.
//!
//! In: the accounts and the profile. Out: for each unit of rows a part with the account ids, each teacher's
//! probabilities (`t<k>_<c>`), its support (`s<k>`) and the share of features that are `known`; and the
//! features of the accounts that will train the student, as it will see them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use rayon::prelude::*;
use serde_json::json;

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::{Column, Kind, NULL, NonFinite};
use crate::lake::part::{self, Part, Use};
use crate::lake::scan::{Accounts, Unit, ids};
use crate::lake::store::files::remove;
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::support::Support;
use crate::relevance::transfer::duplicates::Differences;
use crate::run::context::Run;
use crate::sources::support::{profiled, support_of};
use crate::stages::artifacts::{
    COUNTED_PROFILE, PROFILE, Profile, SCORED, Scored, StudentFeature, part_name,
};
use crate::stages::profile;
use crate::stages::scores::{KNOWN, score_names};
use crate::teacher::Workspace;

/// The share of features that are not null, for each row.
fn known(block: &Block) -> Vec<f64> {
    let mut counts = vec![0u32; block.rows];
    for column in &block.columns {
        match column {
            Column::Number(values) => {
                counts.iter_mut().zip(values).for_each(|(n, v)| *n += u32::from(!v.is_nan()))
            }
            Column::Category { codes, .. } => {
                counts.iter_mut().zip(codes).for_each(|(n, c)| *n += u32::from(*c != NULL))
            }
        }
    }
    counts.into_iter().map(|n| f64::from(n) / block.columns.len() as f64).collect()
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let mut profile = PROFILE.load(run.directory)?;
    let asked = run.inputs.asked();
    let (rows, differences) = score_all(run, &profile, &asked)?;
    let mut copies = vec![None; run.inputs.teachers.len()];
    differences.copies().iter().zip(&asked).for_each(|(copy, &k)| copies[k] = copy.map(|j| asked[j]));
    let active: Vec<usize> = asked.iter().copied().filter(|k| copies[*k].is_none()).collect();
    let units = profile.accounts(run).units().len();
    let scored =
        Scored { rows, units, sample_limit: sample_limit(run, rows), active, copies: copies.clone() };
    if scored.active.len() < asked.len() {
        for (k, original) in copies.iter().enumerate().filter_map(|(k, c)| c.map(|c| (k, c))) {
            let names = [k, original].map(|k| run.inputs.teachers[k].name().to_string());
            run.log.warn(
                "score",
                "a teacher says the same as an earlier one and is left out",
                json!({"teacher": names[0], "same as": names[1]}),
            );
        }
        if scored.active.len() < 2 {
            return Err(Error::data("fewer than two different teachers are left: all give the same scores")
                .hint("name teachers of different scenarios"));
        }
        profile = profile::measure(run, profile.dropped, &scored.active)?;
        score_all(run, &profile, &scored.active)?;
    }
    COUNTED_PROFILE.save(run.directory, &profile)?;
    SCORED.save(run.directory, &scored)
}

/// The hash below which an id is in the student's sample: all of few accounts, about `max_training_rows` of
/// many.
fn sample_limit(run: &Run, rows: u64) -> u64 {
    let share = run.pipeline.student.max_training_rows as f64 / rows as f64;
    if share >= 1.0 { u64::MAX } else { (share * u64::MAX as f64) as u64 }
}

/// What one worker needs for every unit.
struct Scorer<'a> {
    run: &'a Run<'a>,
    accounts: Accounts,
    active: &'a [usize],
    support: Support,
    /// For each profiled feature its place among the features, and its bins.
    profiled: Vec<(usize, &'a Bins)>,
    student: &'a [StudentFeature],
    sample_limit: u64,
    schema: SchemaRef,
    sample_schema: SchemaRef,
    columns: Vec<String>,
}

fn score_all(run: &Run, profile: &Profile, active: &[usize]) -> Result<(u64, Differences)> {
    let accounts = profile.accounts(run);
    let id = accounts.field(&run.pipeline.target.id)?;
    let (scores, supports) = score_names(active.len(), run.pipeline.classes.len());
    let fields = scores.iter().chain(&supports).map(part::float_field).chain([part::float_field(KNOWN)]);
    let schema = part::schema([part::id_field(id)].into_iter().chain(fields).collect());
    let sample_schema =
        part::schema(profile.student.iter().map(|f| Field::new(&f.name, DataType::Float32, true)).collect());
    let columns = [id.name().clone()].into_iter().chain(run.inputs.present()).collect();
    let scorer = Scorer {
        run,
        active,
        support: Support::new(&profile.profiles),
        profiled: profiled(&profile.profiles, &run.inputs.features)?,
        student: &profile.student,
        sample_limit: sample_limit(run, profile.rows),
        schema,
        sample_schema,
        columns,
        accounts,
    };
    let folder = run.directory.stage("score");
    remove(run.directory.store, &folder.join("scores"))?;
    remove(run.directory.store, &folder.join("sample"))?;
    let bar = run.log.progress("score", scorer.accounts.stored_rows());
    let units: Vec<(u64, Differences)> = scorer
        .accounts
        .units()
        .par_iter()
        .with_max_len(1)
        .map(|unit| scorer.unit(unit, &folder, &bar))
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut total = (0, Differences::new(active.len()));
    for (rows, differences) in &units {
        total.0 += rows;
        total.1.merge(differences);
    }
    Ok(total)
}

impl Scorer<'_> {
    fn unit(&self, unit: &Unit, folder: &Path, bar: &indicatif::ProgressBar) -> Result<(u64, Differences)> {
        let name = part_name(unit.index, None);
        let mut scores = Part::create(
            self.run.directory.store,
            &folder.join("scores").join(&name),
            &self.schema,
            Use::Between,
        )?;
        let mut sample = Part::create(
            self.run.directory.store,
            &folder.join("sample").join(&name),
            &self.sample_schema,
            Use::Between,
        )?;
        let (mut rows, mut differences) = (0, Differences::new(self.active.len()));
        let mut work = Workspace::default();
        let mut odd = vec![NonFinite::default(); self.run.inputs.features.len()];
        self.accounts.read(unit, &self.columns, |batch, _| {
            let block = Block::decode(&batch, &self.run.inputs.features, &mut odd)?;
            let probabilities = self.score(&block, &mut work)?;
            differences.add(&probabilities.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let id = batch.column(0).clone();
            sample.write(&self.sample(&id, &block)?)?;
            scores.write(&self.batch(id, &block, &probabilities)?)?;
            rows += block.rows as u64;
            bar.inc(block.rows as u64);
            Ok(())
        })?;
        scores.finish()?;
        sample.finish()?;
        Ok((rows, differences))
    }

    /// Probabilities `[n, C]` of each active teacher.
    fn score(&self, block: &Block, work: &mut Workspace) -> Result<Vec<Vec<f64>>> {
        let inputs = self.run.inputs;
        let matrix = inputs.plan.encode(block);
        let mut all = Vec::with_capacity(self.active.len());
        for &k in self.active {
            let mut out = vec![0.0; block.rows * self.run.pipeline.classes.len()];
            inputs.teachers[k].score(&inputs.encoders[k], block, &matrix, work, &mut out)?;
            all.push(out);
        }
        Ok(all)
    }

    fn batch(
        &self,
        id: ArrayRef,
        block: &Block,
        probabilities: &[Vec<f64>],
    ) -> Result<arrow::array::RecordBatch> {
        let classes = self.run.pipeline.classes.len();
        let mut columns = vec![id];
        for p in probabilities {
            columns.extend(
                (0..classes).map(|c| part::float_array(p.iter().skip(c).step_by(classes).copied().collect())),
            );
        }
        let s = support_of(&self.support, &self.profiled, block);
        let k = self.active.len();
        columns.extend((0..k).map(|j| part::float_array(s.iter().skip(j).step_by(k).copied().collect())));
        columns.push(part::float_array(known(block)));
        part::batch(&self.schema, columns)
    }

    /// The student's columns of the accounts in the sample.
    fn sample(&self, id: &ArrayRef, block: &Block) -> Result<arrow::array::RecordBatch> {
        let hashes = ids::hashes(id)?;
        let kept: Vec<usize> = (0..block.rows).filter(|i| hashes[*i] <= self.sample_limit).collect();
        let columns = student_columns(self.student, &self.run.inputs.features, &block.take(&kept))?;
        let arrays = columns.into_iter().map(|c| Arc::new(Float32Array::from(c)) as ArrayRef).collect();
        part::batch(&self.sample_schema, arrays)
    }
}

/// The student's float32 columns of a block: numbers, and levels as their position; null and unknown are NaN.
pub fn student_columns(
    student: &[StudentFeature],
    features: &[Feature],
    block: &Block,
) -> Result<Vec<Vec<f32>>> {
    let mut out = Vec::with_capacity(student.len());
    for feature in student {
        let place = features.iter().position(|f| f.name == feature.name);
        let place =
            place.ok_or_else(|| Error::bug("a feature of the student is unknown").column(&feature.name))?;
        out.push(match (&block.columns[place], feature.kind) {
            (Column::Number(values), Kind::Number) => values.iter().map(|v| *v as f32).collect(),
            (Column::Category { codes, levels }, Kind::Category) => {
                let code =
                    |l: &String| feature.levels.iter().position(|v| v == l).map_or(f32::NAN, |i| i as f32);
                let table: Vec<f32> = levels.iter().map(code).collect();
                codes.iter().map(|c| if *c == NULL { f32::NAN } else { table[*c as usize] }).collect()
            }
            _ => return Err(Error::bug("a feature of the student changed its kind").column(&feature.name)),
        });
    }
    Ok(out)
}
