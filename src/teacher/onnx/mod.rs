//! ONNX models, run by ONNX Runtime, whose library `make setup` installs.

mod data;
mod feed;
mod library;
mod output;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ort::session::{Session, SessionInputValue};

use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::models::onnx_facts::{Facts, facts};
use crate::models::onnx_proto;
use crate::teacher::bundle::Bundle;
use crate::teacher::encode::{Encoder, Matrix};
use crate::teacher::onnx::data::Data;
use crate::teacher::onnx::feed::Input;
use crate::teacher::onnx::library::failed;
pub use crate::teacher::onnx::output::distribution_remedy;

/// An ONNX model: its bytes, and the sessions that workers take turns with.
pub struct Onnx {
    source: Source,
    sessions: Mutex<Vec<Session>>,
    inputs: Vec<Input>,
    output: String,
    /// Rows of a run, where not all of a block are run at once.
    batch: Option<usize>,
    classes: usize,
    facts: Facts,
}

/// What a session is made of.
pub struct Source {
    pub bytes: Vec<u8>,
    /// The files with constants that the model keeps outside, by their names in it.
    pub outside: BTreeMap<String, Arc<[u8]>>,
}

/// Named inputs of one run.
type Feed = Vec<(String, SessionInputValue<'static>)>;

/// Rows of a block that are run again alone.
const COMPARED: usize = 3;
/// A probability that is further from itself when its account is alone depends on the accounts beside it.
const SAME: f64 = 1e-4;

impl Onnx {
    /// Loads the model; finds what its inputs are fed and its probability output, `[rows, classes]`, `[rows]` or `[rows, 1]`.
    pub fn load(source: Source, bundle: &Bundle, facts: Facts) -> Result<Onnx> {
        let session = open(&source)?;
        let output = output::probabilities(&session, bundle.model.output.as_deref(), &facts.producer)?;
        let (inputs, fixed) = feed::inputs(session.inputs(), bundle)?;
        // what scales by the extremes of a batch is asked about one account at a time
        let alone = facts.depends_on_batch.as_ref().map(|_| 1);
        let batch = match (fixed, bundle.model.batch) {
            (Some(fixed), Some(own)) if fixed != own => {
                return Err(Error::data(
                    "the model takes another number of rows in a run than teacher.toml says",
                )
                .with("key", "model.batch")
                .with("the file says", fixed.to_string())
                .with("teacher.toml says", own.to_string()));
            }
            (fixed, own) => fixed.or(own).or(alone),
        };
        let classes = bundle.model.classes.len();
        Ok(Onnx { source, sessions: Mutex::new(vec![session]), inputs, output, batch, classes, facts })
    }

    /// Loads a model that keeps nothing outside.
    pub fn open(bytes: Vec<u8>, bundle: &Bundle) -> Result<Onnx> {
        let facts = facts(&onnx_proto::read(&bytes)?);
        Onnx::load(Source { bytes, outside: BTreeMap::new() }, bundle, facts)
    }

    /// How the model is run, where that is not as one might think.
    pub fn note(&self) -> Option<String> {
        let rows = self.batch?;
        let why =
            self.facts.depends_on_batch.as_ref().map(|node| format!(" ({node} scales by the whole batch)"));
        let rows = if rows == 1 { "one row".to_string() } else { format!("{rows} rows") };
        Some(format!("the model is run for {rows} at a time{}", why.unwrap_or_default()))
    }

    /// Probabilities of the model's classes, row-major `[rows, classes]`, into `out`.
    pub fn predict(&self, encoder: &Encoder, block: &Block, matrix: &Matrix, out: &mut [f64]) -> Result<()> {
        let mut session = match self.sessions.lock().ok().and_then(|mut s| s.pop()) {
            Some(session) => session,
            None => open(&self.source)?,
        };
        let data = |input: &Input| input.data(encoder, block, matrix, self.facts.knows_missing);
        let data: Vec<Data> = self.inputs.iter().map(data).collect::<Result<_>>()?;
        let step = self.batch.unwrap_or(block.rows).max(1);
        for first in (0..block.rows).step_by(step) {
            let count = step.min(block.rows - first);
            let out = &mut out[first * self.classes..(first + count) * self.classes];
            self.run(&mut session, &data, (first, count, step), out)?;
        }
        if self.batch.is_none() {
            self.compare(&mut session, &data, block.rows, out)?;
        }
        if let Ok(mut sessions) = self.sessions.lock() {
            sessions.push(session);
        }
        self.check_nulls(encoder, matrix, out)
    }

    /// Runs `count` rows from `first` on in a batch of `size`.
    fn run(
        &self,
        session: &mut Session,
        data: &[Data],
        (first, count, size): (usize, usize, usize),
        out: &mut [f64],
    ) -> Result<()> {
        let feed: Feed = data
            .iter()
            .map(|d| Ok((d.name.clone(), d.tensor(first, count, size)?)))
            .collect::<Result<_>>()?;
        let outputs = session.run(feed).map_err(|e| failed("the model cannot be run", &e))?;
        let (shape, values) = output::read(&outputs, &self.output)?;
        match shape.as_slice() {
            [rows, c] if *rows == size && *c == self.classes => out.copy_from_slice(&values[..out.len()]),
            [rows] | [rows, 1] if *rows == size && self.classes == 2 => {
                for (o, v) in out.chunks_exact_mut(2).zip(values) {
                    (o[0], o[1]) = (1.0 - v, v);
                }
            }
            _ => {
                return Err(Error::data(format!(
                    "the model's output has the shape {shape:?}, [{size}, {}] is expected",
                    self.classes
                ))
                .with("output", &self.output)
                .hint("export the probabilities of all classes that teacher.toml names, a column for each"));
            }
        }
        Ok(())
    }

    /// An account's result is its own: some are run again alone.
    fn compare(&self, session: &mut Session, data: &[Data], rows: usize, out: &[f64]) -> Result<()> {
        let mut alone = vec![0.0; self.classes];
        for row in (0..rows).step_by((rows / COMPARED).max(1)).take(if rows > 1 { COMPARED } else { 0 }) {
            self.run(session, data, (row, 1, 1), &mut alone)?;
            let beside = &out[row * self.classes..(row + 1) * self.classes];
            let gap = alone.iter().zip(beside).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if gap > SAME {
                return Err(Error::data(
                    "the model's result for an account depends on the accounts beside it",
                )
                .with("difference", format!("{gap:.4}"))
                .hint(output::batch_remedy(&self.facts.producer)));
            }
        }
        Ok(())
    }

    /// Where a null has made an output that is no number, the column is named.
    fn check_nulls(&self, encoder: &Encoder, matrix: &Matrix, out: &[f64]) -> Result<()> {
        let Some(row) = out.chunks_exact(self.classes).position(|p| p.iter().any(|v| !v.is_finite())) else {
            return Ok(());
        };
        match encoder.null_of(matrix, row) {
            Some(column) => Err(feed::null_refused(column, 1)),
            None => Ok(()),
        }
    }
}

fn open(source: &Source) -> Result<Session> {
    let environment = library::environment()?;
    let built = Session::builder(environment).map_err(|e| failed("no session", &e))?;
    let mut built = built.with_intra_threads(1).map_err(|e| failed("no session", &e))?;
    for (name, bytes) in &source.outside {
        built = built
            .with_external_initializer_file_in_memory(name, bytes.clone())
            .map_err(|e| failed("its external data cannot be read", &e))?;
    }
    built
        .commit_from_memory(&source.bytes)
        .map_err(|e| failed("not an ONNX model that ONNX Runtime can load", &e))
}
