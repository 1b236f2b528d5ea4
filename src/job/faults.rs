//! Resume and publication on a disk in memory: every step fails, is the last before a kill, or is the last
//! before a loss of power.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind, Result};
use crate::lake::publish::{self, Table};
use crate::lake::store::Store;
use crate::lake::store::faulty::{Faulty, Plan, Point, When};
use crate::lake::store::files::{cannot_create, create_dir};
use crate::lake::store::ram::Ram;
use crate::run::directory::Directory;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const OLD: &str = "old0";
const NEW: &str = "new0";
const DATE: &str = "2026-01-01";
const STAGES: [&str; 2] = ["fuse", "classify"];
/// Table, stage, files.
const TABLES: [(&str, &str, &[&str]); 2] = [
    ("soft_labels", "fuse", &["part-0", "part-1"]),
    ("classification", "classify", &["class=no/part-0", "class=yes/part-0", "class=yes/part-1"]),
];

type Files = BTreeMap<String, Vec<u8>>;

/// A job of two stages that write what their key says, by the steps of [`crate::job`]. Says which stages did
/// their work.
fn job(store: &dyn Store, pipeline: &str, key: &str, replace: bool) -> Result<Vec<&'static str>> {
    let output = Path::new("/out");
    let directory = Directory::at(store, output.join("_runs").join(pipeline).join(DATE), key, None)?;
    let partition = |table: &str| publish::partition(output, table, DATE);
    let mut worked = Vec::new();
    let before = directory.published::<(String, Vec<Table>)>()?;
    if let Some((before, tables)) = &before
        && before == key
        && tables.iter().all(|t| publish::stands(store, &partition(&t.name), &t.files))
    {
        let _ = directory.clear(&STAGES);
        return Ok(worked);
    }
    for stage in STAGES {
        if !directory.is_done(stage)? {
            directory.finish(stage, || write_parts(store, &directory.stage(stage), stage, key))?;
            worked.push(stage);
        }
    }
    let mut tables = Vec::new();
    for (table, stage, _) in TABLES {
        let mark = (!replace && before.is_none()).then_some(key);
        let files = publish::publish(
            store,
            &directory.stage(stage).join(table),
            &directory.staging(table),
            &partition(table),
            mark,
            false,
        )?;
        tables.push(Table { name: table.to_string(), files });
    }
    directory.record(&(key, tables))?;
    let _ = directory.clear(&STAGES);
    Ok(worked)
}

/// Parts as stages write them: streamed and not synced.
fn write_parts(store: &dyn Store, folder: &Path, stage: &str, key: &str) -> Result<()> {
    for (table, _, files) in TABLES.into_iter().filter(|(_, s, _)| *s == stage) {
        for file in files {
            let path: PathBuf = folder.join(table).join(format!("{file}-{key}.parquet"));
            create_dir(store, path.parent().unwrap_or(folder))?;
            let written = store
                .create(&path)
                .and_then(|mut part| part.write_all(format!("{table} {file} of {key}").as_bytes()));
            written.map_err(|e| cannot_create(&e, &path))?;
        }
    }
    Ok(())
}

/// A disk with the old version.
fn old() -> Ram {
    let ram = Ram::default();
    job(&ram, "p", OLD, true).expect("no fault");
    ram.crash(usize::MAX);
    ram
}

/// The files of the tables, and of the run directory the record.
fn published(ram: &Ram) -> Files {
    let mut files = ram.files();
    files.retain(|path, _| !path.contains("/_runs/") || path.ends_with("published.json"));
    files
}

fn of_table(files: &Files, table: &str) -> Files {
    let below = format!("/out/{table}/");
    files.iter().filter(|(path, _)| path.starts_with(&below)).map(|(p, b)| (p.clone(), b.clone())).collect()
}

/// Every table is of the old version or of the new one.
fn old_or_new(ram: &Ram, what: &str) {
    let (found, old, new) = (published(ram), published(&old()), reference());
    for (table, _, _) in TABLES {
        let found = of_table(&found, table);
        assert!(
            found == of_table(&old, table) || found == of_table(&new, table),
            "{what}: {table} holds {:?}",
            found.keys()
        );
    }
}

/// What a run without a fault publishes.
fn reference() -> Files {
    let ram = old();
    job(&ram, "p", NEW, true).expect("no fault");
    published(&ram)
}

fn same(found: &Files, wanted: &Files, what: &str) {
    let text = |files: &Files| {
        files
            .iter()
            .map(|(p, b)| format!("{p}: {}", String::from_utf8_lossy(b)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(found == wanted, "{what}\nfound {}\nwanted {}", text(found), text(wanted));
}

/// The same command without a fault ends like an undisturbed run, and what it says is durable.
fn mended(ram: &Ram, what: &str) -> Vec<&'static str> {
    let worked = job(ram, "p", NEW, true).unwrap_or_else(|e| panic!("{what}: {e}"));
    same(&published(ram), &reference(), what);
    let left: Vec<String> =
        ram.files().into_keys().filter(|f| f.contains("/_runs/") && !f.ends_with("published.json")).collect();
    assert!(left.is_empty(), "{what}: {left:?} is left");
    let after = ram.fork();
    after.crash(0);
    same(&published(&after), &reference(), &format!("{what}: a run that succeeded is durable"));
    worked
}

/// Runs the job with a fault at every step in turn; `each` sees what came of it: the disk, the result, and
/// the step with its path.
fn at_every_step(
    when: When,
    errno: i32,
    dies: bool,
    mut each: impl FnMut(&Ram, Result<Vec<&'static str>>, &str),
) {
    let mut points = 0;
    for n in 0.. {
        let ram = old();
        let what = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&what);
        let plan: Plan = Arc::new(move |p: &Point| {
            let (here, name) =
                (p.number == n && p.when == when, format!("{when:?} {} {}", p.step, p.path.display()));
            let mut seen = seen.lock().expect("no panic");
            if here {
                *seen = Some(name);
            } else if p.number > n && p.step == "sync" && !dies {
                assert_ne!(*seen, Some(name), "a sync that failed is not tried again");
            }
            (here || dies && p.number > n).then(|| io::Error::from_raw_os_error(errno))
        });
        let steps = Arc::new(Mutex::new(0));
        let count = Arc::clone(&steps);
        let counting: Plan = Arc::new(move |p: &Point| {
            *count.lock().expect("no panic") = p.number;
            plan(p)
        });
        let result = job(&Faulty::new(ram.clone(), counting), "p", NEW, true);
        let point = what.lock().expect("no panic").clone();
        match point {
            Some(point) => each(&ram, result, &point),
            // only writes have a half
            None if *steps.lock().expect("no panic") >= n => continue,
            None => break,
        }
        points += 1;
    }
    assert!(points > 5, "{points} points");
}

#[test]
fn a12_a_full_disk_at_any_step_is_75_and_frees_what_was_gathered() {
    for when in [When::Before, When::Half, When::After] {
        at_every_step(when, ENOSPC, false, |ram, result, what| {
            old_or_new(ram, what);
            if let Err(e) = &result {
                assert_eq!(e.kind(), Kind::TryAgain, "{what}: {e}");
                let left: Vec<String> = ram
                    .files()
                    .into_keys()
                    .filter(|f| f.contains("/publish/") || f.ends_with(".tmp"))
                    .collect();
                // a table that is not durable yet keeps what it displaced
                let displaced = what.contains("sync /out/") && left.iter().all(|f| f.contains(OLD));
                assert!(left.is_empty() || displaced, "{what}: {left:?} is left");
            }
            mended(ram, what);
        });
    }
}

#[test]
fn a13_an_io_error_at_any_step_fails_the_run_and_no_sync_is_tried_again() {
    for when in [When::Before, When::Half, When::After] {
        at_every_step(when, EIO, false, |ram, result, what| {
            old_or_new(ram, what);
            match result {
                Err(e) => assert_eq!(e.kind(), Kind::Io, "{what}: {e}"),
                // a record that cannot be read is none; an answer that was lost is looked up; what is left is
                // removed later
                Ok(_) => assert!(!what.contains("sync"), "{what}: the run went on"),
            }
            let worked = mended(ram, what);
            if what.contains("sync") && what.contains("/publish/") && what.contains(".parquet") {
                assert_eq!(worked.len(), 1, "{what}: the stage writes its part again");
            }
        });
    }
}

#[test]
fn a10_an_answer_that_is_lost_is_looked_up() {
    let mut moves = 0;
    at_every_step(When::After, EIO, false, |ram, result, what| {
        if ["rename", "exchange"].iter().any(|step| what.contains(step)) {
            result.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(published(ram), reference(), "{what}");
            moves += 1;
        }
    });
    assert_eq!(moves, STAGES.len() + TABLES.len() + 1);
    for (step, first) in [("rename_new", true), ("exchange", false)] {
        let ram = if first { Ram::default() } else { old() };
        let plan = move |p: &Point| {
            (p.step == step && p.when == When::After).then(|| io::Error::from_raw_os_error(EIO))
        };
        job(&Faulty::new(ram.clone(), Arc::new(plan)), "p", NEW, true).expect("ours");
        assert_eq!(published(&ram), reference());
    }
}

#[test]
fn a1_a4_a5_a_kill_at_any_step_leaves_whole_tables_and_the_same_command_ends_the_run() {
    for when in [When::Before, When::Half, When::After] {
        at_every_step(when, EIO, true, |ram, _, what| {
            old_or_new(ram, what);
            let worked = mended(ram, what);
            if ["exchange", "rename /out/_runs/p/2026-01-01/published.json"].iter().any(|w| what.contains(w))
            {
                assert!(worked.is_empty(), "{what}: {worked:?} was done again");
            }
        });
    }
}

#[test]
fn a3_a_loss_of_power_at_any_step_leaves_whole_tables_and_the_same_command_ends_the_run() {
    let mut torn = 0;
    for when in [When::Before, When::Half, When::After] {
        at_every_step(when, EIO, true, |ram, _, what| {
            for kept in 0..=ram.pending() {
                let after = ram.fork();
                after.crash(kept);
                let what = format!("{what}, then no power, {kept} changes kept");
                old_or_new(&after, &what);
                let recorded = after.files().keys().filter(|f| f.ends_with(".done")).count();
                let worked = mended(&after, &what);
                torn += usize::from(recorded > STAGES.len() - worked.len());
            }
        });
    }
    assert!(torn > 0, "some stage was recorded as done while its parts were torn, and was done again");
}

#[test]
fn b29_a_run_that_is_overtaken_at_any_step_gives_way_or_wins_but_never_overwrites() {
    let (mut won, mut lost) = (0, 0);
    for n in 0.. {
        let ram = Ram::default();
        let (other, met) = (ram.clone(), Arc::new(AtomicBool::new(false)));
        let result = Arc::new(Mutex::new(None));
        let (theirs, passed) = (Arc::clone(&result), Arc::clone(&met));
        let plan: Plan = Arc::new(move |p: &Point| {
            if p.number == n && p.when == When::Before {
                passed.store(true, Ordering::Relaxed);
                *theirs.lock().expect("no panic") = Some(job(&other, "q", OLD, false));
            }
            None
        });
        let ours = job(&Faulty::new(ram.clone(), plan), "p", NEW, false);
        if !met.load(Ordering::Relaxed) {
            break;
        }
        let theirs = result.lock().expect("no panic").take().expect("it ran");
        let winner = match (&ours, &theirs) {
            (Ok(_), Err(e)) => (NEW, e),
            (Err(e), Ok(_)) => (OLD, e),
            both => panic!("step {n}: one wins, not {both:?}"),
        };
        assert_eq!(winner.1.kind(), Kind::TryAgain, "{}", winner.1);
        let files = published(&ram);
        let parts: Vec<&String> = files.keys().filter(|f| f.ends_with(".parquet")).collect();
        assert!(parts.len() == 5 && parts.iter().all(|f| f.contains(winner.0)), "step {n}: {parts:?}");
        if winner.0 == NEW { won += 1 } else { lost += 1 }
    }
    assert!(won > 0 && lost > 0, "{won} won, {lost} lost");
}

#[test]
fn errors_of_the_system_have_the_exit_code_that_says_whether_to_try_again() {
    let code = |errno: i32| {
        Error::io(&io::Error::from_raw_os_error(errno), "cannot write", Path::new("x")).kind().exit_code()
    };
    assert_eq!([ENOSPC, EIO].map(code), [75, 74]);
}
