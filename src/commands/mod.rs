//! The commands beside the run. None of them changes a published table.

pub mod add;
pub mod advise;
pub mod check;
pub mod check_table;
pub mod drift;
pub mod evaluate;
pub mod explain;
pub mod new;
pub mod schema;
pub mod share;
mod survey;
pub mod train_relevance;
