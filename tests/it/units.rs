//! A run in units of work that many processes do: plan, work, reduce, commit.

use std::fs;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::Value;

use crate::faults::assert_same;
use crate::workdir::{DATE, ROWS, Ran, Workdir, count, texts};

const STAGES: [&str; 6] = ["profile", "score", "relevance", "fuse", "fit", "classify"];
const UNITS: &str = "out/_runs/couriers/ds=2026-01-01";

/// A target of 72 files, each of them a piece of rows.
fn many_files() -> Workdir {
    let work = Workdir::new();
    let all = work.target();
    let parts: Vec<_> = (0..72).map(|i| all.slice(i * ROWS / 72, ROWS / 72)).collect();
    work.write_target(&parts, 64);
    work
}

/// The target of [`many_files`] as one table.
fn whole(work: &Workdir) -> RecordBatch {
    let parts: Vec<_> = (0..72).map(|i| work.table(&format!("lake/target/part-{i}.parquet"))).collect();
    concat_batches(&parts[0].schema(), &parts).expect("one schema")
}

fn plan(work: &Workdir, units: usize) -> Value {
    let units = units.to_string();
    let ran =
        work.coldstart(&["plan", "../pipeline.toml", "--date", DATE, "--units", &units, "-o", "plan.json"]);
    ran.is("planned");
    ran.result()
}

fn units_of(planned: &Value, stage: &str) -> usize {
    let stages = planned["stages"].as_array().expect("stages");
    let found = stages.iter().find(|s| s[0] == stage).expect("the stage");
    found[1].as_u64().expect("a number") as usize
}

fn work_on(work: &Workdir, stage: &str, unit: usize) -> std::process::Command {
    work.command(&["work", "plan.json", stage, &unit.to_string(), "--threads", "1"])
}

fn reduce(work: &Workdir, stage: &str) -> Ran {
    work.coldstart(&["reduce", "plan.json", stage, "--threads", "1"])
}

fn commit(work: &Workdir) -> Ran {
    work.coldstart(&["commit", "plan.json", "--threads", "1"])
}

/// All units of a stage in another order, two processes at a time; every fifth unit is done by both of them.
fn shuffled(work: &Workdir, stage: &str, units: usize) {
    let step = (37..).find(|s| units % s != 0 || units == 1).expect("a step");
    let order: Vec<usize> = (0..units).map(|i| (i * step + 5) % units).collect();
    let twice = |u: &usize| if u % 5 == 0 { vec![*u, *u] } else { vec![*u] };
    let order: Vec<usize> = order.iter().flat_map(twice).collect();
    for pair in order.chunks(2) {
        let running: Vec<_> = pair.iter().map(|unit| Ran::start(work_on(work, stage, *unit))).collect();
        for ran in running.into_iter().map(|r| r.finish()) {
            let status = ran.result()["status"].as_str().map(str::to_string);
            assert!(["unit_done", "already_done"].contains(&status.as_deref().unwrap_or("")), "{ran}");
        }
    }
}

#[test]
fn any_number_of_units_in_any_order_gives_the_bytes_of_a_run() {
    let work = many_files();
    let ran = work.run(&[]);
    ran.is("published");
    let wanted = work.published();
    for (units, planned_units) in [(1, 1), (7, 7), (64, 64), (500, 72)] {
        if units == 500 {
            assert_eq!(plan(&work, units)["units"], planned_units, "no more units than pieces");
            continue;
        }
        fs::remove_dir_all(work.path("out")).expect("what was published");
        let planned = plan(&work, units);
        assert_eq!((&planned["units"], &planned["key"]), (&planned_units.into(), &ran.result()["key"]));
        for stage in STAGES {
            shuffled(&work, stage, units_of(&planned, stage));
            reduce(&work, stage).is("stage_done");
        }
        let committed = commit(&work);
        committed.is("published");
        assert_same(&work.published(), &wanted, &committed);
        assert!(work.files(UNITS).keys().all(|f| !f.contains("units-")), "nothing of the units is left");
        commit(&work).is("already_published");
        work.run(&[]).is("already_published");
    }
}

#[test]
fn what_is_done_is_not_done_again_and_what_is_missing_is_named() {
    let work = many_files();
    plan(&work, 3);
    let error = reduce(&work, "profile").error(75);
    assert_eq!((&error["stage"], &error["unit"]), (&"profile".into(), &"0".into()));
    assert_eq!(Ran::start(work_on(&work, "score", 0)).finish().error(66)["stage"], "profile");
    for unit in [2, 0] {
        Ran::start(work_on(&work, "profile", unit)).finish().is("unit_done");
    }
    assert_eq!(reduce(&work, "profile").error(75)["unit"], "1");
    Ran::start(work_on(&work, "profile", 2)).finish().is("already_done");
    Ran::start(work_on(&work, "profile", 1)).finish().is("unit_done");
    reduce(&work, "profile").is("stage_done");
    reduce(&work, "profile").is("already_done");
    Ran::start(work_on(&work, "profile", 3)).finish();
    let refused = Ran::start(work_on(&work, "relevance", 0)).finish();
    assert_eq!(refused.code, Some(2), "{refused}");
    assert_eq!(commit(&work).code, Some(75), "units of the other stages are missing");
}

#[test]
fn a_worker_that_is_killed_anywhere_costs_its_unit_and_nothing_else() {
    let work = many_files();
    work.run(&[]).is("published");
    let wanted = work.published();
    fs::remove_dir_all(work.path("out")).expect("what was published");
    let planned = plan(&work, 2);
    let points = [
        ("profile", "kill before rename */states/*"),
        ("score", "kill half write */scores/*"),
        ("fuse", "kill before rename */soft_labels/*"),
        ("classify", "kill before link */receipts/*"),
    ];
    for stage in STAGES {
        if let Some((_, point)) = points.iter().find(|p| p.0 == stage) {
            let killed =
                Ran::start(work.failing(point, &["work", "plan.json", stage, "1", "--threads", "1"]))
                    .finish();
            assert_eq!(killed.code, None, "{killed}");
        }
        for unit in 0..units_of(&planned, stage) {
            Ran::start(work_on(&work, stage, unit)).finish().is("unit_done");
        }
        reduce(&work, stage).is("stage_done");
        count("unit killed");
    }
    let committed = commit(&work);
    committed.is("published");
    assert_same(&work.published(), &wanted, &committed);
}

#[test]
fn a_changed_input_or_a_damaged_state_is_refused() {
    let work = many_files();
    plan(&work, 2);
    for unit in 0..2 {
        Ran::start(work_on(&work, "profile", unit)).finish().is("unit_done");
    }
    let state = work.files(UNITS).into_keys().find(|f| f.ends_with("states/00001")).expect("a state");
    let path = format!("{UNITS}/{state}");
    let sound = work.bytes(&path);
    let mut damaged = sound.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    work.write_bytes(&path, &damaged);
    assert_eq!(reduce(&work, "profile").error(65)["unit"], "1");
    // the unit is worked on again, since its file is not what the receipt says
    Ran::start(work_on(&work, "profile", 1)).finish().is("unit_done");
    assert_eq!(work.bytes(&path), sound);
    reduce(&work, "profile").is("stage_done");
    let part = whole(&work).slice(0, 4);
    work.write_table("lake/target/part-3.parquet", &part);
    let replaced = Ran::start(work_on(&work, "score", 0)).finish().error(75);
    assert!(replaced["file"].as_str().is_some_and(|f| f.ends_with("part-3.parquet")), "{replaced}");
}

/// A copy of a teacher that the first accounts do not tell from it, but later ones do.
#[test]
fn a_teacher_that_turns_out_to_be_no_copy_counts_wherever_that_is_found() {
    let work = many_files();
    for (path, bytes) in work.files("teachers/bazaar") {
        work.write_bytes(&format!("teachers/copy/{path}"), &bytes);
    }
    work.edit("teachers/copy/teacher.toml", "name = \"bazaar\"", "name = \"copy\"");
    work.edit("pipeline.toml", "[student]", "[[teachers]]\nbundle = \"teachers/copy\"\n[student]");
    // a country of later accounts that the first ones do not have, unknown to the copy
    let column = |batch: &RecordBatch| texts(batch, "country");
    let first = column(&work.table("lake/target/part-0.parquet"));
    let country = column(&whole(&work)).into_iter().find(|c| c.is_some() && !first.contains(c));
    let country = country.flatten().expect("a country of later accounts");
    work.edit("teachers/copy/teacher.toml", &format!("\"{country}\""), "\"nowhere\"");
    let ran = work.run(&[]);
    ran.is("published");
    let wanted = work.published();
    assert!(work.published_table("soft_labels").column_by_name("w_copy").is_some(), "{ran}");
    let labels = work.probabilities("soft_labels", "account_id");
    fs::remove_dir_all(work.path("out")).expect("what was published");
    let planned = plan(&work, 3);
    for stage in STAGES {
        shuffled(&work, stage, units_of(&planned, stage));
        reduce(&work, stage).is("stage_done");
        // done once more, as by an attempt that was believed lost
        (0..units_of(&planned, stage).min(1))
            .for_each(|unit| drop(Ran::start(work_on(&work, stage, unit)).finish()));
    }
    let committed = commit(&work);
    committed.is("published");
    assert_same(&work.published(), &wanted, &committed);
    // where the first accounts show it, the labels are the same
    let all = whole(&work);
    let there = column(&all).iter().position(|c| c.as_deref() == Some(&country)).expect("an account of it");
    work.write_target(&[all.slice(there, ROWS - there), all.slice(0, there)], 64);
    fs::remove_dir_all(work.path("out")).expect("what was published");
    work.run(&[]).is("published");
    assert!(work.probabilities("soft_labels", "account_id") == labels, "the order of the accounts matters");
}
