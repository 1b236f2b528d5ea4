//! The page that people read, and the tables of what changed from date to date.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use crate::workdir::{DATE, ROWS, Workdir, floats, read, table, texts, with};

const PAGE: &str = "out/_runs/couriers/ds=2026-01-01/report.html";
/// What a mail takes.
const LARGEST: usize = 2 << 20;

fn text(work: &Workdir, path: &str) -> String {
    String::from_utf8(work.bytes(path)).expect("text")
}

/// A partition of a table with one part.
fn part(work: &Workdir, table: &str, date: &str) -> RecordBatch {
    let folder = format!("out/{table}/ds={date}");
    let files = work.files(&folder);
    read(&work.path(&format!("{folder}/{}", files.keys().next().expect("a part"))))
}

#[test]
fn every_run_leaves_a_page_that_stands_alone() {
    let work = Workdir::new();
    let ran = work.run(&[]);
    let named = ran.is("published").result()["report"].as_str().expect("a place").to_string();
    assert_eq!(
        std::fs::canonicalize(work.path("cwd").join(&named)).expect("a page"),
        std::fs::canonicalize(work.path(PAGE)).expect("a page")
    );
    let page = text(&work, PAGE);
    assert!(page.len() < LARGEST, "{} bytes", page.len());
    for reach in ["http:", "https:", "src=", "url(", "<script", "@import"] {
        assert!(!page.contains(reach), "the page reaches out: {reach}");
    }
    assert!(page.contains(&format!("{ROWS} accounts have a label:")), "the first sentence");
    for said in [
        "bazaar",
        "wallet",
        "studio",
        "legit",
        "fraud",
        "Features that moved",
        "class=\"h",
        "What it looks at most",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("NaN") && !page.contains("undefined"), "every number is one");
    // made again from tables and records alone, the bytes are the same
    work.coldstart(&["report", "../pipeline.toml", "--date", DATE, "-o", "../page.html"]).is("reported");
    assert!(text(&work, "page.html") == page, "another page");
    work.coldstart(&["report", "../pipeline.toml", "--date", "2026-01-02"]).error(66);
    work.coldstart(&["report", "../pipeline.toml", "--date", DATE, "-o", "../lake"]).error(73);
}

#[test]
fn labels_that_arrive_stand_beside_what_was_said_without_them() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let (ids, classes) = {
        let batch = work.published_table("classification");
        (texts(&batch, "account_id"), texts(&batch, "class"))
    };
    let label = |(i, class): (usize, &Option<String>)| {
        if i % 4 == 0 { Some("fraud".to_string()) } else { class.clone() }
    };
    let labels: Vec<Option<String>> = classes.iter().enumerate().map(label).collect();
    let right = labels.iter().zip(&classes).filter(|(a, b)| a == b).count();
    let columns: Vec<(String, ArrayRef)> = vec![
        ("account_id".into(), Arc::new(StringArray::from(ids))),
        ("label".into(), Arc::new(StringArray::from(labels))),
    ];
    work.write_table("lake/arrived.parquet", &table(columns));
    let said = work.coldstart(&[
        "evaluate",
        "../pipeline.toml",
        "--date",
        DATE,
        "--labels",
        "../lake/arrived.parquet",
    ]);
    assert!(
        said.is("evaluated").result()["report"].as_str().is_some_and(|r| r.ends_with("report.html")),
        "{said}"
    );
    let page = text(&work, PAGE);
    assert!(
        page.contains("Labels that arrived")
            && page.contains(&format!("{:.1}\u{a0}%", 100.0 * right as f64 / ROWS as f64))
    );
}

#[test]
fn twelve_dates_of_a_lake_whose_devices_age_show_which_feature_moved() {
    let work = Workdir::new();
    let base = work.target();
    let numeric = "account_age_days";
    let ages = floats(&base, numeric);
    let spread = ages.iter().copied().fold(0.0, f64::max);
    let dates: Vec<String> = (1..=12).map(|day| format!("2026-03-{day:02}")).collect();
    for (day, date) in dates.iter().enumerate() {
        let aged = ages.iter().map(|a| a + 0.15 * day as f64 * spread).collect::<Float64Array>();
        work.write_target(&[with(&base, numeric, Arc::new(aged))], 64);
        let run = ["run", "../pipeline.toml", "--date", date, "--threads", "1"];
        work.coldstart(&run).is("published");
    }
    let mut over_dates = Vec::new();
    for (day, date) in dates.iter().enumerate() {
        let drift = part(&work, "feature_drift", date);
        let (names, against, js) = (texts(&drift, "feature"), texts(&drift, "against"), floats(&drift, "js"));
        let first = |i: &usize| against[*i].as_deref() == Some("first");
        let moved: Vec<usize> = (0..names.len()).filter(first).filter(|i| js[*i] > 1e-9).collect();
        let names_moved: Vec<&str> = moved.iter().filter_map(|i| names[*i].as_deref()).collect();
        assert_eq!(names_moved, if day == 0 { vec![] } else { vec![numeric] }, "{date}");
        over_dates.push(moved.first().map_or(0.0, |i| js[*i]));
        let previous = texts(&drift, "against_date");
        let expected = day.checked_sub(1).map(|d| dates[d].clone());
        let found = (0..names.len())
            .find(|i| against[*i].as_deref() == Some("previous"))
            .and_then(|i| previous[i].clone());
        assert_eq!(found, expected, "{date}");
    }
    assert!(over_dates.windows(2).all(|w| w[1] > w[0] - 0.02) && over_dates[11] > 0.5, "{over_dates:?}");
    let last = part(&work, "feature_drift", &dates[11]);
    let unknown = floats(&last, "unknown_share");
    assert!(unknown.iter().copied().fold(0.0, f64::max) > 0.5, "beyond what the first date had: {unknown:?}");
    let shares = part(&work, "class_shares", &dates[11]);
    assert!((floats(&shares, "share")[..2].iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let page = text(&work, "out/_runs/couriers/ds=2026-03-12/report.html");
    assert!(page.contains("Since earlier dates") && page.contains("2026-03-01") && page.contains(numeric));
    // an alert on demand: the same table, a threshold, an exit code
    let drift = |more: &[&str]| {
        work.coldstart(&[&["drift", "../pipeline.toml", "--date", "2026-03-12"], more].concat())
    };
    drift(&[]).is("compared");
    let alarmed = drift(&["--against", "first", "--max-psi", "0.25"]).error(65);
    assert_eq!(alarmed["column"], numeric);
    drift(&["--against", "first", "--max-psi", "100"]).is("compared");
}
