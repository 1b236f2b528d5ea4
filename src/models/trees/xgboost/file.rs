//! What is read of XGBoost's JSON and UBJSON, and its refusals.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::{Error, Result};

pub fn refused(message: impl Into<String>) -> Error {
    Error::data(message).with("format", "xgboost")
}

pub fn unreadable(format: &str, problem: &dyn std::fmt::Display) -> Error {
    refused(format!("the model is not XGBoost's {format}: {problem}"))
}

pub fn number(text: &str, name: &str) -> Result<usize> {
    text.parse().map_err(|_| refused(format!("`{name}` is not a count")).value(text))
}

#[derive(Deserialize)]
pub struct File {
    pub learner: Learner,
}

#[derive(Deserialize)]
pub struct Learner {
    pub learner_model_param: Parameters,
    pub objective: Objective,
    pub gradient_booster: Booster,
    #[serde(default)]
    pub attributes: HashMap<String, String>,
    #[serde(default)]
    pub feature_names: Vec<String>,
    #[serde(default)]
    pub feature_types: Vec<String>,
}

#[derive(Deserialize)]
pub struct Parameters {
    pub base_score: String,
    pub num_class: String,
    pub num_feature: String,
    #[serde(default)]
    pub num_target: Option<String>,
}

#[derive(Deserialize)]
pub struct Objective {
    pub name: String,
}

#[derive(Deserialize)]
pub struct Booster {
    pub name: String,
    #[serde(default)]
    pub model: Option<Boosted>,
    #[serde(default)]
    pub gbtree: Option<Box<Booster>>,
    #[serde(default)]
    pub weight_drop: Option<Vec<f32>>,
}

/// What a gbtree booster's `model` holds; gblinear's has weights alone.
#[derive(Deserialize)]
pub struct Boosted {
    #[serde(default)]
    pub tree_info: Vec<usize>,
    #[serde(default)]
    pub trees: Vec<Nodes>,
    #[serde(default)]
    pub iteration_indptr: Vec<usize>,
    #[serde(default, rename = "gbtree_model_param")]
    pub parameters: Option<BoostedParameters>,
    #[serde(default)]
    pub cats: Option<Categories>,
    #[serde(default)]
    pub weights: Vec<f32>,
}

#[derive(Deserialize)]
pub struct BoostedParameters {
    #[serde(default)]
    pub num_parallel_tree: String,
}

#[derive(Deserialize)]
pub struct Nodes {
    pub left_children: Vec<i32>,
    pub right_children: Vec<i32>,
    pub split_indices: Vec<u32>,
    pub split_conditions: Vec<f32>,
    pub default_left: Vec<Flag>,
    pub tree_param: TreeParameters,
    #[serde(default)]
    pub split_type: Vec<u8>,
    #[serde(default)]
    pub categories: Vec<u32>,
    #[serde(default)]
    pub categories_nodes: Vec<usize>,
    #[serde(default)]
    pub categories_segments: Vec<usize>,
    #[serde(default)]
    pub categories_sizes: Vec<usize>,
}

#[derive(Deserialize)]
pub struct TreeParameters {
    #[serde(default)]
    pub size_leaf_vector: Option<String>,
}

/// A truth value: 0 or 1 since version 1.3, a JSON boolean before.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
pub enum Flag {
    Number(u8),
    Truth(bool),
}

impl Flag {
    pub fn is_set(self) -> bool {
        matches!(self, Flag::Number(1..) | Flag::Truth(true))
    }
}

/// The names of categories, of version 3.1 and later.
#[derive(Deserialize)]
pub struct Categories {
    #[serde(default)]
    pub enc: Vec<Names>,
}

/// Names of one input's codes: the bytes of all texts and where each starts, or numbers.
#[derive(Deserialize)]
pub struct Names {
    #[serde(default)]
    pub offsets: Option<Vec<usize>>,
    #[serde(default)]
    pub values: Vec<serde_json::Number>,
}
