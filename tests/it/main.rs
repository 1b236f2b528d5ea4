//! All integration tests, one binary.

mod faults;
mod job;
mod predictions;
mod relevance;
mod sketches;
mod student;
mod trees;
mod workdir;

#[path = "../../fixtures/lake/accounts.rs"]
mod accounts;
#[path = "../../fixtures/lake/random.rs"]
mod random;
#[path = "../../fixtures/lake/tables.rs"]
mod tables;
