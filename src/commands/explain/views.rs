//! What an explanation says, as JSON and as text.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Why an account got its class.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub status: &'static str,
    pub pipeline: String,
    pub date: String,
    pub run_id: String,
    pub account: Value,
    /// The soft label.
    pub label: Opinion,
    /// What `classification` says.
    pub decision: Decision,
    pub support: f64,
    /// Bits by which the teachers are apart.
    pub disagreement: f64,
    /// What moved the base rate.
    pub base_rate: String,
    pub rivals: Vec<Rival>,
    /// By weight.
    pub teachers: Vec<TeacherView>,
}

/// Probabilities, and the class of the largest.
#[derive(Debug, Clone, Serialize)]
pub struct Opinion {
    pub class: String,
    pub p: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
pub struct Decision {
    pub decision: String,
    pub reason: Option<String>,
    /// The student, or `fused` where the soft label decided.
    pub by: String,
    pub confidence: f64,
    #[serde(flatten)]
    pub said: Opinion,
}

#[derive(Debug, Serialize)]
pub struct Rival {
    pub name: &'static str,
    pub agrees: bool,
    #[serde(flatten)]
    pub said: Opinion,
}

/// What one teacher said, what that counted, and why.
#[derive(Debug, Serialize)]
pub struct TeacherView {
    pub teacher: String,
    pub scenario: String,
    /// The teacher that this one repeats; it was not asked then.
    pub same_as: Option<String>,
    pub weight: f64,
    pub raw: Opinion,
    /// As it entered the gate: calibrated, and moved to the common level where teachers are aligned.
    pub calibrated: Opinion,
    /// s_k(x): how much the account looks like the teacher's history, beside all scenarios. The pooled teacher
    /// has none, like all that follows from a history of its own.
    pub support: Option<f64>,
    /// Features that make the account like the teacher's history, and unlike it, with what each adds to the
    /// support.
    pub like: Vec<FeatureView>,
    pub unlike: Vec<FeatureView>,
    /// Mean distance of the history from the target in bits, and the features that are closest and furthest.
    pub target_js: Option<f64>,
    pub target_near: Vec<FeatureDistance>,
    pub target_far: Vec<FeatureDistance>,
    /// The soft label had this teacher never been asked.
    pub without: Opinion,
    pub changes_class: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureView {
    pub feature: String,
    pub value: Value,
    /// Its bin in words.
    pub bin: String,
    pub adds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureDistance {
    pub feature: String,
    pub js: f64,
}
