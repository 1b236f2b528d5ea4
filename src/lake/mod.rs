//! Tables in and out: account files as batches, parts written, partitions published, files kept safely.

pub mod bridge;
pub mod csv;
pub mod part;
pub mod publish;
pub mod scan;
pub mod store;
