//! A: runs that are killed, and whose leavings are damaged.

use std::fs;
use std::time::Duration;

use super::{assert_same, discreet, older, partitions, reference, whole_tables};
use crate::random::Random;
use crate::workdir::{DATE, Ran, Workdir};

const RUN: &str = "out/_runs/couriers/ds=2026-01-01";
const STAGES: [&str; 6] = ["profile", "score", "relevance", "fuse", "fit", "classify"];

fn stage(work: &Workdir, name: &str) -> Ran {
    work.coldstart(&["stage", name, "../pipeline.toml", "--date", DATE, "--threads", "1"])
}

/// All stages but the last have finished.
fn before_the_last() -> Workdir {
    let work = Workdir::new();
    for name in &STAGES[..5] {
        stage(&work, name).is("stage_done");
    }
    work
}

/// What a run did in a stage: `done` or `already done`.
fn did(ran: &Ran, stage: &str) -> String {
    ran.events(stage).pop().unwrap_or_default()
}

#[test]
fn a7_a_stage_without_its_record_is_done_again_and_no_other() {
    let work = before_the_last();
    for name in STAGES[..5].iter().rev() {
        let record = work.path(&format!("{RUN}/{name}.done"));
        for spoilt in [None, Some(""), Some("{\"format\":1"), Some("[]")] {
            match spoilt {
                None => fs::remove_file(&record).unwrap(),
                Some(text) => fs::write(&record, text).unwrap(),
            }
            let ran = stage(&work, name);
            ran.is("stage_done");
            assert_eq!(did(&ran, name), "done", "{ran}");
        }
    }
    let ran = work.run(&[]);
    ran.is("published");
    assert_eq!(STAGES[..5].iter().map(|s| did(&ran, s)).collect::<Vec<_>>(), ["already done"; 5], "{ran}");
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn a8_a_stage_whose_output_is_gone_or_altered_is_done_again() {
    let damage: [fn(&mut Vec<u8>); 3] =
        [|b| *b.last_mut().unwrap() ^= 1, |b| b.truncate(b.len() / 2), |b| b.clear()];
    let work = before_the_last();
    let outputs: Vec<String> = work.files(RUN).into_keys().filter(|f| f.contains('/')).collect();
    assert!(outputs.len() >= 5, "{outputs:?}");
    for (i, output) in outputs.iter().enumerate() {
        let path = format!("{RUN}/{output}");
        let mut bytes = work.bytes(&path);
        if i % 4 == 3 {
            fs::remove_file(work.path(&path)).unwrap();
        } else {
            damage[i % 4](&mut bytes);
            work.write_bytes(&path, &bytes);
        }
        let name = output.split('/').next().unwrap();
        let ran = stage(&work, name);
        ran.is("stage_done");
        assert_eq!(did(&ran, name), "done", "{output}\n{ran}");
    }
    let ran = work.run(&[]);
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn a22_a_published_file_that_is_gone_or_altered_is_published_again() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let files: Vec<String> = reference().keys().filter(|f| !f.starts_with("_runs")).cloned().collect();
    for (i, file) in files.iter().enumerate() {
        match i % 3 {
            0 => fs::remove_file(work.path(&format!("out/{file}"))).unwrap(),
            1 => work.write_bytes(&format!("out/{file}"), b""),
            _ => work.write_bytes(&format!("out/{file}"), &[reference()[file].as_slice(), b"x"].concat()),
        }
    }
    let ran = work.run(&[]);
    ran.is("published");
    assert_same(&work.published(), reference(), &ran);
    work.write_text(&format!("out/classification/ds={DATE}/part-99999.parquet"), "stray");
    // what this run did not write is not removed unless that is asked for
    let ran = work.run(&[]);
    assert!(ran.error(65)["file"].as_str().is_some_and(|f| f.ends_with("part-99999.parquet")), "{ran}");
    let ran = work.run(&["--replace"]);
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn a23_a_record_of_a_newer_format_is_refused() {
    let work = before_the_last();
    work.edit(&format!("{RUN}/profile.done"), "\"format\": 1", "\"format\": 2");
    let error = work.run(&[]).error(65);
    assert!(error["file"].as_str().unwrap().ends_with("profile.done") && error["value"] == "2", "{error}");
    assert!(work.published().is_empty());
}

#[test]
fn a6_a_kill_between_publication_and_its_record_is_healed_by_the_same_command() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    for missing in [vec![], vec!["classification"], vec!["classification", "student"]] {
        fs::remove_file(work.path(&format!("{RUN}/published.json"))).unwrap();
        for table in missing {
            fs::remove_dir_all(work.path(&format!("out/{table}/ds={DATE}"))).unwrap();
        }
        let ran = work.run(&[]);
        assert!(ran.result()["status"].as_str().unwrap().contains("published"), "{ran}");
        assert_same(&work.published(), reference(), &ran);
    }
}

#[test]
fn a5_what_a_killed_exchange_left_in_the_run_directory_is_removed() {
    let work = Workdir::new();
    work.write_text(
        &format!("{RUN}/publish/classification/part-00000-0123456789ab.parquet"),
        "the partition that was displaced",
    );
    work.write_text(&format!("{RUN}/fit/student/half"), "half of a file");
    let ran = work.run(&[]);
    assert_same(&work.published(), reference(), &ran);
    let left: Vec<String> =
        work.files(RUN).into_keys().filter(|f| f.contains('/') && !f.starts_with("explanation/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a11_a_table_that_cannot_be_made_is_73_and_names_the_path() {
    let work = Workdir::new();
    work.write_text("out/classification", "a file");
    let ran = work.run(&[]);
    let error = ran.error(73);
    assert!(error["file"].as_str().unwrap().contains("out/classification"), "{ran}");
    fs::remove_file(work.path("out/classification")).unwrap();
    let ran = work.run(&[]);
    assert_same(&work.published(), reference(), &ran);
}

/// Kills a run over an older version again and again: each table is the old one or the new one, whole, and in
/// the end all are new.
fn random_kills(seed: u64, kills: usize, longest_ms: f64) {
    let mut random = Random::stream(seed, &["kills"]);
    let work = Workdir::new();
    work.restore_output(older());
    let mut killed = 0;
    while killed < kills {
        let mut running = Ran::start(work.command(&[
            "run",
            "../pipeline.toml",
            "--date",
            DATE,
            "--threads",
            "1",
            "--replace",
        ]));
        std::thread::sleep(Duration::from_micros((random.uniform() * longest_ms * 1000.0) as u64));
        running.kill();
        let ran = running.finish();
        whole_tables(&work, &ran);
        if ran.code.is_none() {
            killed += 1;
        } else {
            // it was faster: from the start again
            work.restore_output(older());
        }
    }
    let ran = work.run(&["--replace"]);
    assert!(ran.result()["status"].as_str().unwrap().contains("published"), "{ran}");
    discreet(&ran, &work);
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn a9_a_run_that_is_killed_at_random_leaves_whole_tables_and_resumes() {
    random_kills(1, 10, 200.0);
}

#[test]
#[ignore = "minutes: two hundred kills"]
fn a9_two_hundred_random_kills_leave_whole_tables() {
    (0..20).for_each(|seed| random_kills(100 + seed, 10, 100.0 + 20.0 * seed as f64));
}

#[test]
fn a9_a_first_run_that_is_killed_at_random_is_resumed_without_replace() {
    let mut random = Random::stream(2, &["first"]);
    let work = Workdir::new();
    for _ in 0..10 {
        let mut running =
            Ran::start(work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]));
        std::thread::sleep(Duration::from_micros((random.uniform() * 300_000.0) as u64));
        running.kill();
        let ran = running.finish();
        for (table, files) in partitions(&work.published()) {
            assert!(files == partitions(reference())[&table], "{table} is not whole\n{ran}");
        }
    }
    let ran = work.run(&[]);
    assert_same(&work.published(), reference(), &ran);
}
