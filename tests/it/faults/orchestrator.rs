//! F78 to F84, G86 and G88: what an orchestrator asks for. The gates and the lineage stand in files of their
//! own.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::lineage::{ends, events};
use super::{assert_same, discreet, reference};
use crate::workdir::{CANARY, DATE, PART_0, PART_1, ROWS, Ran, Workdir};

/// The run directory of [`DATE`].
pub const RUN: &str = "out/_runs/couriers/ds=2026-01-01";

pub fn json_file(work: &Workdir, path: &str) -> Value {
    serde_json::from_slice(&work.bytes(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A flag for each file that an orchestrator asks for, in `files`.
const ASKED: [&str; 6] = [
    "--xcom",
    "../files/xcom.json",
    "--outputs-dir",
    "../files/parameters",
    "--termination-log",
    "../files/termination-log",
];

fn with_files() -> Workdir {
    let work = Workdir::new();
    fs::create_dir_all(work.path("files/parameters")).unwrap();
    work
}

/// The files of Argo's parameters, and what they hold.
fn parameters(work: &Workdir) -> BTreeMap<String, String> {
    work.files("files/parameters")
        .into_iter()
        .map(|(name, text)| (name, String::from_utf8(text).unwrap()))
        .collect()
}

/// The accounts of the date after are fewer: `rows` of the target.
pub fn fewer(work: &Workdir, rows: usize) {
    work.write_target(&[work.target().slice(0, rows)], 64);
}

#[test]
fn f78_files_are_written_whole_and_replace_what_stood_there() {
    let work = with_files();
    work.write_text("files/xcom.json", &"an older and longer one\n".repeat(1000));
    let ran = work.run(&ASKED);
    let result = ran.result();
    let text = String::from_utf8(work.bytes("files/xcom.json")).unwrap();
    assert!(text == ran.stdout && text.len() < 4096, "{text}");
    let found = parameters(&work);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        result
            .as_object()
            .unwrap()
            .keys()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        (found["status"].as_str(), found["rows"].as_str(), found["date"].as_str()),
        ("published", "360", DATE)
    );
    assert_eq!(serde_json::from_str::<Value>(&found["tables"]).unwrap(), result["tables"]);
    assert!(!work.path("files/termination-log").exists());
    assert_same(&work.published(), reference(), &ran);

    work.write_text("lake/target/part-9.csv", "x");
    let before = work.files("files/parameters");
    let ran = work.run(&[&ASKED[..], &["--replace"]].concat());
    let error = ran.error(65);
    assert_eq!(json_file(&work, "files/termination-log"), error, "{ran}");
    assert!(work.files("files/parameters") == before, "a failure leaves the parameters alone");
    let left: Vec<String> = work.files("files").into_keys().filter(|f| f.contains(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn f78_what_cannot_be_written_is_73_before_any_work() {
    let work = with_files();
    work.write_text("files/file", "");
    for flag in ["--xcom", "--outputs-dir", "--termination-log"] {
        for place in ["../nowhere/at/all", "../files/file/below", "/proc/nothing", "../files"] {
            // a directory of outputs may be there; a file may not be a directory
            if flag == "--outputs-dir" && place == "../files" {
                continue;
            }
            let ran = work.run(&[flag, place]);
            let error = ran.error(73);
            assert!(
                place.starts_with(error["file"].as_str().unwrap().trim_end_matches('/')),
                "{flag} {place}\n{ran}"
            );
            assert!(ran.events("profile").is_empty() && !work.path("out").exists(), "{ran}");
        }
    }
    assert!(!work.path("nowhere").exists(), "no directory is made");
}

#[test]
fn f80_a_signal_in_any_stage_is_143_and_one_during_publication_lets_it_end() {
    let at = ["profile", "score", "relevance", "fuse", "fit", "classify"].map(|s| (s, "done"));
    for (i, place) in at.into_iter().chain([("publish", "published")]).enumerate() {
        let work = Workdir::new();
        let command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
        let signal = if i % 2 == 0 { Signal::TERM } else { Signal::HUP };
        let mut clock = Instant::now();
        let ran = Ran::halted_at(command, place, |process| {
            kill_process(process, signal).unwrap();
            clock = Instant::now();
        });
        assert!(clock.elapsed() < Duration::from_secs(10), "{ran}");
        if place.0 == "publish" {
            ran.is("published");
        } else {
            ran.error(143);
            assert!(work.published().is_empty(), "{ran}");
        }
        assert_eq!(ends(&work), [if place.0 == "publish" { "COMPLETE" } else { "ABORT" }], "{ran}");
        let again = work.run(&[]);
        assert_same(&work.published(), reference(), &again);
    }
}

/// As PID 1 of a container: without a handler the kernel would ignore the signal.
#[test]
fn f80_sigterm_is_honoured_as_pid_1() {
    // a small stand-in for a container's runtime; where it may make no process namespace there is nothing to
    // test
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let able = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", "test $$ = 1"])
        .stderr(Stdio::null())
        .status();
    if !able.is_ok_and(|s| s.success()) {
        eprintln!("no process namespace can be made here");
        return;
    }
    let honoured = || -> bool {
        let work = Workdir::new();
        let mut command = Command::new("unshare");
        command.args(namespace).arg(env!("CARGO_BIN_EXE_coldstart")).args([
            "run",
            "../pipeline.toml",
            "--date",
            DATE,
            "--threads",
            "1",
        ]);
        command.current_dir(work.path("cwd")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = Ran::halted_at(command, ("profile", "done"), |parent| {
            let children =
                fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.as_raw_nonzero())).unwrap();
            if let Some(child) =
                children.split_whitespace().next().and_then(|c| Pid::from_raw(c.parse().ok()?))
            {
                kill_process(child, Signal::TERM).unwrap();
            }
        });
        let stopped = ran.code != Some(0);
        if stopped {
            ran.error(143);
            assert!(work.published().is_empty(), "{ran}");
        }
        let again = work.run(&[]);
        assert_same(&work.published(), reference(), &again);
        stopped
    };
    // only the parent is halted: on a busy machine the job may have ended before the signal is sent
    assert!((0..10).any(|_| honoured()), "a signal stops the job");
}

#[test]
fn f81_nothing_to_do_is_0_or_99_as_flagged_and_the_files_are_written() {
    let work = with_files();
    let skip = [&ASKED[..], &["--skip-if-unchanged", "--skip-if-empty"]].concat();
    let ran = work.run(&skip);
    ran.is("published");
    let before = work.published();
    for (more, code) in [(&ASKED[..], 0), (&skip[..], 99)] {
        for (path, _) in work.files("files") {
            fs::remove_file(work.path(&format!("files/{path}"))).unwrap();
        }
        let ran = work.run(more);
        assert_eq!(ran.line(code)["status"], "already_published", "{ran}");
        assert_eq!(
            (parameters(&work)["status"].as_str(), parameters(&work)["rows"].as_str()),
            ("already_published", "360"),
            "{ran}"
        );
        assert_eq!(json_file(&work, "files/xcom.json"), ran.line(code));
        assert!(!work.path("files/termination-log").exists());
        assert_same(&work.published(), &before, &ran);
    }
    // no file, no row, no row left
    let empty: [&dyn Fn(&Workdir); 3] = [
        &|w| [PART_0, PART_1].iter().for_each(|p| fs::remove_file(w.path(p)).unwrap()),
        &|w| fewer(w, 0),
        &|w| {
            w.edit(
                "pipeline.toml",
                "[[teachers]]\nbundle = \"teachers/bazaar\"",
                "where = \"country = 'nowhere'\"\n[[teachers]]\nbundle = \"teachers/bazaar\"",
            )
        },
    ];
    for break_it in empty {
        let work = with_files();
        break_it(&work);
        work.run(&ASKED).error(65);
        let ran = work.run(&skip);
        assert_eq!((&ran.line(99)["status"], &ran.line(99)["rows"]), (&json!("empty"), &json!(0)), "{ran}");
        assert_eq!(parameters(&work)["status"], "empty");
        assert!(work.published().is_empty());
        assert_eq!(ends(&work), ["FAIL", "COMPLETE"], "{ran}");
    }
    // an empty history is not an empty target
    let work = Workdir::new();
    work.change("teachers/bazaar/history.parquet", |t| t.slice(0, 0));
    work.run(&["--skip-if-empty"]).error(65);
}

#[test]
fn f84_a_secret_in_a_path_is_in_no_file_that_is_left_behind() {
    let work = with_files();
    fs::rename(work.path("teachers/bazaar"), work.path(&format!("teachers/{CANARY}"))).unwrap();
    work.edit("pipeline.toml", "teachers/bazaar", "teachers/${AWS_SECRET_ACCESS_KEY}");
    let clean = |ran: &Ran| {
        discreet(ran, &work);
        for (path, bytes) in work.files("files") {
            assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "the secret stands in {path}\n{ran}");
        }
    };
    let ran = work.run(&ASKED);
    ran.is("published");
    clean(&ran);
    assert!(
        String::from_utf8(work.bytes(&format!("{RUN}/openlineage.jsonl")))
            .unwrap()
            .contains("${AWS_SECRET_ACCESS_KEY}")
    );
    work.write_text(&format!("teachers/{CANARY}/model.txt"), "no model");
    let ran = work.run(&[&ASKED[..], &["--replace"]].concat());
    assert!(ran.error(65)["file"].as_str().unwrap().contains("${AWS_SECRET_ACCESS_KEY}"), "{ran}");
    clean(&ran);
    assert!(work.path("files/termination-log").exists());
}

#[test]
fn f84_metrics_say_what_went_in_and_out() {
    let work = Workdir::new();
    let ran = work.run(&["--set", "target.where=tx_count_30d > 1"]);
    let result = ran.result();
    let metrics = json_file(&work, &format!("{RUN}/metrics.json"));
    let rows = &metrics["rows"];
    let number = |v: &Value| v.as_u64().unwrap();
    assert_eq!((number(&rows["stored"]), number(&rows["repeated"])), (ROWS as u64, 0));
    assert_eq!(number(&rows["filtered"]) + number(&rows["accounts"]), ROWS as u64);
    for table in ["soft_labels", "classification"] {
        assert_eq!(rows["tables"][table], result["rows"]);
    }
    assert_eq!(metrics["classes"], result["classes"]);
    let stages: Vec<&str> =
        metrics["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["profile", "score", "relevance", "fuse", "fit", "classify"]);
    assert_eq!(metrics["teachers"].as_array().unwrap().len(), 4, "three and the pooled one");
    assert!(metrics["teachers"][0]["js"].as_f64().is_some_and(|js| js > 0.0), "{metrics}");
    assert!(metrics["student"]["fidelity"]["agreement"].as_f64().is_some_and(|a| a > 0.5), "{metrics}");
    assert!(number(&metrics["peak_rss_bytes"]) > 10 << 20);
    assert_eq!(metrics["run_id"], events(&work)[0]["run"]["runId"]);
}

#[test]
fn g86_more_memory_than_is_allowed_is_75_with_the_stage_and_its_need() {
    let work = Workdir::new();
    // pages of the program itself count too, and how many are read hangs on how it was linked
    let mut limits = (18..60).map(|mib| (mib, work.run(&["--max-memory", &format!("{mib}MiB")])));
    let of_a_stage = |ran: &Ran| ran.code != Some(75) || ran.error(75)["stage"].is_string();
    let (limit, ran) = limits.find(|(_, ran)| of_a_stage(ran)).expect("a stage holds more");
    let error = ran.error(75);
    assert_eq!(error["stage"], "profile", "{ran}");
    assert!(
        error["value"].as_str().unwrap().contains(&format!("{limit} MiB are allowed"))
            && error["hint"].as_str().unwrap().contains("--max-memory"),
        "{ran}"
    );
    assert!(work.published().is_empty());
    // on more threads, which take some more themselves, it is tried on one before it is given up
    let limit = format!("{}MiB", limit + 2);
    let ran = work.coldstart(&[
        "run",
        "../pipeline.toml",
        "--date",
        DATE,
        "--threads",
        "4",
        "--max-memory",
        &limit,
    ]);
    ran.error(75);
    assert!(ran.events("profile").iter().any(|e| e.contains("tried again on one thread")), "{ran}");
    let ran = work.run(&["--max-memory", "2Gi"]);
    ran.is("published");
    assert_same(&work.published(), reference(), &ran);
    assert_eq!(work.run(&["--max-memory", "much"]).code, Some(2));
}

#[test]
fn g88_a_long_stage_says_how_far_it_is_and_argo_is_told() {
    let work = Workdir::new();
    let mut command = work.command(&[
        "run",
        "../pipeline.toml",
        "--date",
        DATE,
        "--threads",
        "1",
        "--progress-every",
        "0.01",
    ]);
    command.env("ARGO_PROGRESS_FILE", work.path("tmp/progress"));
    let ran = Ran::start(command).finish();
    ran.is("published");
    let working = ["profile", "score", "relevance", "fuse", "fit", "classify"]
        .iter()
        .flat_map(|s| ran.events(s))
        .filter(|e| e == "working");
    assert!(working.count() > 0, "{ran}");
    assert_eq!(work.bytes("tmp/progress"), b"600/600\n", "{ran}");
    assert_same(&work.published(), reference(), &ran);
    // a file that cannot be written does not stop the job
    let work = Workdir::new();
    let mut command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    command.env("ARGO_PROGRESS_FILE", "/proc/progress");
    let ran = Ran::start(command).finish();
    ran.is("published");
    assert!(ran.stderr.contains("progress file"), "{ran}");
}
