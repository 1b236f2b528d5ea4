//! A run: its identity, its directory, the order of its stages, and what is resumed.

pub mod cancel;
pub mod digest;
pub mod directory;
pub mod events;
pub mod explanation;
#[cfg(test)]
mod faults;
pub mod identity;
pub mod inputs;
pub mod job;
pub mod lineage;
pub mod memory;
pub mod metrics;
pub mod outputs;
pub mod published;
pub mod watch;
