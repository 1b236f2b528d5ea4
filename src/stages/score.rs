//! Step 2 of 6: every teacher on every account, in one pass over the features.
//!
//! In: the accounts and the profile. Out: for each unit of rows a part with the account ids, each teacher's
//! probabilities (`t<k>_<c>`, those of the pooled one `pooled_<c>`), its support (`s<k>`) and the share of features that are `known`; and the
//! features of the accounts that will train the student, as it will see them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::features::coded::{CodedFeature, coded_columns};
use crate::features::column::{Column, NULL, NonFinite};
use crate::lake::part::{self, Part, Purpose};
use crate::lake::scan::{Accounts, ids};
use crate::relevance::profile::bins::Bins;
use crate::relevance::profile::support::Support;
use crate::relevance::training::pooled::Fitted;
use crate::relevance::transfer::duplicates::Differences;
use crate::run::context::Run;
use crate::run::fold::{Fold, State};
use crate::sources::pooled::Asked;
use crate::sources::support::{profiled, support_of};
use crate::stages::artifacts::{
    COUNTED_POOLED, COUNTED_PROFILE, POOLED, PROFILE, Profile, SAMPLE, SCORED, SCORES, Scored,
};
use crate::stages::scores::{KNOWN, pooled_names, score_names};
use crate::stages::{Mapped, profile};

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

/// The map over the accounts, and what is made of all of them.
pub struct Step;

impl Mapped for Step {
    type State = Scoring;

    fn map(run: &Run, pieces: Range<usize>) -> Result<Scoring> {
        // a unit that is done once more after the reduction is scored as that left it
        let profile = COUNTED_PROFILE.load(run.directory).or_else(|_| PROFILE.load(run.directory))?;
        let pooled = COUNTED_POOLED.load(run.directory).or_else(|_| POOLED.load(run.directory))?;
        score(run, &profile, pooled.as_ref(), pieces)
    }

    fn reduce(run: &Run, state: Scoring) -> Result<()> {
        let mut profile = PROFILE.load(run.directory)?;
        let mut pooled = POOLED.load(run.directory)?;
        let (asked, rows) = (run.inputs.asked(), state.rows);
        let mut copies = vec![None; run.inputs.teachers.len()];
        state
            .differences
            .copies()
            .iter()
            .zip(&asked)
            .for_each(|(copy, &k)| copies[k] = copy.map(|j| asked[j]));
        let active: Vec<usize> = asked.iter().copied().filter(|k| copies[*k].is_none()).collect();
        for (k, original) in copies.iter().enumerate().filter_map(|(k, c)| c.map(|c| (k, c))) {
            let names = [k, original].map(|k| run.inputs.teachers[k].name().to_string());
            run.log.warn(
                "score",
                "a teacher says the same as an earlier one and is left out",
                json!({"teacher": names[0], "same as": names[1]}),
            );
        }
        if active.len() < 2 {
            return Err(Error::data("fewer than two different teachers are left: all give the same scores")
                .hint("name teachers of different scenarios"));
        }
        let again = active != profile.teachers;
        if again {
            let seen = profile::seen(run)?;
            (profile, _) = profile::measure(run, &seen, profile.dropped, active.clone())?;
            pooled = profile::fit_pooled(run, &active, &profile)?;
            score(run, &profile, pooled.as_ref(), run.pieces())?;
        }
        COUNTED_PROFILE.save(run.directory, &profile)?;
        COUNTED_POOLED.save(run.directory, &pooled)?;
        let (units, sample_limit) = (run.inputs.accounts.parts().len(), sample_limit(run, rows));
        SCORED.save(run.directory, &Scored { rows, units, sample_limit, active, copies, again })
    }
}

/// What scoring learns of some rows.
#[derive(Serialize, Deserialize)]
pub struct Scoring {
    rows: u64,
    /// Of the teachers that are asked.
    differences: Differences,
}

impl State for Scoring {
    fn merge(&mut self, other: Scoring) {
        self.rows += other.rows;
        self.differences.merge(&other.differences);
    }
}

/// The hash below which an id is in the student's sample: all of few accounts, about `max_training_rows` of
/// many.
fn sample_limit(run: &Run, rows: u64) -> u64 {
    let share = run.pipeline.student.max_training_rows as f64 / rows as f64;
    if share >= 1.0 { u64::MAX } else { (share * u64::MAX as f64) as u64 }
}

/// What is needed for every piece of rows.
struct Scorer<'a> {
    run: &'a Run<'a>,
    accounts: Accounts,
    asked: Vec<usize>,
    /// Of those that are asked, as places among them, the ones that count.
    kept: Vec<usize>,
    pooled: Option<Asked>,
    support: Support,
    /// For each profiled feature its place among the features, and its bins.
    profiled: Vec<(usize, &'a Bins)>,
    student: &'a [CodedFeature],
    sample_limit: u64,
    schema: SchemaRef,
    sample_schema: SchemaRef,
    columns: Vec<String>,
}

fn score(run: &Run, profile: &Profile, pooled: Option<&Fitted>, pieces: Range<usize>) -> Result<Scoring> {
    let accounts = profile.accounts(run);
    let id = accounts.field(&run.pipeline.target.id)?;
    let (scores, supports) = score_names(profile.teachers.len(), run.pipeline.classes.len());
    let pooled = pooled.map(|fitted| Asked::new(&fitted.pooled)).transpose()?;
    let pooled_scores = pooled_names(run.pipeline.classes.len());
    let pooled_scores = pooled_scores.iter().filter(|_| pooled.is_some());
    let fields = scores.iter().chain(&supports).chain(pooled_scores).map(part::float_field);
    let fields = fields.chain([part::float_field(KNOWN)]);
    let schema = part::schema([part::id_field(id)].into_iter().chain(fields).collect());
    let sample_schema =
        part::schema(profile.student.iter().map(|f| Field::new(&f.name, DataType::Float32, true)).collect());
    let columns = [id.name().clone()].into_iter().chain(run.inputs.present()).collect();
    let asked = run.inputs.asked();
    let scorer = Scorer {
        run,
        kept: (0..asked.len()).filter(|j| profile.teachers.contains(&asked[*j])).collect(),
        asked,
        pooled,
        support: Support::new(&profile.profiles),
        profiled: profiled(&profile.profiles, &run.inputs.features)?,
        student: &profile.student,
        sample_limit: sample_limit(run, profile.rows),
        schema,
        sample_schema,
        columns,
        accounts,
    };
    let empty = || Scoring { rows: 0, differences: Differences::new(scorer.asked.len()) };
    let rows = scorer.accounts.rows_of(pieces.clone());
    Fold { log: run.log, stage: "score", rows, pieces }.run(empty, |piece, state| scorer.piece(piece, state))
}

impl Scorer<'_> {
    fn piece(&self, piece: usize, state: &mut Scoring) -> Result<u64> {
        let (run, store) = (self.run, self.run.directory.store);
        let mut scores = Part::create(store, &SCORES.part(run, piece), &self.schema, Purpose::Intermediate)?;
        let mut sample =
            Part::create(store, &SAMPLE.part(run, piece), &self.sample_schema, Purpose::Intermediate)?;
        let mut rows = 0;
        let mut odd = vec![NonFinite::default(); run.inputs.features.len()];
        self.accounts.read(&self.accounts.units()[piece], &self.columns, |batch, _| {
            let block = Block::decode(&batch, &run.inputs.features, &mut odd)?;
            let (probabilities, support) = rayon::join(
                || run.inputs.score(&self.asked, &block),
                || support_of(&self.support, &self.profiled, &block),
            );
            let probabilities = probabilities?;
            state.differences.add(&probabilities.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let id = batch.column(0).clone();
            sample.write(&self.sample(&id, &block)?)?;
            scores.write(&self.batch(id, &block, &probabilities, &support)?)?;
            rows += block.rows as u64;
            Ok(())
        })?;
        state.rows += rows;
        scores.finish()?;
        sample.finish()?;
        Ok(rows)
    }

    fn batch(
        &self,
        id: ArrayRef,
        block: &Block,
        probabilities: &[Vec<f64>],
        support: &[f64],
    ) -> Result<arrow::array::RecordBatch> {
        let classes = self.run.pipeline.classes.len();
        let mut columns = vec![id];
        for p in self.kept.iter().map(|j| &probabilities[*j]) {
            columns.extend(
                (0..classes).map(|c| part::float_array(p.iter().skip(c).step_by(classes).copied().collect())),
            );
        }
        let k = self.kept.len();
        columns
            .extend((0..k).map(|j| part::float_array(support.iter().skip(j).step_by(k).copied().collect())));
        if let Some(pooled) = &self.pooled {
            let p = pooled.score(&self.run.inputs.features, block)?;
            columns.extend(
                (0..classes).map(|c| part::float_array(p.iter().skip(c).step_by(classes).copied().collect())),
            );
        }
        columns.push(part::float_array(known(block)));
        part::batch(&self.schema, columns)
    }

    /// The student's columns of the accounts in the sample.
    fn sample(&self, id: &ArrayRef, block: &Block) -> Result<arrow::array::RecordBatch> {
        let hashes = ids::hashes(id)?;
        let kept: Vec<usize> = (0..block.rows).filter(|i| hashes[*i] <= self.sample_limit).collect();
        let columns = coded_columns(self.student, &self.run.inputs.features, &block.take(&kept))?;
        let arrays = columns.into_iter().map(|c| Arc::new(Float32Array::from(c)) as ArrayRef).collect();
        part::batch(&self.sample_schema, arrays)
    }
}
