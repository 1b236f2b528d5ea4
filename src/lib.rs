//! coldstart: turns the classifiers of related scenarios into the classifier of a new scenario in which no account is labelled.
//!
//! The process ([`cli`]) runs a job ([`run`]), which calls the [`stages`] in their order; stages meet through tables in the run
//! directory and use the maths ([`relevance`], [`student`], [`teacher`]) and the tables on disk ([`lake`]).

pub mod cli;
pub mod config;
pub mod error;
pub mod lake;
pub mod relevance;
pub mod run;
pub mod stages;
pub mod student;
pub mod teacher;
