//! The defaults of a pipeline file, and what is said of them, from the one commented file in which they stand.

use toml::Table;

use crate::error::{Error, Result};

const TEXT: &str = include_str!("../../pipelines/defaults.toml");

/// Every default, by section.
pub fn table() -> Result<Table> {
    TEXT.parse().map_err(|e| Error::bug(format!("pipelines/defaults.toml: {e}")))
}

/// The comment of each key, also of one that is only shown there, with its dotted path; lines below it that hold
/// nothing but a comment go on with it.
pub fn comments() -> Vec<(String, String)> {
    let mut section = "";
    let mut found: Vec<(String, String)> = Vec::new();
    for line in TEXT.lines() {
        let (before, comment) = line.split_once(" # ").unwrap_or((line, ""));
        let setting = before.strip_prefix("# ").unwrap_or(before).split_once(" = ");
        if let Some((name, _)) = before.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name;
            found.push((section.to_string(), comment.to_string()));
        } else if let Some((key, _)) = setting.filter(|(key, _)| !section.is_empty() && !key.contains(' ')) {
            found.push((format!("{section}.{key}"), comment.to_string()));
        } else if let Some((_, last)) = found.last_mut().filter(|_| before.trim().is_empty()) {
            *last = format!("{last} {comment}");
        }
    }
    found.retain(|(_, comment)| !comment.trim().is_empty());
    found
}
