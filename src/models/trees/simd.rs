//! The inner loops, for the processor at hand: AVX-512 or AVX2 where they are there, else what the compiler makes
//! of plain code. All give the same bits.

use crate::models::trees::kernel::{Plain, Task};
#[cfg(target_arch = "x86_64")]
use crate::models::trees::x86;

/// What the processor can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    Plain,
}

impl Isa {
    /// All that this processor has, the best first.
    pub fn all() -> Vec<Isa> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(x86::Avx512::detect().map(Isa::Avx512));
            all.extend(x86::Avx2::detect().map(Isa::Avx2));
        }
        all.push(Isa::Plain);
        all
    }

    /// Runs a task with everything in it that is `inline(always)` compiled for this processor.
    pub fn run<T: Task>(self, task: T) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(processor) => processor.run(task),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(processor) => processor.run(task),
            Isa::Plain => task.run::<Plain>(),
        }
    }
}

/// Calls `work`: plain loops, which the compiler turns into AVX2 where the processor has it. No result depends on
/// it. `work` and what it calls have to be inlined.
#[inline(always)]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(processor) = x86::Avx2::detect() {
        return processor.call(work);
    }
    work()
}
