//! The result of `check` as tables for a terminal.

use std::fmt::Write;

use hashbrown::HashMap;
use serde_json::Value;

use crate::process::log::{WIDTH, wrapped};

/// The widest name of a feature that is shown whole.
const WIDEST: usize = 28;
/// With more features those that fit are only counted.
const MOST_FEATURES: usize = 40;
/// So much more that a teacher does not know than in its history is worth a look.
const WORTH: f64 = 0.05;

/// What `check` found, at most 80 columns wide but for long names and many teachers.
pub fn render(found: &Value, pipeline: &str) -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = write(&mut out, found, pipeline);
    out
}

fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_string)
}

fn list(v: &Value) -> Vec<&Value> {
    v.as_array().into_iter().flatten().collect()
}

fn write(out: &mut String, found: &Value, pipeline: &str) -> std::fmt::Result {
    let names = |v: &Value| list(v).into_iter().map(text).collect::<Vec<_>>().join(", ");
    let files = if found["files"] == 1 { "1 file" } else { &format!("{} files", found["files"]) };
    writeln!(out, "{}: {} accounts in {files}", text(&found["pipeline"]), found["accounts"])?;
    let teachers = list(&found["teachers"]);
    let width = teachers.iter().map(|t| text(&t["name"]).len()).max().unwrap_or(0).max(7);
    writeln!(out, "\n      {:width$}  {:9}  {:>9}  history", "teacher", "format", "rows")?;
    for (k, t) in teachers.iter().enumerate() {
        let history =
            if t["history"].as_bool().unwrap_or(false) { "yes" } else { "no: weighed by distance alone" };
        let (name, format, rows) = (text(&t["name"]), text(&t["format"]), text(&t["training_rows"]));
        writeln!(out, "{:>4}  {name:width$}  {format:9}  {rows:>9}  {history}", k + 1)?;
    }
    features(out, &teachers)?;
    for (k, t) in teachers.iter().enumerate() {
        for note in list(&t["notes"]) {
            for (i, line) in wrapped(&text(note), WIDTH - 6).iter().enumerate() {
                let number = if i == 0 { (k + 1).to_string() } else { String::new() };
                writeln!(out, "{number:>4}  {line}")?;
            }
        }
    }
    if found["status"] == "refused" {
        return writeln!(out, "\na run would refuse the features that are missing or of another type");
    }
    if let Some(scored) = found["scored"].as_u64() {
        writeln!(out, "\n{scored} accounts were scored with every teacher, to try it")?;
    }
    for (key, what) in [
        ("absent_features", "features that the target lacks, for which `missing` stands"),
        ("ignored_label_columns", "label columns that are never read"),
    ] {
        if !list(&found[key]).is_empty() {
            writeln!(out, "{what}: {}", names(&found[key]))?;
        }
    }
    if found["pooled"] == true {
        writeln!(out, "a run trains one more teacher on all histories (relevance.pooled)")?;
    }
    writeln!(out, "a run writes its tables to {}", text(&found["output"]))?;
    writeln!(out, "next: coldstart run {pipeline} --date YYYY-MM-DD")
}

/// A row for each feature, a column for each teacher by its number; what is odd comes first.
fn features(out: &mut String, teachers: &[&Value]) -> std::fmt::Result {
    let mut rows: Vec<(String, String, String, Vec<Cell>)> = Vec::new();
    let mut places = HashMap::new();
    for (k, teacher) in teachers.iter().enumerate() {
        for feature in list(&teacher["features"]) {
            let name = text(&feature["feature"]);
            let at = *places.entry(name.clone()).or_insert_with(|| {
                let column = feature["column"].as_str().unwrap_or("-").to_string();
                let nulls = feature["nulls"].as_f64().map_or("-".to_string(), percent);
                rows.push((name, column, nulls, teachers.iter().map(|_| Cell::untaken()).collect()));
                rows.len() - 1
            });
            rows[at].3[k] = Cell::of(feature);
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.3.iter().map(|cell| cell.oddness).max()));
    let all = rows.len();
    if all > MOST_FEATURES {
        rows.retain(|row| row.3.iter().any(|cell| cell.oddness > 0));
    }
    let short = |name: &str| match name.chars().count() > WIDEST {
        true => format!("{}~", name.chars().take(WIDEST - 1).collect::<String>()),
        false => name.to_string(),
    };
    let width = rows.iter().map(|row| short(&row.0).chars().count()).max().unwrap_or(0).max(8);
    let heads: String = (0..teachers.len()).map(|k| format!("  {:>8}", k + 1)).collect();
    writeln!(out, "\n{:width$}  {:8}  {:>6}{heads}", "feature", "column", "nulls")?;
    for (name, column, nulls, cells) in &rows {
        let cells: String = cells.iter().map(|cell| format!("  {:>8}", cell.said)).collect();
        writeln!(out, "{:width$}  {column:8}  {nulls:>6}{cells}", short(name))?;
    }
    if all > rows.len() {
        writeln!(out, "and {} features that fit every teacher that takes them", all - rows.len())?;
    }
    let said = |word: &str| rows.iter().any(|row| row.3.iter().any(|cell| cell.said.contains(word)));
    for (word, means) in [
        ("fits", "fits: the teacher knows the values as well as those of its history"),
        ("new", "new: so many values are unknown to the teacher, or out of its history's range"),
        ("lost", "lost: it knows so few values that its scores are doubtful"),
        ("missing", "missing: the target has no such column"),
        ("type", "type: the teacher takes numbers and the column is text, or the reverse"),
        ("stands", "stands: the target lacks the column, the teacher's `missing` stands for it"),
    ] {
        if said(word) {
            writeln!(out, "  {means}")?;
        }
    }
    Ok(())
}

/// What a teacher thinks of a feature.
struct Cell {
    said: String,
    /// 0 where nothing is odd.
    oddness: u8,
}

impl Cell {
    fn untaken() -> Cell {
        Cell { said: ".".to_string(), oddness: 0 }
    }

    fn of(feature: &Value) -> Cell {
        let cell = |said: &str, oddness| Cell { said: said.to_string(), oddness };
        let unknown = feature["unknown"].as_f64().unwrap_or(0.0);
        let more = unknown - feature["unknown_at_home"].as_f64().unwrap_or(0.0);
        match (&feature["refused"], &feature["column"]) {
            (Value::Null, Value::Null) => cell("stands", 1),
            (Value::Null, _) if feature["lost"] == true => cell("lost", 3),
            (Value::Null, _) if more > WORTH => cell(&format!("{} new", percent(unknown)), 2),
            (Value::Null, _) => cell("fits", 0),
            (_, Value::Null) => cell("missing", 4),
            _ => cell("type", 4),
        }
    }
}

/// A share in percent; what is little but not nothing is seen.
fn percent(share: f64) -> String {
    match share {
        s if s > 0.0 && s < 0.01 => "<1%".to_string(),
        s => format!("{:.0}%", s * 100.0),
    }
}
