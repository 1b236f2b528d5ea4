//! Tables in and out: which files are meant, account features as batches and columns, parts written, partitions published.

pub mod accounts;
pub mod bridge;
pub mod column;
pub mod filter;
mod footer;
pub mod ids;
pub mod locate;
pub mod part;
pub mod publish;
