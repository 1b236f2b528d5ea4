//! coldstart: turns the classifiers of related scenarios into the classifier of a new scenario in which no
//! account is labelled.
//!
//! Imports point one way, from the top of this table to its bottom; `tests/layers.py` fails on any other.
//!
//! | floor | module | what it holds |
//! |---|---|---|
//! | process | [`cli`] | arguments in, exit code out |
//! | job, commands | [`job`], [`commands`], [`report`] | the order of a run up to publication; the commands beside it; the page that people read |
//! | stages | [`stages`] | the six steps; they meet through the artefacts that each leaves in the run directory |
//! | inputs | [`sources`], [`run`] | teachers, histories and labels as a run opens them; the run directory |
//! | teachers | [`teacher`] | bundles, encodings, scores |
//! | settings | [`config`] | the pipeline file |
//! | change | [`drift`] | what is kept of a date, and how far the next one is from it |
//! | methods | [`student`], [`relevance`] | fitting to soft labels, which teacher to believe |
//! | data | [`models`], [`features`], [`lake`] | model files and tree engine, feature columns, tables in and out |
//! | vocabulary | [`process`], [`error`] | cancellation, memory, log, errors with exit codes |

// A library does not panic: what cannot be is an error that says so (exit 70). Tests may.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod cli;
pub mod commands;
pub mod config;
pub mod drift;
pub mod error;
pub mod features;
pub mod job;
pub mod lake;
pub mod models;
pub mod process;
pub mod relevance;
pub mod report;
pub mod run;
pub mod sources;
pub mod stages;
pub mod student;
pub mod teacher;
