//! D63: gates that compare with the date before, and those that count what is about to be published.

use std::fs;

use serde_json::{Value, json};

use super::orchestrator::{RUN, fewer, json_file};
use super::{Files, assert_same};
use crate::workdir::{DATE, ROWS, Ran, Workdir};

const NEXT: &str = "2026-01-02";

fn run_at(work: &Workdir, date: &str, more: &[&str]) -> Ran {
    work.coldstart(&[&["run", "../pipeline.toml", "--date", date, "--threads", "1"], more].concat())
}

fn of_date(files: Files, date: &str) -> Files {
    files.into_iter().filter(|(path, _)| path.contains(date)).collect()
}

#[test]
fn d63_a_volume_far_from_the_date_before_publishes_nothing_until_it_is_accepted() {
    let work = Workdir::new();
    let gates = ["--set", "gates.least_rows=10"];
    run_at(&work, DATE, &gates).is("published");
    let before = work.published();
    fewer(&work, 30);
    let ran = run_at(&work, NEXT, &gates);
    let error = ran.error(65);
    assert_eq!(
        (&error["gate"], error["hint"].as_str().unwrap().contains("--accept-volume")),
        (&json!("volume"), true),
        "{ran}"
    );
    let seen: Value = serde_json::from_str(error["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&seen["rows"], &seen["rows_before"], &seen["date_before"]),
        (&json!(30), &json!(ROWS), &json!(DATE)),
        "{ran}"
    );
    assert_same(&work.published(), &before, &ran);
    let metrics = json_file(&work, &format!("{}/metrics.json", RUN.replace(DATE, NEXT)));
    assert_eq!(
        (&metrics["status"], &metrics["exit"], &metrics["gates"][3]["verdict"]),
        (&json!("failed"), &json!(65), &json!("failed"))
    );

    let ran = run_at(&work, NEXT, &[&gates[..], &["--accept-volume"]].concat());
    ran.is("published");
    assert!(!ran.stderr.contains("\"done\""), "the run goes on where the gate stopped it\n{ran}");
    assert!(ran.events("publish").contains(&"a gate failed and was overridden".to_string()), "{ran}");
    let alone = Workdir::new();
    fewer(&alone, 30);
    run_at(&alone, NEXT, &[]).is("published");
    // what compares a date with earlier ones, and the record that lists it, are another matter
    let compares = ["feature_drift/", "score_drift/", "class_shares/", "_runs/"];
    let of_accounts = |work: &Workdir| {
        let mut files = of_date(work.published(), NEXT);
        files.retain(|path, _| !compares.iter().any(|table| path.starts_with(table)));
        files
    };
    assert_same(&of_accounts(&work), &of_accounts(&alone), &ran);

    // The gates are not part of the key; a date is compared with the one before it, not with a later one.
    run_at(&work, NEXT, &["--set", "gates.volume=[0.9, 1.1]"]).is("already_published");
    run_at(&work, "2025-12-31", &gates).is("published");
    assert_eq!(run_at(&work, "2026-01-03", &gates).result()["rows"], 30);
}

#[test]
fn d63_a_first_date_and_small_ones_are_not_compared() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let verdicts = |date: &str| -> Vec<Value> {
        let metrics = json_file(&work, &format!("out/_runs/couriers/ds={date}/metrics.json"));
        metrics["gates"].as_array().unwrap().iter().map(|g| g["verdict"].clone()).collect()
    };
    assert_eq!(verdicts(DATE), ["passed", "passed", "passed", "not_compared", "not_compared"]);
    fewer(&work, 12);
    run_at(&work, NEXT, &[]).is("published");
    assert_eq!(verdicts(NEXT), ["passed", "passed", "passed", "passed", "not_compared"]);
}

#[test]
fn d63_class_shares_far_from_the_date_before_likewise() {
    let work = Workdir::new();
    let gates = ["--set", "gates.least_rows=10"];
    run_at(&work, DATE, &gates).is("published");
    let before = work.published();
    let other = [&gates[..], &["--set", "target.class_shares={ fraud = 0.9 }"]].concat();
    let ran = run_at(&work, NEXT, &other);
    let error = ran.error(65);
    assert_eq!(
        (&error["gate"], error["hint"].as_str().unwrap().contains("--accept-shares")),
        (&json!("shares"), true),
        "{ran}"
    );
    assert!(error["value"].as_str().unwrap().contains("psi"), "{ran}");
    assert_same(&work.published(), &before, &ran);
    run_at(&work, NEXT, &[&other[..], &["--accept-volume"]].concat()).error(65);
    run_at(&work, NEXT, &[&other[..], &["--accept-shares"]].concat()).is("published");
}

#[test]
fn d63_an_account_that_was_lost_on_the_way_fails_the_gate_of_rows() {
    let work = Workdir::new();
    let gates = ["--set", "gates.least_rows=10"];
    run_at(&work, "2025-12-31", &gates).is("published");
    fewer(&work, 30);
    run_at(&work, DATE, &gates).error(65);
    // all stages are done; a row is taken from the last one's output, behind its record's back
    let part = work.files(RUN).into_keys().find(|f| f.starts_with("classify/classification/")).unwrap();
    let path = format!("{RUN}/{part}");
    work.change(&path, |t| t.slice(1, 29));
    let record = format!("{RUN}/classify.done");
    let mut done = json_file(&work, &record);
    let name = part.strip_prefix("classify/").unwrap();
    let digest = coldstart::lake::store::digest::file(
        &coldstart::lake::store::Real,
        &work.path(&format!("{RUN}/classify")),
        name,
    )
    .unwrap();
    let place = done["outputs"].as_array().unwrap().iter().position(|o| o["path"] == name).unwrap();
    done["outputs"][place] = serde_json::to_value(digest).unwrap();
    work.write_text(&record, &done.to_string());

    let accept = [&gates[..], &["--accept-volume"]].concat();
    let ran = run_at(&work, DATE, &accept);
    let error = ran.error(65);
    assert_eq!((&error["gate"], &error["allowed"]), (&json!("rows"), &json!("30")), "{ran}");
    assert!(of_date(work.published(), DATE).is_empty());
    // what is broken is refused as often as it is tried; --set gates.rows=warn alone still fails the gate of
    // ids
    let ran = run_at(&work, DATE, &[&accept[..], &["--set", "gates.rows=warn"]].concat());
    assert_eq!(ran.error(65)["gate"], "ids", "{ran}");
    fs::remove_file(work.path(&path)).unwrap();
    run_at(&work, DATE, &accept).is("published");
}
