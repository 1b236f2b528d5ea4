//! The commands beside `run`: what a teacher's owner shares, and what is measured when labels arrive.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use serde_json::Value;

use crate::workdir::{DATE, ROWS, Workdir, floats, table, texts};

#[test]
fn a_sketch_stands_for_a_history_whose_rows_may_not_leave_their_owner() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let with_rows = floats(&work.published_table("relevance"), "js");
    let sketch = [
        "profile",
        "../teachers/bazaar/history.parquet",
        "--leave-out",
        "label",
        "--leave-out",
        "held_out",
        "-o",
        "../teachers/bazaar/sketch.json",
    ];
    work.coldstart(&sketch).is("profiled");
    let text = String::from_utf8(work.bytes("teachers/bazaar/sketch.json")).expect("text");
    let sketched: Value = serde_json::from_str(&text).expect("JSON");
    for (name, feature) in sketched["features"].as_object().expect("features") {
        let cells = feature["number"]["values"].as_array().map_or(0, Vec::len);
        assert!(cells <= 241, "{name} has {cells} values");
    }
    work.edit("teachers/bazaar/teacher.toml", "accounts = \"history.parquet\"", "profile = \"sketch.json\"");
    work.run(&["--replace"]).is("published");
    let relevance = work.published_table("relevance");
    let (names, js, weight) =
        (texts(&relevance, "teacher"), floats(&relevance, "js"), floats(&relevance, "weight"));
    assert!((weight.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let bazaar = names.iter().position(|n| n.as_deref() == Some("bazaar")).expect("bazaar");
    let nearest = with_rows.iter().map(|v| (v - js[bazaar]).abs()).fold(f64::INFINITY, f64::min);
    assert!(nearest < 0.02, "a sketch keeps the distance: {} among {with_rows:?}", js[bazaar]);
}

#[test]
fn labels_that_arrive_are_measured_beside_what_was_estimated() {
    let work = Workdir::new();
    let labels = |class: &dyn Fn(usize, &str) -> String| {
        let ids: Vec<String> = texts(&work.target(), "account_id").into_iter().flatten().collect();
        let class: Vec<String> = ids.iter().enumerate().map(|(i, id)| class(i, id)).collect();
        let columns: Vec<(String, ArrayRef)> = vec![
            ("account_id".into(), Arc::new(StringArray::from(ids))),
            ("label".into(), Arc::new(StringArray::from(class))),
        ];
        work.write_table("lake/arrived.parquet", &table(columns));
    };
    labels(&|_, _| "legit".to_string());
    let evaluate = ["evaluate", "../pipeline.toml", "--date", DATE, "--labels", "../lake/arrived.parquet"];
    work.coldstart(&evaluate).error(66);
    work.run(&[]).is("published");
    let classes = texts(&work.published_table("classification"), "class");
    labels(&|i, _| classes[i].clone().expect("a class"));
    let said = work.coldstart(&evaluate);
    let measured = &said.is("evaluated").result()["classification"];
    assert_eq!((&measured["accounts"], &measured["accuracy"]), (&ROWS.into(), &1.0.into()));
    assert_eq!(measured["classes"]["fraud"]["auc"], 1.0);
    labels(&|i, _| if i == 0 { "neither".to_string() } else { "legit".to_string() });
    assert_eq!(work.coldstart(&evaluate).error(65)["value"], "neither");
}
