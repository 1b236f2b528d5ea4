//! Step 5 of 6: the student, fitted to the soft labels.
//!
//! In: the sample's features, which the score stage kept, and its soft labels. Out: the table `student`, a bundle that
//! can be a teacher later, and `fit.json`: how well the student keeps what the soft labels say, and whether
//! it passed the gate.

pub mod bundle;

use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use rayon::prelude::*;
use serde_json::json;

use crate::config::OnFailure;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::features::coded::CodedFeature;
use crate::features::column::Kind;
use crate::lake::part;
use crate::lake::scan::ids;
use crate::lake::store::files::write_json;
use crate::run::context::Run;
use crate::stages::artifacts::{COUNTED_PROFILE, Fit, Profile, SAMPLE, SCORED, SOFT_LABELS, Scored};
use crate::student::numeric::mix;
use crate::student::{self, Family, Sample, Settings};

/// Below this many accounts nothing is held out: the student is measured on what it was fitted to.
const LEAST_TO_HOLD_OUT: usize = 100;
/// Up to this many accounts the chosen student is fitted once more to all of them, held-out ones included.
const REFIT_ROWS: usize = 50_000;

/// The sample in memory.
#[derive(Default)]
struct Rows {
    columns: Vec<Vec<f32>>,
    soft: Vec<f64>,
    /// A uniform number of each id, which decides what is held out.
    hashes: Vec<u64>,
}

impl Rows {
    /// Places of the rows in the order of the ids' hashes, so that the order of the accounts does not reach the
    /// student.
    fn by_hash(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hashes.len()).collect();
        order.sort_unstable_by_key(|i| self.hashes[*i]);
        order
    }

    /// In that order; for each thread one column is there twice.
    fn in_order(self, order: &[usize], classes: usize) -> Rows {
        let columns = self.columns.into_par_iter().map(|c| order.iter().map(|i| c[*i]).collect()).collect();
        let soft = order.iter().flat_map(|i| &self.soft[i * classes..(i + 1) * classes]).copied().collect();
        Rows { columns, soft, hashes: order.iter().map(|i| self.hashes[*i]).collect() }
    }

    /// Some of the rows, column by column.
    fn columns_of(&self, rows: Range<usize>) -> Vec<&[f32]> {
        self.columns.iter().map(|c| &c[rows.clone()]).collect()
    }

    /// Those rows, whose columns these are, as a student takes them.
    fn sample<'a>(
        &'a self,
        columns: &'a [&'a [f32]],
        rows: Range<usize>,
        weights: &'a [f64],
        kinds: &'a [student::Kind],
        classes: usize,
    ) -> Sample<'a> {
        let soft = &self.soft[rows.start * classes..rows.end * classes];
        Sample { columns, kinds, soft, weights: &weights[rows], classes }
    }
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let scored = SCORED.load(run.directory)?;
    let profile = COUNTED_PROFILE.load(run.directory)?;
    let rows = read_rows(run, &scored, &profile)?;
    let kinds: Vec<student::Kind> = profile.student.iter().map(student_kind).collect();
    let n = rows.hashes.len();
    let settings = &run.pipeline.student;
    let limit = (settings.held_out_share * u64::MAX as f64) as u64;
    let held = |i: &usize| n >= LEAST_TO_HOLD_OUT && mix(settings.seed, rows.hashes[*i]) <= limit;
    let (test, train): (Vec<usize>, Vec<usize>) = rows.by_hash().into_iter().partition(held);
    let classes = run.pipeline.classes.len();
    // those to train on first, then those that are held out: a wide sample is too large to be copied
    let order = [train.as_slice(), &test].concat();
    let rows = rows.in_order(&order, classes);
    let held_out = if test.is_empty() { 0..n } else { train.len()..n };
    let weights = vec![1.0; n];
    let fitted = {
        let columns = [0..train.len(), held_out.clone()].map(|range| rows.columns_of(range));
        let train = rows.sample(&columns[0], 0..train.len(), &weights, &kinds, classes);
        let test = rows.sample(&columns[1], held_out.clone(), &weights, &kinds, classes);
        let fit = |family| student::fit(family, &train, &test, settings.seed, &Settings::default());
        match fit(settings.family) {
            Err(error) if settings.family != Family::Auto && error.kind() == ErrorKind::Data => {
                let seen = json!({"family": settings.family.name(), "error": error.to_string()});
                run.log.warn(
                    "fit",
                    "this family cannot be fitted to these accounts; the others are tried",
                    seen,
                );
                fit(Family::Auto)?
            }
            fitted => fitted?,
        }
    };
    let unseen: Vec<Vec<f32>> = rows.columns.iter().map(|c| c[held_out.clone()].to_vec()).collect();
    let mut student = fitted.student;
    if (LEAST_TO_HOLD_OUT..=REFIT_ROWS).contains(&n) {
        let back = rows.by_hash();
        let rows = rows.in_order(&back, classes);
        let columns = rows.columns_of(0..n);
        let all = rows.sample(&columns, 0..n, &weights, &kinds, classes);
        match student::fit_one(Family::parse(student.family())?, &all, settings.seed, &Settings::default()) {
            Ok(again) => student = again,
            Err(error) => {
                let seen = json!({"family": student.family(), "error": error.to_string()});
                run.log.warn("fit", "the student stays as fitted without the held-out accounts", seen);
            }
        }
    }
    let fidelity = fitted.fidelity;
    let passed = fidelity.agreement >= settings.min_agreement && fidelity.kl <= settings.max_kl;
    let tried = fitted
        .tried
        .iter()
        .map(|t| (t.family.to_string(), t.fidelity.as_ref().map(|f| f.log_loss).map_err(Clone::clone)))
        .collect();
    let names = profile.student.iter().map(|f| f.name.clone());
    let importances = names.zip(student::importance::importances(student.as_ref(), &unseen)).collect();
    let fit = Fit {
        family: student.family().to_string(),
        rows: n,
        held_out_rows: held_out.len(),
        fidelity,
        tried,
        importances,
        passed,
    };
    if !passed {
        let seen = json!({"agreement": fit.fidelity.agreement, "kl": fit.fidelity.kl});
        if settings.on_failure == OnFailure::Fail {
            return Err(Error::data("the student does not keep what the soft labels say")
                .value(seen)
                .hint("raise student.max_training_rows, choose another student.family, or set student.on_failure = \"publish_fused\""));
        }
        run.log.warn(
            "fit",
            "the student is below the fidelity gate; the soft labels' classes are published",
            seen,
        );
    }
    run.log.info("fit", "chosen", json!({"family": fit.family, "rows": n, "log_loss": fit.fidelity.log_loss, "kl": fit.fidelity.kl, "agreement": fit.fidelity.agreement}));
    let folder = run.directory.stage("fit");
    bundle::write(run, &folder.join("student"), student.as_ref(), &profile, &fit, &unseen)?;
    write_json(run.directory.store, &folder.join("fit.json"), &fit)
}

/// How the student sees a feature.
pub fn student_kind(feature: &CodedFeature) -> student::Kind {
    match feature.kind {
        Kind::Number => student::Kind::Number,
        Kind::Category => student::Kind::Category { levels: feature.levels.len() },
    }
}

/// Joins the sample's features with its soft labels: both are in the order of the accounts.
fn read_rows(run: &Run, scored: &Scored, profile: &Profile) -> Result<Rows> {
    let units = run.pieces().into_par_iter().map(|unit| read_unit(run, scored, profile, unit));
    let units: Vec<Rows> = units.collect::<Result<_>>()?;
    let mut whole = Rows::default();
    // column by column, so that at most one column of each thread is there twice
    let mut columns: Vec<Vec<Vec<f32>>> = vec![Vec::new(); profile.student.len()];
    for unit in units {
        columns.iter_mut().zip(unit.columns).for_each(|(parts, own)| parts.push(own));
        whole.soft.extend(unit.soft);
        whole.hashes.extend(unit.hashes);
    }
    whole.columns = columns.into_par_iter().map(|parts| parts.concat()).collect();
    match whole.columns.iter().all(|c| c.len() == whole.hashes.len()) {
        true => Ok(whole),
        false => Err(Error::bug("the sample's features and soft labels are of different accounts")),
    }
}

fn read_unit(run: &Run, scored: &Scored, profile: &Profile, unit: usize) -> Result<Rows> {
    let mut rows = Rows { columns: vec![Vec::new(); profile.student.len()], ..Rows::default() };
    part::read(&SAMPLE.part(run, unit), |batch| {
        for (column, array) in rows.columns.iter_mut().zip(batch.columns()) {
            let array = array
                .as_primitive_opt::<Float32Type>()
                .ok_or_else(|| Error::bug("a column of the sample is not float32"))?;
            column.extend_from_slice(array.values());
        }
        Ok(())
    })?;
    let probabilities: Vec<String> = run.pipeline.classes.iter().map(|c| format!("p_{c}")).collect();
    let id = run.inputs.accounts.field(&run.pipeline.target.id)?.name();
    let wanted: Vec<&str> =
        [id.as_str()].into_iter().chain(probabilities.iter().map(String::as_str)).collect();
    part::read_columns(&SOFT_LABELS.part(run, unit), Some(&wanted), |batch| {
        let p = probabilities.iter().map(|name| part::floats(&batch, name)).collect::<Result<Vec<_>>>()?;
        let hashes = ids::hashes(batch.column(0))?.into_iter().enumerate();
        for (i, hash) in hashes.filter(|(_, hash)| *hash <= scored.sample_limit) {
            rows.soft.extend(p.iter().map(|p| p[i]));
            rows.hashes.push(hash);
        }
        Ok(())
    })?;
    Ok(rows)
}
