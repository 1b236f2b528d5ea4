//! Tree ensembles: the files that LightGBM and XGBoost write, read into one neutral form ([`ensemble::Ensemble`]), and the engine
//! that scores it ([`engine::Engine`]).
//!
//! In: the bytes of a model file, and columns of float32. Out: probabilities, from the same leaf for every row as the library that trained the model.

pub mod engine;
pub mod ensemble;
pub mod lightgbm;
mod program;
mod simd;
mod slab;
mod ubjson;
pub mod xgboost;
