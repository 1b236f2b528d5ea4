//! A and B once more, at a chosen step: what happens where on the disk a run fails, is killed, or waits while
//! another one runs.

use std::path::Path;
use std::time::Duration;

use super::{Faults, RUN, assert_same, faults, reference};
use crate::accounts::{Model, RISK, RISK_CLASSES};
use crate::tables;
use crate::workdir::{DATE, Ran, Workdir, failing};

/// What a run said of its stages, without those that it found done.
fn worked(ran: &Ran) -> Vec<&'static str> {
    let stages = ["profile", "score", "relevance", "fuse", "fit", "classify"];
    stages.into_iter().filter(|s| ran.events(s).iter().any(|e| e == "done")).collect()
}

#[test]
fn a1_a2_a3_a_kill_before_in_or_after_a_part_costs_its_stage() {
    faults(|f| {
        for point in
            ["before create", "after create", "before write", "half write", "before rename", "before sync"]
        {
            let folder = if point.ends_with("sync") { "publish" } else { "classify" };
            let (_, again) = f.struck(&format!("kill {point} */{folder}/*.parquet*"), None, &[]);
            let wanted: &[&str] = if folder == "publish" { &[] } else { &["classify"] };
            assert_eq!(worked(&again), wanted, "{point}: {again}");
        }
    });
}

#[test]
fn a4_a5_a6_a_kill_around_the_exchange_costs_no_stage() {
    faults(|f| {
        for point in [
            "before exchange */out/classification/ds=*",
            "after exchange */out/classification/ds=*",
            "before remove */publish/classification",
            "before rename */published.json",
            "after rename */published.json",
            "after remove */fit",
        ] {
            let (_, again) = f.struck(&format!("kill {point}"), None, &[]);
            assert_eq!(worked(&again), [""; 0], "{point}: {again}");
        }
    });
}

#[test]
fn a10_an_answer_that_is_lost_is_looked_up() {
    faults(|f| {
        for step in ["exchange */out/classification/ds=*", "rename */published.json", "rename */fit.done"] {
            f.struck(&format!("EIO after {step}"), Some(0), &[]);
        }
    });
    let work = Workdir::new();
    let ran = Ran::start(work.failing("EIO after rename_new */out/classification/ds=*", RUN)).finish();
    ran.is("published");
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn a11_an_exchange_that_fails_names_both_paths() {
    faults(|f| {
        let names =
            [("file", "out/classification/ds="), ("from", "publish/classification"), ("error", "os error 5")];
        f.struck("EIO before exchange */out/classification/ds=*", Some(74), &names);
    });
}

#[test]
fn a12_a_full_disk_is_75_and_takes_no_room() {
    faults(|f| {
        for (step, file) in [
            ("before create_dir */score/scores", "score/scores"),
            ("half write */classify/*.parquet*", ".parquet"),
            ("before sync */publish/*.parquet", ".parquet"),
            ("before write */.fit.done.*", "fit.done"),
            ("before link */publish/*", "publish"),
            ("before exchange */out/classification/ds=*", "out/classification/ds="),
            ("half write */.published.json.*", "published.json"),
            ("before rename */published.json", "published.json"),
        ] {
            f.struck(&format!("ENOSPC {step}"), Some(75), &[("file", file), ("error", "os error 28")]);
        }
    });
}

#[test]
fn a13_a_sync_that_fails_is_74_and_costs_the_stage_whose_part_it_was() {
    faults(|f| {
        let (_, again) = f.struck(
            "EIO before sync */publish/classification/*.parquet",
            Some(74),
            &[("file", ".parquet"), ("error", "os error 5")],
        );
        assert_eq!(worked(&again), ["classify"], "{again}");
        f.struck("EIO before sync */.fit.done.*", Some(74), &[("file", "fit.done")]);
        f.struck("EIO before sync */out/classification", Some(74), &[("file", "out/classification")]);
    });
}

/// The memory of the process at address 0 is a file that cannot be read.
#[test]
#[cfg(target_os = "linux")]
fn a13_an_input_that_cannot_be_read_is_74() {
    faults(|f| {
        drop(f.refused_set(
            "target.labels=/proc/self/mem",
            74,
            &[("file", "/proc/self/mem"), ("error", "os error 5")],
        ))
    });
}

#[test]
fn a17_what_cannot_be_removed_is_left_to_the_next_run() {
    faults(|f| {
        let (ran, _) = f.struck("EIO before remove */fit", Some(0), &[]);
        assert!(ran.events("publish").iter().any(|e| e == "published"), "{ran}");
    });
}

#[test]
fn b29_a_run_that_waits_at_any_phase_is_not_overtaken() {
    for point in [
        "after create_dir */profile",
        "before rename */fit.done",
        "before rename_new */out/relevance/*",
        "after rename_new */out/classification/*",
    ] {
        let work = Workdir::new();
        let running = Ran::start(work.failing(&format!("pause {point}"), RUN));
        let ran = running.paused(&work.path("tmp/paused"), || {
            assert!(
                work.run(&[]).error(75)["file"]
                    .as_str()
                    .is_some_and(|f| f.ends_with(&format!("ds={DATE}.lock")))
            );
            work.run(&["--replace"]).error(75);
            work.run(&["--replace", "--set", "name=others"]).error(75);
            work.coldstart(&["run", "../pipeline.toml", "--date", "2026-01-02", "--threads", "1"])
                .is("published");
        });
        ran.is("published");
        let mut found = work.published();
        found.retain(|path, _| !path.contains("2026-01-02"));
        assert_same(&found, reference(), &ran);
    }
}

#[test]
fn the_released_program_has_no_failpoint() {
    let holds = |program: &Path| {
        let bytes = std::fs::read(program).expect("a program");
        bytes.windows(b"COLDSTART_FAILPOINT".len()).any(|w| w == b"COLDSTART_FAILPOINT")
    };
    assert!(holds(&failing()) && !holds(Path::new(env!("CARGO_BIN_EXE_coldstart"))));
    let work = Workdir::new();
    let mut command = work.command(RUN);
    command.env("COLDSTART_FAILPOINT", "kill before create_dir *");
    Ran::start(command).finish().is("published");
}

#[test]
#[ignore = "half a minute: a disk that stands still"]
fn g88_a_disk_that_stands_still_within_the_commit_costs_time_only() {
    let work = Workdir::new();
    let running = Ran::start(work.failing("pause before rename_new */out/classification/*", RUN));
    let ran = running.paused(&work.path("tmp/paused"), || std::thread::sleep(Duration::from_secs(31)));
    ran.is("published");
    assert_same(&work.published(), reference(), &ran);
}

/// The peak of a run's memory, in KiB, on a target of so many accounts.
#[cfg(target_os = "linux")]
fn peak(rows: usize) -> u64 {
    let work = Workdir::new();
    let scenario = RISK.iter().find(|s| s.name == "courier").expect("the target's scenario");
    let (accounts, _) =
        tables::target(&Model::new(scenario, RISK_CLASSES, 7), 7, 0, 0..rows).expect("a target");
    work.write_target(&[accounts], 10_000);
    let running = Ran::start(work.command(&[RUN, &["--set", "student.max_training_rows=5000"]].concat()));
    let (status, mut peak) = (format!("/proc/{}/status", running.id()), 0);
    while let Ok(text) = std::fs::read_to_string(&status)
        && let Some(line) = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))
    {
        peak = line.trim().trim_end_matches(" kB").parse().expect("a number");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.finish().is("published");
    peak
}

#[test]
#[ignore = "half a minute: six hundred thousand accounts"]
#[cfg(target_os = "linux")]
fn g85_ten_times_the_accounts_take_no_more_memory() {
    let (once, tenfold) = (peak(60_000), peak(600_000));
    assert!(
        once > 0 && tenfold < once + once / 4,
        "{once} KiB, and {tenfold} KiB for ten times the accounts"
    );
}

/// The steps of a run over an older version, as failpoints name them.
fn steps() -> Vec<String> {
    let work = Workdir::new();
    work.restore_output(super::older());
    let mut command = work.failing("EIO before nothing *", &[RUN, &["--replace"]].concat());
    command.env("COLDSTART_FAILPOINT_LOG", work.path("tmp/steps"));
    let running = Ran::start(command);
    let process = running.id().to_string();
    running.finish().is("published");
    let root = work.path("").display().to_string();
    let mut steps: Vec<String> = Vec::new();
    for line in String::from_utf8(work.bytes("tmp/steps")).expect("text").lines() {
        let (_, step) = line.split_once(' ').expect("a number");
        let step = step.replace(&root, "*/").replace(&process, "*");
        if !step.starts_with("open ") && !step.starts_with("list ") && !steps.contains(&step) {
            steps.push(step);
        }
    }
    assert!(steps.len() > 50, "{steps:?}");
    steps
}

/// Strikes every step of a run in turn: `code` is how the run may end.
fn strike_all(f: &Faults, how: &str, codes: &[Option<i32>]) {
    for step in steps() {
        f.struck_any(&format!("{how} {step}"), codes, &[]);
    }
}

#[test]
#[ignore = "minutes: every step of a run"]
fn a1_a6_a_kill_before_any_step() {
    faults(|f| strike_all(f, "kill before", &[None]));
}

#[test]
#[ignore = "minutes: every step of a run"]
fn a12_a_full_disk_at_any_step() {
    faults(|f| strike_all(f, "ENOSPC before", &[Some(75), Some(0)]));
}

#[test]
#[ignore = "minutes: every step of a run"]
fn a10_a13_a_lost_answer_at_any_step() {
    faults(|f| strike_all(f, "EIO after", &[Some(74), Some(0)]));
}
