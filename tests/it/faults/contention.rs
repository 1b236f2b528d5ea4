//! B: runs that meet another run, and readers that meet a publication.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{Files, assert_same, older, partitions, reference};
use crate::workdir::{DATE, Ran, Workdir, count, fixture, python};

#[test]
fn b24_two_runs_of_the_same_date_do_the_work_once() {
    let work = Workdir::new();
    let start = || Ran::start(work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]));
    let running = [start(), start(), start()];
    let ran: Vec<Ran> = running.into_iter().map(|r| r.finish()).collect();
    let published = ran.iter().filter(|r| r.code == Some(0) && r.result()["status"] == "published").count();
    assert_eq!(published, 1, "{}{}{}", ran[0], ran[1], ran[2]);
    for r in ran.iter().filter(|r| r.code != Some(0)) {
        assert!(r.error(75)["file"].as_str().unwrap().ends_with("lock"), "{r}");
    }
    assert_same(&work.published(), reference(), &ran[0]);
}

/// Starts two runs at once, fifty times.
fn fifty_pairs(dates: [&str; 2], each: impl Fn(&Workdir, &[Ran])) {
    for _ in 0..50 {
        let work = Workdir::new();
        let running = dates.map(|date| {
            Ran::start(work.command(&["run", "../pipeline.toml", "--date", date, "--threads", "1"]))
        });
        each(&work, &running.map(|r| r.finish()));
        let mut first = work.published();
        first.retain(|path, _| path.contains(&format!("ds={DATE}")));
        assert_same(&first, reference(), &work.run(&[]));
    }
}

#[test]
#[ignore = "a minute: fifty pairs of runs"]
fn b24_two_runs_of_one_date_started_together_publish_once() {
    fifty_pairs([DATE, DATE], |_, ran| {
        let published =
            ran.iter().filter(|r| r.code == Some(0) && r.result()["status"] == "published").count();
        assert_eq!(published, 1, "{}{}", ran[0], ran[1]);
        for r in ran.iter().filter(|r| r.code != Some(0)) {
            assert!(r.error(75)["file"].as_str().is_some_and(|f| f.ends_with("lock")), "{r}");
        }
    });
}

#[test]
#[ignore = "a minute: fifty pairs of runs"]
fn b25_two_runs_of_different_dates_started_together_publish_both() {
    fifty_pairs([DATE, "2026-01-02"], |work, ran| {
        for r in ran {
            r.is("published");
        }
        let of = |date: &str| work.published().keys().filter(|f| f.contains(date)).count();
        assert_eq!((of(DATE), of("2026-01-02")), (reference().len(), reference().len()));
    });
}

#[test]
fn b25_runs_of_different_dates_create_the_tables_together() {
    let work = Workdir::new();
    let dates = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"];
    let running: Vec<_> = dates
        .map(|d| Ran::start(work.command(&["run", "../pipeline.toml", "--date", d, "--threads", "1"])))
        .into_iter()
        .collect();
    for ran in running.into_iter().map(|r| r.finish()) {
        ran.is("published");
    }
    for date in dates {
        let of_date = |files: &Files| files.keys().filter(|f| f.contains(&format!("ds={date}"))).count();
        assert_eq!(of_date(&work.published()) * dates.len(), work.published().len(), "{date}");
    }
    let mut first = work.published();
    first.retain(|path, _| path.contains("ds=2026-01-01"));
    assert_same(&first, reference(), &work.run(&[]));
}

#[test]
fn b28_the_lock_of_a_killed_run_is_free_at_once() {
    let work = Workdir::new();
    let mut running =
        Ran::start(work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]));
    while !work.path(&format!("out/_runs/ds={DATE}.lock")).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.kill();
    running.finish();
    assert!(work.run(&[]).result()["status"].as_str().unwrap().contains("published"));
}

#[test]
fn b30_readers_see_the_old_table_or_the_new_one_while_it_is_replaced() {
    let work = Workdir::new();
    work.restore_output(older());
    let (old, new) = (partitions(older()), partitions(reference()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut crossed) = (0u32, 0u32);
            while !done.load(Ordering::Relaxed) || reads == 0 {
                for table in ["classification", "soft_labels"] {
                    let found: Files = work
                        .files(&format!("out/{table}"))
                        .into_iter()
                        .map(|(f, b)| (format!("{table}/{f}"), b))
                        .collect();
                    reads += 1;
                    if found == old[table] || found == new[table] {
                        continue;
                    }
                    // A reader that listed one version and opened the other misses files, whose names differ;
                    // it never gets other bytes.
                    crossed += 1;
                    for (file, bytes) in found.iter().filter(|(_, b)| !b.is_empty()) {
                        assert!(
                            [&old[table], &new[table]].iter().any(|v| v.get(file) == Some(bytes)),
                            "{file} is of neither version"
                        );
                    }
                }
            }
            (reads, crossed)
        });
        for i in 0..6 {
            let more: &[&str] =
                if i % 2 == 0 { &["--replace"] } else { &["--replace", "--set", "student.seed=1"] };
            work.run(more).is("published");
        }
        done.store(true, Ordering::Relaxed);
        let (reads, crossed) = reader.join().expect("no reader saw a mixture");
        assert!(crossed * 10 <= reads, "{crossed} of {reads} reads crossed a swap");
    });
}

/// A reader in Python that reads again and again until its stdin ends; then it prints how often it read and
/// how many versions it saw.
fn reader(work: &Workdir, name: &str) -> std::process::Child {
    let mut command = std::process::Command::new(python());
    command.arg(fixture("readers.py")).arg(work.path("out")).args(["--watch", name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a reader")
}

#[test]
#[ignore = "a minute: a hundred publications"]
fn b30_duckdb_and_pyarrow_see_no_mixture_while_a_partition_is_published_a_hundred_times() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let readers = ["duckdb", "pyarrow.dataset"].map(|name| (name, reader(&work, name)));
    for i in 0..100 {
        let more: &[&str] = if i % 2 == 0 {
            &["--replace", "--set", "target.class_shares={ fraud = 0.3 }"]
        } else {
            &["--replace"]
        };
        work.run(more).is("published");
    }
    for (name, mut reader) in readers {
        drop(reader.stdin.take());
        let output = reader.wait_with_output().expect("the reader ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            count("torn");
            panic!("{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
        let seen: Value = serde_json::from_str(&said).expect("one line");
        let reads = seen["reads"].as_u64().unwrap_or(0);
        assert!(
            reads >= 50 && seen["versions"]["classification"] == 2 && seen["versions"]["soft_labels"] == 2,
            "{name}: {seen}"
        );
        assert!(seen["crossed"].as_u64().is_some_and(|n| n * 5 <= reads), "{name}: {seen}");
    }
}

#[test]
fn p2_a_date_that_was_published_with_other_inputs_is_refused_without_replace() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let error = work.run(&["--set", "student.seed=9"]).error(65);
    assert!(error["hint"].as_str().unwrap().contains("--replace") && error["date"] == DATE, "{error}");
    let error = work.run(&["--set", "name=others"]).error(65);
    assert!(error["error"].as_str().unwrap().contains("another pipeline"), "{error}");
    let ran = work.run(&[]);
    ran.is("already_published");
    assert_same(&work.published(), reference(), &ran);
}
