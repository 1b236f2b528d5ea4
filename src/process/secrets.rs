//! Values that must not be said: what came from the environment is written by its name.

use std::sync::Mutex;

use serde_json::Value;

/// Values that came from the environment, by the name that the pipeline file gave.
static HIDDEN: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// From now on `value` is written as `${name}` wherever the process says something.
pub fn hide(name: &str, value: &str) {
    if let Ok(mut hidden) = HIDDEN.lock()
        && !value.is_empty()
        && !hidden.iter().any(|(n, _)| n == name)
    {
        hidden.push((name.to_string(), value.to_string()));
        // The longest first, so that no value hides a part of another.
        hidden.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    }
}

/// A line that is about to be said, without hidden values.
pub fn redact(line: &str) -> String {
    let mut line = line.to_string();
    for (name, value) in HIDDEN.lock().iter().flat_map(|h| h.iter()) {
        let escaped = Value::String(value.clone()).to_string();
        let escaped = escaped.trim_matches('"');
        for secret in [value.as_str(), escaped] {
            line = line.replace(secret, &format!("${{{name}}}"));
        }
    }
    line
}
