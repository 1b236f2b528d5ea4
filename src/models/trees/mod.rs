//! Tree ensembles: the files that LightGBM and XGBoost write, and ONNX graphs of trees, read into one neutral
//! form ([`ensemble::Ensemble`]), and the engine that scores it ([`engine::Engine`]).
//!
//! In: the bytes of a model file, and columns of float32. Out: probabilities, from the same leaf for every
//! row as the library that trained the model.

mod code;
pub mod engine;
pub mod ensemble;
pub mod exact;
mod kernel;
mod layout;
pub mod lightgbm;
pub mod onnx;
mod program;
mod question;
pub mod simd;
mod slab;
mod ubjson;
#[cfg(target_arch = "x86_64")]
mod x86;
pub mod xgboost;
