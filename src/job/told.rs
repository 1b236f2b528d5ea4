//! The result of a run as a terminal shows it.

use std::fmt::Write;

use serde_json::Value;

/// A few lines of at most 80 columns, but for long names and places, from the result line.
pub fn render(line: &Value, pipeline: &str) -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = write(&mut out, line, pipeline);
    out
}

fn write(out: &mut String, line: &Value, pipeline: &str) -> std::fmt::Result {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let date = text("date");
    let status = match text("status") {
        "already_published" => "nothing to do: this was published before, with the same inputs",
        "stage_done" => "the stage is done",
        "empty" => "the target holds no account",
        _ => "published",
    };
    let rows = line["rows"].as_u64().unwrap_or(0);
    writeln!(
        out,
        "{status}: {}, {date}, {:.1} s",
        text("pipeline"),
        line["seconds"].as_f64().unwrap_or(0.0)
    )?;
    let classes: Vec<(&String, u64)> = line["classes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(c, n)| (c, n.as_u64().unwrap_or(0)))
        .collect();
    let width = classes.iter().map(|(class, _)| class.chars().count()).max().unwrap_or(0);
    for (class, n) in &classes {
        let share = *n as f64 / rows.max(1) as f64 * 100.0;
        writeln!(out, "  {class:width$}  {n:>10} accounts  {share:>5.1} %")?;
    }
    for (reason, n) in line["abstained"].as_object().into_iter().flatten() {
        writeln!(out, "  left undecided ({reason}): {n}")?;
    }
    if line["warnings"].as_u64().is_some_and(|n| n > 0) {
        writeln!(out, "warnings, above: {}", line["warnings"])?;
    }
    if let Some(table) = line["tables"]["classification"].as_str() {
        writeln!(out, "table     {table}, and others beside it")?;
    }
    if !text("report").is_empty() {
        writeln!(out, "page      {}", text("report"))?;
        writeln!(out, "why       coldstart explain {pipeline} --date {date} ACCOUNT")?;
        writeln!(out, "to label  coldstart advise {pipeline} --date {date} --labels 50 -o batch.csv")?;
    }
    Ok(())
}
