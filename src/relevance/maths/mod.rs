//! Probabilities, Newton's method, sums that do not depend on their order.

pub mod exact_sum;
pub mod newton;
pub mod probability;
