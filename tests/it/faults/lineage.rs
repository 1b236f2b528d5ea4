//! F83: every attempt has a START and one end, whatever happens to it.

use std::fs;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::orchestrator::RUN;
use super::{assert_same, discreet, reference};
use crate::workdir::{DATE, ROWS, Ran, Workdir};

/// The events of all attempts, checked one by one against what OpenLineage's specification demands.
pub fn events(work: &Workdir) -> Vec<Value> {
    let text = String::from_utf8(work.bytes(&format!("{RUN}/openlineage.jsonl"))).unwrap();
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for event in &events {
        let id = event["run"]["runId"].as_str().unwrap();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert!(groups == [8, 4, 4, 4, 12] && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
        assert!(event["eventTime"].as_str().unwrap().ends_with('Z'), "{event}");
        for (place, keys) in [("", &["producer", "schemaURL"][..]), ("/job", &["namespace", "name"])] {
            keys.iter()
                .for_each(|key| assert!(event.pointer(place).unwrap()[key].is_string(), "{key}: {event}"));
        }
        for dataset in ["inputs", "outputs"].iter().flat_map(|k| event[k].as_array().unwrap()) {
            assert!(
                dataset["namespace"] == "file" && dataset["name"].as_str().unwrap().starts_with('/'),
                "{dataset}"
            );
        }
        assert_eq!(event["run"]["facets"]["nominalTime"]["nominalStartTime"], format!("{DATE}T00:00:00Z"));
    }
    events
}

/// The last event of each attempt, in the order of their starts; each has one START and one end.
pub fn ends(work: &Workdir) -> Vec<String> {
    let events = events(work);
    let of = |kinds: &[&str]| -> Vec<(String, String)> {
        let name = |e: &Value, key: &str| e.pointer(key).and_then(Value::as_str).unwrap().to_string();
        let all = events.iter().map(|e| (name(e, "/run/runId"), name(e, "/eventType")));
        all.filter(|(_, kind)| kinds.contains(&kind.as_str())).collect()
    };
    let (starts, ends) = (of(&["START"]), of(&["COMPLETE", "FAIL", "ABORT"]));
    assert_eq!(starts.len() + ends.len(), events.len());
    let end = |id: &String| -> String {
        let found: Vec<&String> = ends.iter().filter(|(e, _)| e == id).map(|(_, kind)| kind).collect();
        assert_eq!(found.len(), 1, "the attempt {id} has one end: {found:?}");
        found[0].clone()
    };
    let found: Vec<String> = starts.iter().map(|(id, _)| end(id)).collect();
    assert_eq!(found.len(), ends.len());
    found
}

#[test]
fn f83_every_attempt_has_a_start_and_one_end() {
    let work = Workdir::new();
    let parent = "http://airflow/main/dag.task/0192d1a4-5a2e-7c7f-8f3a-0123456789ab";
    let attempt = |more: &[&str]| {
        let mut command =
            work.command(&[&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"], more].concat());
        command.env("OPENLINEAGE_PARENT_ID", parent).env("OPENLINEAGE_NAMESPACE", "risk");
        Ran::start(command).finish()
    };
    attempt(&["--set", "target.accounts=lake/nowhere"]).error(66);
    attempt(&["--max-memory", "2M"]).error(75);
    // killed: no handler runs, and the next attempt says how it ended
    let command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    let ran =
        Ran::halted_at(command, ("score", "done"), |process| kill_process(process, Signal::KILL).unwrap());
    assert_eq!(ran.code, None, "{ran}");
    let ran = attempt(&[]);
    ran.is("published");
    discreet(&ran, &work);
    attempt(&[]).is("already_published");
    attempt(&["--set", "student.seed=9"]).error(65);
    assert_eq!(ends(&work), ["FAIL", "FAIL", "ABORT", "COMPLETE", "COMPLETE", "FAIL"]);

    let events = events(&work);
    let last = |kind: &str| events.iter().rev().find(|e| e["eventType"] == kind).unwrap();
    let complete = last("COMPLETE");
    assert_eq!(
        complete["run"]["facets"]["parent"]["job"],
        json!({"namespace": "http://airflow/main", "name": "dag.task"})
    );
    assert_eq!(
        (&complete["job"]["namespace"], &complete["job"]["name"]),
        (&json!("risk"), &json!("couriers"))
    );
    let table = complete["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|o| o["name"].as_str().unwrap().ends_with("/classification"))
        .unwrap();
    assert_eq!(table["outputFacets"]["outputStatistics"]["rowCount"], ROWS);
    let fields: Vec<&str> = table["facets"]["schema"]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["name"].as_str().unwrap())
        .collect();
    assert!(["account_id", "class", "p_fraud", "ds"].iter().all(|f| fields.contains(f)), "{fields:?}");
    assert!(last("FAIL")["run"]["facets"]["errorMessage"]["message"].as_str().unwrap().contains("--replace"));
    assert!(complete["inputs"].as_array().unwrap().len() == 4);
}

#[test]
fn f83_a_lost_race_for_the_lock_is_an_attempt_of_its_own() {
    let work = Workdir::new();
    let command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    let ran = Ran::halted_at(command, ("profile", "done"), |_| drop(work.run(&[]).error(75)));
    ran.is("published");
    let mut found = ends(&work);
    found.sort();
    assert_eq!(found, ["COMPLETE", "FAIL"], "{ran}");
}

#[test]
fn f83_events_that_cannot_be_written_are_a_warning() {
    let sinks: [&dyn Fn(&Workdir); 3] = [
        &|w| fs::create_dir_all(w.path(&format!("{RUN}/openlineage.jsonl"))).unwrap(),
        &|w| {
            fs::create_dir_all(w.path(RUN)).unwrap();
            assert!(
                Command::new("mkfifo")
                    .arg(w.path(&format!("{RUN}/openlineage.jsonl")))
                    .status()
                    .unwrap()
                    .success()
            );
        },
        &|w| {
            fs::create_dir_all(w.path(RUN)).unwrap();
            std::os::unix::fs::symlink("/dev/full", w.path(&format!("{RUN}/openlineage.jsonl"))).unwrap();
        },
    ];
    for refuse in sinks {
        let work = Workdir::new();
        refuse(&work);
        let ran = work.run(&[]);
        assert_eq!(ran.result()["status"], "published");
        assert_eq!(ran.events("lineage").len(), 2, "{ran}");
        discreet(&ran, &work);
        assert_same(&work.published(), reference(), &ran);
    }
    // metrics are told the same way
    let work = Workdir::new();
    fs::create_dir_all(work.path(&format!("{RUN}/metrics.json/taken"))).unwrap();
    let ran = work.run(&[]);
    assert_eq!(ran.events("metrics"), ["could not be written"], "{ran}");
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn f83_an_event_that_a_kill_cut_short_does_not_spoil_the_next() {
    let work = Workdir::new();
    work.write_text(&format!("{RUN}/openlineage.jsonl"), "{\"eventType\":\"START\",\"run\":{\"ru");
    work.run(&[]).is("published");
    let text = String::from_utf8(work.bytes(&format!("{RUN}/openlineage.jsonl"))).unwrap();
    let whole: Vec<Value> = text.lines().skip(1).map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        whole.iter().map(|e| e["eventType"].as_str().unwrap()).collect::<Vec<_>>(),
        ["START", "COMPLETE"]
    );
}
