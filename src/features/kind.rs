//! What a feature's values are.

use serde::{Deserialize, Serialize};

/// Integers, floats and booleans, or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Number,
    Category,
}
