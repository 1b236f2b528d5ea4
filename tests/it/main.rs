//! All integration tests, one binary.

mod relevance;
mod sketches;
