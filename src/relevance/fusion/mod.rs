//! From the scores of all teachers on an account to one soft label.

pub mod aligned_pool;
pub mod alignment;
pub mod base_rate;
pub mod columns;
pub mod decision;
pub mod fuse;
pub mod gating;
