//! Model files and what evaluates them: tree ensembles of LightGBM, XGBoost and ONNX on one engine, ONNX's
//! format.

pub mod linear;
pub mod onnx_facts;
pub mod onnx_proto;
pub mod said;
pub mod trees;

use linear::{Linear, LinearTrees};
use said::Said;
use trees::ensemble::Ensemble;

/// A model file of trees, read: what computes its probabilities, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Read {
    pub scorer: Scorer,
    pub said: Said,
}

/// What computes probabilities.
#[derive(Debug, Clone)]
pub enum Scorer {
    Trees(Ensemble),
    LinearTrees(LinearTrees),
    Linear(Linear),
}

/// What `teacher.toml` says of a model whose file may be silent about it.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The objective as LightGBM writes it, such as `binary sigmoid:1`.
    pub objective: Option<String>,
    /// Boosting rounds that count, from the first on.
    pub rounds: Option<usize>,
}
