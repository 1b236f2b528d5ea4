//! The result of `check` as a table for a terminal.

use std::fmt::Write;

use serde_json::Value;

/// What `check` found, at most 80 columns wide but for long names.
pub fn render(found: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let names = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = writeln!(
        out,
        "{}: {} accounts in {} files, {} features",
        text(&found["pipeline"]),
        found["accounts"],
        found["files"],
        found["features"]
    );
    let teachers: Vec<&Value> = found["teachers"].as_array().into_iter().flatten().collect();
    let width = teachers.iter().map(|t| text(&t["name"]).len()).max().unwrap_or(0).max(7);
    let _ = writeln!(out, "\n{:width$}  {:9}  {:>9}  history", "teacher", "format", "rows");
    for t in &teachers {
        let history =
            if t["history"].as_bool().unwrap_or(false) { "yes" } else { "no: weighed by distance alone" };
        let _ = writeln!(
            out,
            "{:width$}  {:9}  {:>9}  {history}",
            text(&t["name"]),
            text(&t["format"]),
            text(&t["training_rows"])
        );
    }
    for t in &teachers {
        for note in t["notes"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "{}: {}", text(&t["name"]), text(note));
        }
    }
    if let Some(scored) = found["scored"].as_u64() {
        let _ = writeln!(out, "\n{scored} accounts were scored with every teacher, to try it.");
    }
    for (key, what) in [
        ("absent_features", "features that the target lacks"),
        ("ignored_label_columns", "label columns that are never read"),
    ] {
        if found[key].as_array().is_some_and(|a| !a.is_empty()) {
            let _ = writeln!(out, "\n{what}: {}", names(&found[key]));
        }
    }
    let _ = writeln!(
        out,
        "\na run would write to {}; next: coldstart run PIPELINE --date YYYY-MM-DD",
        text(&found["output"])
    );
    out
}
