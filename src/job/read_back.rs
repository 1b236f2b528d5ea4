//! The last look at what is about to be published: read back, counted, its ids and probabilities summed up
//! for the gates.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray};

use crate::config::Pipeline;
use crate::error::Result;
use crate::lake::part;
use crate::lake::scan::ids;
use crate::run::directory::Directory;
use crate::run::fold::{self, State};
use crate::stages::artifacts::SCORES;

/// What a table says of its accounts, whatever their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub rows: u64,
    /// Sums of the ids' hashes and of their squares, modulo 2^64: equal for equal sets of ids.
    pub ids: (u64, u64),
    /// Rows whose probabilities are not finite, not within 0 and 1, or do not add up to one.
    pub improper: u64,
    /// The first of them: the file and the row in its batch.
    pub first_improper: Option<String>,
    /// Accounts without a class, by the reason that the table gives.
    pub reasons: BTreeMap<String, u64>,
}

/// The scores, and the tables that were made of them.
#[derive(Debug)]
pub struct Counts {
    pub scored: Count,
    /// By the table's name.
    pub tables: Vec<(&'static str, Count)>,
}

/// Reads the stages' outputs back.
pub fn verify(pipeline: &Pipeline, directory: &Directory) -> Result<Counts> {
    let table = |stage: &str, table: &str| count(&directory.stage(stage).join(table), pipeline, true);
    Ok(Counts {
        scored: count(&SCORES.folder(directory), pipeline, false)?,
        tables: vec![
            ("soft_labels", table("fuse", "soft_labels")?),
            ("classification", table("classify", "classification")?),
        ],
    })
}

fn count(folder: &Path, pipeline: &Pipeline, probabilities: bool) -> Result<Count> {
    let parts = part::list(folder)?;
    fold::over(0..parts.len(), Count::default, |part, count| {
        count.merge(count_part(&parts[part], pipeline, probabilities)?);
        Ok(())
    })
}

impl State for Count {
    fn merge(&mut self, other: Count) {
        self.rows += other.rows;
        self.ids = (self.ids.0.wrapping_add(other.ids.0), self.ids.1.wrapping_add(other.ids.1));
        self.improper += other.improper;
        let first = self.first_improper.take().into_iter().chain(other.first_improper).min();
        self.first_improper = first;
        other.reasons.into_iter().for_each(|(reason, n)| *self.reasons.entry(reason).or_default() += n);
    }
}

fn count_part(path: &Path, pipeline: &Pipeline, probabilities: bool) -> Result<Count> {
    let mut out = Count::default();
    let mut named = vec![pipeline.target.id.clone()];
    if probabilities {
        named.extend(pipeline.classes.iter().map(|c| format!("p_{c}")).chain(["reason".to_string()]));
    }
    let names: Vec<&str> = named.iter().map(String::as_str).collect();
    part::read_columns(path, Some(&names), |batch| {
        out.rows += batch.num_rows() as u64;
        for h in ids::hashes(batch.column(0))? {
            out.ids = (out.ids.0.wrapping_add(h), out.ids.1.wrapping_add(h.wrapping_mul(h)));
        }
        if probabilities {
            let p = pipeline
                .classes
                .iter()
                .map(|c| part::floats(&batch, &format!("p_{c}")))
                .collect::<Result<Vec<_>>>()?;
            for i in 0..batch.num_rows() {
                let sum: f64 = p.iter().map(|p| p[i]).sum();
                if (sum - 1.0).abs() > 1e-9 || !p.iter().all(|p| (0.0..=1.0).contains(&p[i])) {
                    out.improper += 1;
                    out.first_improper
                        .get_or_insert_with(|| format!("{}, row {i} of a batch", path.display()));
                }
            }
        }
        if let Some(reasons) = batch
            .column_by_name("reason")
            .filter(|c| c.null_count() < c.len())
            .and_then(|c| c.as_string_opt::<i32>())
        {
            reasons
                .iter()
                .flatten()
                .for_each(|reason| *out.reasons.entry(reason.to_string()).or_default() += 1);
        }
        Ok(())
    })?;
    Ok(out)
}
