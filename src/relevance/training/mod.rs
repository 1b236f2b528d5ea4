//! The relevance calculator: trained with each history in turn as the target, judged the same way, saved.

pub mod calculator;
pub mod calculator_check;
pub mod estimate;
pub mod leave_one_out;
pub mod mixed;
pub mod pooled;
pub mod rehearsal;
pub mod train;
