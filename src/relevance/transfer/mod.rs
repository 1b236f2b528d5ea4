//! What a teacher's scores are worth in a scenario that is not its own.

pub mod calibrate;
pub mod cross_loss;
pub mod duplicates;
pub mod reliability;
pub mod sources;
