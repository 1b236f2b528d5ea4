//! What the whole process shares: whether it is asked to stop, how much memory it may hold, what it logs.

pub mod cancel;
pub mod log;
pub mod memory;
pub mod secrets;
