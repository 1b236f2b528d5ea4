//! The one loop over rows: every stage that goes through the accounts is a function of a piece of rows and of
//! what the stages before it left, and a state that merges exactly.
//!
//! A piece is what [`crate::lake::scan`] cuts files into: row groups of one file. What a stage writes of it is a
//! file of its own, named by the number of the piece; what it learns is added to a state. Since states merge
//! exactly and in any order, neither the number of threads nor the cut into units of work reaches a byte of
//! the output.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::process::cancel;
use crate::process::log::Log;
use crate::relevance::fusion::alignment::Sample;
use crate::relevance::fusion::base_rate::ShiftSums;
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::sources::sketch::Sketch;

/// What has been learned of some rows. Merging is exact, associative and commutative.
pub trait State: Send {
    /// Adds what was learned of other rows.
    fn merge(&mut self, other: Self);
}

impl State for () {
    fn merge(&mut self, (): ()) {}
}

/// Counts of rows.
impl State for u64 {
    fn merge(&mut self, other: u64) {
        *self += other;
    }
}

/// Sketches of the same features.
impl State for Vec<Sketch> {
    fn merge(&mut self, other: Vec<Sketch>) {
        self.par_iter_mut().zip(&other).for_each(|(a, b)| a.merge(b));
    }
}

impl<A: State, B: State> State for (A, B) {
    fn merge(&mut self, other: (A, B)) {
        self.0.merge(other.0);
        self.1.merge(other.1);
    }
}

impl State for ExactMeans {
    fn merge(&mut self, other: ExactMeans) {
        ExactMeans::merge(self, &other);
    }
}

impl State for ShiftSums {
    fn merge(&mut self, other: ShiftSums) {
        ShiftSums::merge(self, &other);
    }
}

impl State for Sample {
    fn merge(&mut self, other: Sample) {
        Sample::merge(self, other);
    }
}

/// What a stage does with each piece of some rows.
pub struct Fold<'a> {
    pub log: &'a Log,
    /// The stage, for its progress bar.
    pub stage: &'static str,
    /// Rows of all pieces, as far as they are known.
    pub rows: u64,
    pub pieces: Range<usize>,
}

impl Fold<'_> {
    /// As [`over`], with a bar: `each` returns how many rows its piece had.
    pub fn run<S: State>(
        self,
        empty: impl Fn() -> S + Sync,
        each: impl Fn(usize, &mut S) -> Result<u64> + Sync,
    ) -> Result<S> {
        let bar = self.log.progress(self.stage, self.rows);
        let folded = over(self.pieces, empty, |piece, state| each(piece, state).map(|rows| bar.inc(rows)));
        bar.finish_and_clear();
        folded
    }
}

/// Folds pieces side by side: each thread takes the next piece that nobody has and adds to a state of its own,
/// so that there are no more states than threads. Of several errors the one of the first piece is returned.
pub fn over<S: State>(
    pieces: Range<usize>,
    empty: impl Fn() -> S + Sync,
    each: impl Fn(usize, &mut S) -> Result<()> + Sync,
) -> Result<S> {
    let next = AtomicUsize::new(pieces.start);
    let failed = AtomicUsize::new(usize::MAX);
    let worker = |_| -> std::result::Result<S, (usize, Error)> {
        let mut state = empty();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces.end || piece > failed.load(Ordering::Relaxed) {
                return Ok(state);
            }
            if let Err(e) = cancel::check().and_then(|()| each(piece, &mut state)) {
                failed.fetch_min(piece, Ordering::Relaxed);
                return Err((piece, e));
            }
        }
    };
    let workers = rayon::current_num_threads().min(pieces.len());
    let states: Vec<_> = (0..workers).into_par_iter().with_max_len(1).map(worker).collect();
    let (mut whole, mut first) = (None::<S>, None::<(usize, Error)>);
    for state in states {
        match state {
            Ok(state) => match &mut whole {
                Some(whole) => whole.merge(state),
                None => whole = Some(state),
            },
            Err(e) if first.as_ref().is_none_or(|f| e.0 < f.0) => first = Some(e),
            Err(_) => {}
        }
    }
    match first {
        Some((_, e)) => Err(e),
        None => Ok(whole.unwrap_or_else(empty)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_taken_once_and_the_first_error_wins() {
        let add = |i: usize, sum: &mut u64| {
            *sum += i as u64;
            Ok(())
        };
        assert_eq!(over(3..1000, || 0u64, add).unwrap(), (3..1000).sum::<u64>());
        assert_eq!(over(3..3, || 7u64, |_, _| Ok(())).unwrap(), 7);
        let failing = |i: usize, _: &mut u64| match i {
            0..40 => Ok(()),
            i => Err(Error::data(format!("piece {i}"))),
        };
        assert_eq!(over(0..1000, || 0u64, failing).unwrap_err().message(), "piece 40");
    }
}
