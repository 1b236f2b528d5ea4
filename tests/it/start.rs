//! A start: a pipeline file that is written for a folder of bundles and a target, and label files as people make them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use serde_json::{Value, json};

use crate::workdir::{DATE, ROWS, Workdir, named_columns, read, table, texts};

fn text(work: &Workdir, path: &str) -> String {
    String::from_utf8(work.bytes(path)).expect("text")
}

#[test]
fn a_new_pipeline_runs_as_it_is_written() {
    let work = Workdir::new();
    let made = work.coldstart(&["new", ".."]).error(73);
    assert!(made["hint"].as_str().is_some_and(|h| h.contains("-o")), "{made}");
    let made = work.coldstart(&["new", "..", "-o", "../new.toml"]);
    let line = made.is("created").result();
    assert_eq!((&line["id"], &line["teachers"][0]), (&"account_id".into(), &"bazaar".into()));
    let written = text(&work, "new.toml");
    assert!(
        written.contains("accounts = \"lake/target\"") && written.contains("bundle = \"teachers/wallet\""),
        "{written}"
    );
    work.coldstart(&["check", "../new.toml"]).is("ok");
    let fast = [
        "--set",
        "student.family=logistic",
        "--set",
        "student.min_agreement=0.5",
        "--set",
        "student.max_kl=1",
    ];
    work.coldstart(&[&["run", "../new.toml", "--date", DATE], &fast[..]].concat()).is("published");
    work.coldstart(&["new", "../lake", "-o", "../other.toml"]).error(66);
}

/// The keys of a schema as dotted paths; those of a list's tables have the list's name before them.
fn keys(schema: &Value, above: &str, out: &mut Vec<String>) {
    for (name, node) in schema["properties"].as_object().expect("properties") {
        let inside = if node["items"].is_object() { &node["items"] } else { node };
        match inside["properties"].is_object() {
            true => keys(inside, &format!("{above}{name}."), out),
            false => out.push(format!("{above}{name}")),
        }
    }
}

#[test]
fn the_schemas_are_those_of_the_types_and_new_files_name_them() {
    let work = Workdir::new();
    let schema = |of: &str| {
        let said = work.coldstart(&["schema", of]);
        assert_eq!(said.code, Some(0), "{said}");
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schemas/{of}.json"));
        let kept = std::fs::read_to_string(kept).expect("the committed schema");
        assert_eq!(said.stdout, kept, "coldstart schema {of} > docs/schemas/{of}.json");
        serde_json::from_str::<Value>(&kept).expect("JSON")
    };
    let pipeline = schema("pipeline");
    let mut found = Vec::new();
    keys(&pipeline, "", &mut found);
    // each key is one that a pipeline may have: an override of it is not refused as unknown
    for key in &found {
        let key = key.replace("teachers.bundle", "teachers").replace("teachers.classes", "teachers");
        let said = work.coldstart(&["check", "../pipeline.toml", "--set", &format!("{key}=[[[1]]]")]);
        assert!(said.code != Some(0) && !said.stderr.contains("unknown key"), "{key}: {said}");
    }
    assert!(found.len() > 35 && found.contains(&"gates.least_rows".to_string()), "{found:?}");
    assert_eq!(pipeline["required"], json!(["name", "classes", "target", "teachers", "output"]));
    assert_eq!(pipeline["properties"]["target"]["required"], json!(["accounts", "id"]));
    assert_eq!(pipeline["properties"]["student"]["properties"]["max_training_rows"]["default"], 200_000);
    work.coldstart(&["new", "..", "-o", "../new.toml"]).is("created");
    assert!(text(&work, "new.toml").starts_with("#:schema ./.pipeline.schema.json\n"));
    assert_eq!(text(&work, ".pipeline.schema.json"), work.coldstart(&["schema", "pipeline"]).stdout);
    schema("bundle");
}

#[test]
fn check_shows_each_teachers_features_against_the_target() {
    let work = Workdir::new();
    let shown = work.coldstart(&["check", "../pipeline.toml", "--log-format", "text"]);
    assert!(
        shown.code == Some(0) && shown.stdout.contains("fits") && shown.stdout.contains("next:"),
        "{shown}"
    );
    let longest = shown.stdout.lines().map(|l| l.chars().count()).max();
    assert!(longest <= Some(80), "{shown}");
    let target = work.target();
    let names: Vec<String> = named_columns(&target).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|n| n == "country"), "{names:?}");
    // one column gone, one of another type, one with values that no teacher has seen
    let columns = named_columns(&target).into_iter().filter(|(name, _)| name != "country");
    let columns = columns.map(|(name, array)| match array.data_type() {
        DataType::Float64 if name != "account_id" => {
            let text: StringArray = (0..array.len()).map(|_| Some("much")).collect();
            (name, Arc::new(text) as ArrayRef)
        }
        DataType::Utf8 if name != "account_id" => {
            let text: StringArray = (0..array.len()).map(|_| Some("never seen")).collect();
            (name, Arc::new(text) as ArrayRef)
        }
        _ => (name, array),
    });
    work.write_target(&[table(columns.collect())], ROWS);
    let shown = work.coldstart(&["check", "../pipeline.toml", "--log-format", "text"]);
    let refused = shown.error(65);
    for word in ["missing", "type", "lost"] {
        assert!(shown.stderr.contains(word), "{word}: {shown}");
    }
    assert!(refused["and"].as_str().is_some_and(|and| and.contains("country of ")), "{refused}");
}

#[test]
fn a_history_that_lacks_a_class_is_refused_before_a_run() {
    let work = Workdir::new();
    let history = read(&work.path("teachers/bazaar/history.parquet"));
    let label = texts(&history, "label");
    let legit: UInt32Array =
        (0..label.len()).filter(|i| label[*i].as_deref() == Some("legit")).map(|i| Some(i as u32)).collect();
    let one = take_record_batch(&history, &legit).expect("rows");
    work.write_table("teachers/bazaar/history.parquet", &one);
    let refused = work.coldstart(&["check", "../pipeline.toml"]).error(65);
    assert_eq!((&refused["value"], &refused["teacher"]), (&"fraud".into(), &"bazaar".into()));
}

#[test]
fn a_batch_comes_back_filled_in_as_csv_and_what_is_wrong_in_it_names_the_remedy() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let advise = ["advise", "../pipeline.toml", "--date", DATE, "--labels", "40", "-o", "../batch.csv"];
    work.coldstart(&advise).is("advised");
    let batch = text(&work, "batch.csv");
    assert!(batch.starts_with("account_id,p_legit,p_fraud,disagreement,chance,label\n"), "{batch}");
    let filled = |with: &dyn Fn(usize) -> &'static str| {
        let lines: Vec<String> = batch
            .lines()
            .enumerate()
            .map(|(i, l)| if i == 0 { l.into() } else { format!("{l}{}", with(i)) })
            .collect();
        work.write_text("batch.csv", &(lines.join("\n") + "\n"));
    };
    let evaluate = ["evaluate", "../pipeline.toml", "--date", DATE, "--labels", "../batch.csv"];
    assert!(
        work.coldstart(&evaluate).error(65)["error"]
            .as_str()
            .is_some_and(|e| e.contains("no row has a label"))
    );
    filled(&|i| if i <= 30 { "fraud" } else { "" });
    assert_eq!(work.coldstart(&evaluate).is("evaluated").result()["labels"], 30);
    work.run(&["--replace", "--set", "target.labels=batch.csv"]).is("published");
    filled(&|_| "1");
    let refused = work.coldstart(&evaluate).error(65);
    assert!(
        refused["hint"].as_str().is_some_and(|h| h.contains("if 0 is legit and 1 is fraud")),
        "{refused}"
    );
    work.write_text("batch.csv", "id,label\na,fraud\n");
    assert_eq!(work.coldstart(&evaluate).error(65)["found"], "id, label");
}

#[test]
fn what_stands_in_the_place_of_something_else_is_called_by_its_name() {
    let work = Workdir::new();
    let said = work.coldstart(&["check", "../teachers/bazaar"]).error(78);
    assert!(said["hint"].as_str().is_some_and(|h| h.contains("a teacher's bundle")), "{said}");
    work.write_text("lake/accounts.csv", "account_id,age\na,1\n");
    let said = work
        .coldstart(&["check", "../pipeline.toml", "--set", "target.accounts=lake/accounts.csv"])
        .error(65);
    assert!(said["hint"].as_str().is_some_and(|h| h.contains("duckdb")), "{said}");
    let dated = work.coldstart(&["run", "../pipeline.toml", "--date", "01.02.2026"]);
    assert!(dated.code == Some(2) && dated.stderr.contains("did you mean 2026-02-01?"), "{dated}");
    work.run(&[]).is("published");
    let conflict = work.run(&["--set", "fuse.method=reference"]).error(65);
    assert_eq!(conflict["changed"], "fuse.method");
    assert_eq!(texts(&work.published_table("class_shares"), "class").len(), 2);
}
