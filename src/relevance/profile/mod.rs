//! How the features of a scenario are distributed, on bins that all scenarios share.

pub mod bins;
pub mod categories;
pub mod distance;
pub mod known;
pub mod numbers;
pub mod profiles;
pub mod support;
