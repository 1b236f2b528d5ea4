//! The last look at what is about to be published: read back, counted, its ids and probabilities checked.

use std::path::Path;

use rayon::prelude::*;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::lake::{ids, part};
use crate::run::directory::Directory;

/// What a table says of its accounts, whatever their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    rows: u64,
    /// Sums of the ids' hashes and of their squares, modulo 2^64: equal for equal sets of ids.
    ids: (u64, u64),
}

/// Refuses to publish (70) unless both tables hold the scored accounts, once each, with probabilities that add up to one.
pub fn verify(pipeline: &Pipeline, directory: &Directory, rows: u64) -> Result<()> {
    let scored = count(&directory.stage("score").join("scores"), pipeline, false)?;
    for (stage, table) in [("fuse", "soft_labels"), ("classify", "classification")] {
        let found = count(&directory.stage(stage).join(table), pipeline, true)?;
        if found != scored || found.rows != rows {
            return Err(Error::bug("a table does not hold every account once")
                .with("table", table)
                .value(format!("{found:?}, scored {scored:?}")));
        }
    }
    Ok(())
}

fn count(folder: &Path, pipeline: &Pipeline, probabilities: bool) -> Result<Count> {
    let counts: Vec<Count> = part::list(folder)?.par_iter().map(|path| count_part(path, pipeline, probabilities)).collect::<Result<_>>()?;
    Ok(counts.into_iter().fold(Count::default(), |a, b| Count {
        rows: a.rows + b.rows,
        ids: (a.ids.0.wrapping_add(b.ids.0), a.ids.1.wrapping_add(b.ids.1)),
    }))
}

fn count_part(path: &Path, pipeline: &Pipeline, probabilities: bool) -> Result<Count> {
    let mut out = Count::default();
    part::read(path, |batch| {
        out.rows += batch.num_rows() as u64;
        for h in ids::hashes(batch.column(0))? {
            out.ids = (out.ids.0.wrapping_add(h), out.ids.1.wrapping_add(h.wrapping_mul(h)));
        }
        if probabilities {
            let p = pipeline.classes.iter().map(|c| part::floats(&batch, &format!("p_{c}"))).collect::<Result<Vec<_>>>()?;
            for i in 0..batch.num_rows() {
                let sum: f64 = p.iter().map(|p| p[i]).sum();
                if (sum - 1.0).abs() > 1e-9 || !p.iter().all(|p| (0.0..=1.0).contains(&p[i])) {
                    return Err(Error::bug("probabilities that do not add up to one").file(path).with("row", i.to_string()));
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}
