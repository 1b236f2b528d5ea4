//! Probabilities, Newton's method, sums that do not depend on their order, arithmetic on rows side by side.

pub mod exact_sum;
pub mod newton;
pub mod probability;
pub mod real;
