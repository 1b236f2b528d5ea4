//! A run in units of work that many processes do: plan, work, reduce, commit.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take};
use serde_json::Value;

use crate::faults::assert_same;
use crate::workdir::{DATE, ROWS, Ran, Workdir, count, named_columns, table, texts};

const STAGES: [&str; 6] = ["profile", "score", "relevance", "fuse", "fit", "classify"];
const UNITS: &str = "out/_runs/couriers/ds=2026-01-01";

/// Rows of a piece: what a worker takes at a time.
const PIECE: usize = 65_536;

/// The rows of a table at these places, each an account of its own.
fn accounts(batch: &RecordBatch, rows: impl Iterator<Item = usize>) -> RecordBatch {
    let places: UInt32Array = rows.map(|row| Some(row as u32)).collect();
    let column = |(name, array): (String, ArrayRef)| {
        let array = take(&array, &places, None).expect("rows");
        (name, array)
    };
    let ids: StringArray = (0..places.len()).map(|i| Some(format!("account-{i:07}"))).collect();
    let mut columns: Vec<(String, ArrayRef)> = named_columns(batch).into_iter().map(column).collect();
    let id = columns.iter_mut().find(|(name, _)| name == "account_id").expect("an id");
    id.1 = Arc::new(ids);
    table(columns)
}

/// A target of so many pieces, in files of different sizes.
fn of_pieces(pieces: usize) -> Workdir {
    let work = Workdir::new();
    let all = accounts(&work.target(), (0..pieces * PIECE).map(|i| i % ROWS));
    let first = pieces / 2 * PIECE;
    work.write_target(&[all.slice(0, first), all.slice(first, all.num_rows() - first)], PIECE);
    work
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
    // relevance and fit have no units
    if units == 0 {
        return;
    }
    let step = (37..).find(|s| !units.is_multiple_of(*s) || units == 1).expect("a step");
    let order: Vec<usize> = (0..units).map(|i| (i * step + 5) % units).collect();
    let twice = |u: &usize| if u.is_multiple_of(5) { vec![*u, *u] } else { vec![*u] };
    let order: Vec<usize> = order.iter().flat_map(twice).collect();
    for pair in order.chunks(2) {
        let running: Vec<_> = pair.iter().map(|unit| Ran::start(work_on(work, stage, *unit))).collect();
        for ran in running.into_iter().map(|r| r.finish()) {
            let status = ran.result()["status"].as_str().map(str::to_string);
            assert!(["unit_done", "already_done"].contains(&status.as_deref().unwrap_or("")), "{ran}");
        }
    }
}

/// The run in one process, then in so many units: shuffled, two at a time, some of them twice.
fn gives_the_bytes_of_a_run(work: &Workdir, all: &[usize]) {
    let ran = work.run(&[]);
    ran.is("published");
    let wanted = work.published();
    for units in all {
        fs::remove_dir_all(work.path("out")).expect("what was published");
        let planned = plan(work, *units);
        assert_eq!((&planned["units"], &planned["key"]), (&(*units).into(), &ran.result()["key"]));
        for stage in STAGES {
            shuffled(work, stage, units_of(&planned, stage));
            reduce(work, stage).is("stage_done");
        }
        let committed = commit(work);
        committed.is("published");
        assert_same(&work.published(), &wanted, &committed);
        assert!(work.files("out").keys().all(|f| !f.contains("units-")), "nothing of the units is left");
        commit(work).is("already_published");
        work.run(&[]).is("already_published");
    }
}

#[test]
fn any_number_of_units_in_any_order_gives_the_bytes_of_a_run() {
    gives_the_bytes_of_a_run(&of_pieces(7), &[1, 3, 20]);
}

#[test]
fn the_demo_in_more_units_than_its_tables_have_files_gives_the_bytes_of_a_run() {
    gives_the_bytes_of_a_run(&Workdir::demo(), &[1, 7, 64]);
}

/// What a filter leaves is in batches of all sizes, in some pieces nothing; every id is another machine's too.
#[test]
fn a_filter_and_repeated_ids_are_the_same_in_any_number_of_units() {
    let work = Workdir::demo();
    work.edit(
        "pipeline.toml",
        "# where = \"status = 'open'\"",
        "where = \"country = 'US'\"\ndedupe = \"first\" #",
    );
    let part = "lake/accounts/scenario=courier/part-00003.parquet";
    let first = work.table("lake/accounts/scenario=courier/part-00000.parquet");
    work.change(part, |rows| {
        concat_batches(&rows.schema(), &[rows, first.slice(0, 700)]).expect("one schema")
    });
    gives_the_bytes_of_a_run(&work, &[23]);
    // without leave to drop them they are refused by name, whichever machine read them
    work.edit("pipeline.toml", "dedupe = \"first\"", "dedupe = \"error\"");
    let planned = plan(&work, 23);
    shuffled(&work, "profile", units_of(&planned, "profile"));
    let refused = reduce(&work, "profile").error(65);
    let ids = texts(&first, "account_id");
    let named: Vec<&str> = refused["value"].as_str().expect("ids").split(", ").collect();
    assert!(named.len() == 5 && named.iter().all(|id| ids.iter().flatten().any(|i| i == id)), "{refused}");
    assert_eq!(
        (&refused["column"], &refused["value"]),
        (&"account_id".into(), &work.run(&["--replace"]).error(65)["value"])
    );
}

#[test]
fn damaged_hashes_of_ids_are_refused() {
    let work = of_pieces(2);
    plan(&work, 2);
    for unit in 0..2 {
        Ran::start(work_on(&work, "profile", unit)).finish().is("unit_done");
    }
    let hashes = work.files(UNITS).into_keys().find(|f| f.ends_with("ids/piece-00001.hashes"));
    let path = format!("{UNITS}/{}", hashes.expect("hashes of ids"));
    let sound = work.bytes(&path);
    work.write_bytes(&path, &sound[..sound.len() - 8]);
    let error = reduce(&work, "profile").error(65);
    assert!(
        error["unit"] == "1" && error["file"].as_str().is_some_and(|f| f.ends_with(".hashes")),
        "{error}"
    );
    Ran::start(work_on(&work, "profile", 1)).finish().is("unit_done");
    assert_eq!(work.bytes(&path), sound);
    reduce(&work, "profile").is("stage_done");
}

#[test]
fn what_is_done_is_not_done_again_and_what_is_missing_is_named() {
    let work = of_pieces(3);
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
    let work = of_pieces(3);
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
    let work = of_pieces(3);
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
    work.change("lake/target/part-1.parquet", |part| part.slice(0, PIECE));
    let replaced = Ran::start(work_on(&work, "score", 0)).finish().error(75);
    assert!(replaced["file"].as_str().is_some_and(|f| f.ends_with("part-1.parquet")), "{replaced}");
}

/// A copy of a teacher that the accounts looked at beforehand do not tell from it, but later ones do.
#[test]
fn a_teacher_that_turns_out_to_be_no_copy_counts_wherever_that_is_found() {
    let work = Workdir::new();
    for (path, bytes) in work.files("teachers/bazaar") {
        work.write_bytes(&format!("teachers/copy/{path}"), &bytes);
    }
    work.edit("teachers/copy/teacher.toml", "name = \"bazaar\"", "name = \"copy\"");
    work.edit("pipeline.toml", "[student]", "[[teachers]]\nbundle = \"teachers/copy\"\n[student]");
    // a country that only the end of the last piece has, unknown to the copy
    let target = work.target();
    let countries = texts(&target, "country");
    let (with, without): (Vec<usize>, Vec<usize>) =
        (0..ROWS).partition(|i| countries[*i].as_deref() == Some("US"));
    let first = (0..PIECE * 3 / 2).map(|i| without[i % without.len()]);
    let all = accounts(&target, first.chain((0..PIECE / 2).map(|i| with[i % with.len()])));
    work.write_target(std::slice::from_ref(&all), PIECE);
    work.edit("teachers/copy/teacher.toml", "\"US\"", "\"nowhere\"");
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
    work.write_target(&[all.slice(PIECE * 3 / 2, PIECE / 2), all.slice(0, PIECE * 3 / 2)], PIECE);
    fs::remove_dir_all(work.path("out")).expect("what was published");
    work.run(&[]).is("published");
    assert!(work.probabilities("soft_labels", "account_id") == labels, "the order of the accounts matters");
}
