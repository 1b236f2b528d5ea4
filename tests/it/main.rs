//! All integration tests, one binary.

mod abstention;
mod advice;
mod alignment;
mod calculator;
mod commands;
mod corpus;
mod explain;
mod faults;
mod job;
mod lake_files;
mod lake_output;
mod lakehouse;
mod lost_columns;
mod model_files;
mod owners;
mod pooled;
mod predictions;
mod relevance;
mod relevance_properties;
mod report;
mod sketches;
mod start;
mod student;
mod trees;
mod units;
mod workdir;
mod worlds;

#[path = "../fuzz/parsers.rs"]
mod parsers;

#[path = "../../fixtures/lake/accounts.rs"]
mod accounts;
#[path = "../../fixtures/lake/random.rs"]
mod random;
#[path = "../../fixtures/lake/tables.rs"]
mod tables;
