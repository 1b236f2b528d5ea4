//! Model files and what evaluates them: tree ensembles of LightGBM, XGBoost and ONNX on one engine, ONNX's
//! format.

pub mod onnx_proto;
pub mod trees;
