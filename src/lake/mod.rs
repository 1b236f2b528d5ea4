//! Tables in and out: account files as batches, parts written, partitions published, files kept safely.

pub mod bridge;
pub mod csv;
#[cfg(feature = "lakehouse")]
pub mod delta;
#[cfg(not(feature = "lakehouse"))]
#[path = "delta_absent.rs"]
pub mod delta;
pub mod input;
pub mod lease;
pub mod location;
#[cfg(feature = "lakehouse")]
pub mod objects;
#[cfg(not(feature = "lakehouse"))]
#[path = "objects_absent.rs"]
pub mod objects;
pub mod part;
pub mod publish;
pub mod scan;
pub mod store;
pub mod table;
pub mod tables;
pub mod write;
