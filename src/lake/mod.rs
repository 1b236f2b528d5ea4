//! Tables in and out: which files are meant, account features as batches and columns, parts written, partitions published.

pub mod accounts;
pub mod bridge;
pub mod column;
pub mod filter;
pub mod footer;
pub mod ids;
pub mod kind;
pub mod locate;
pub mod part;
pub mod publish;
pub mod store;
