//! What a feature's values are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Integers, floats and booleans, or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Number,
    Category,
}
