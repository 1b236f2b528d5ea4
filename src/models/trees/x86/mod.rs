//! The inner loops in vector instructions, and which of them the processor at hand has. All unsafe code of the
//! engine is here: calls of functions that need a processor with certain features, which a value of [`Avx512`] or
//! [`Avx2`] proves to be there, loads and stores of whole vector registers, and gathers.

mod avx2;
mod avx512;

use crate::models::trees::kernel::Task;

/// A processor with AVX-512 (F, BW, DQ).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512(());

/// A processor with AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

impl Avx512 {
    /// This processor, if it is one.
    pub fn detect() -> Option<Avx512> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        found.then_some(Avx512(()))
    }

    /// Runs a task compiled for it.
    pub fn run<T: Task>(self, task: T) {
        // SAFETY: `self` comes from `detect`
        unsafe { run_avx512(task) }
    }
}

impl Avx2 {
    /// This processor, if it is one.
    pub fn detect() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    /// Runs a task compiled for it.
    pub fn run<T: Task>(self, task: T) {
        // SAFETY: `self` comes from `detect`
        unsafe { run_avx2(task) }
    }

    /// Calls `work`, compiled for it with everything in it that is inlined.
    pub fn call<R>(self, work: impl FnOnce() -> R) -> R {
        // SAFETY: `self` comes from `detect`
        unsafe { with_avx2(work) }
    }
}

/// Calls `work`, compiled for AVX2.
#[target_feature(enable = "avx2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn run_avx512<T: Task>(task: T) {
    task.run::<avx512::Wide>();
}

#[target_feature(enable = "avx2")]
fn run_avx2<T: Task>(task: T) {
    task.run::<avx2::Half>();
}
