//! What a run says and leaves: texts without secrets, partitions that every reader reads alike, and nothing
//! touched that the run did not write.

use std::fs;
use std::process::Command;

use crate::workdir::{DATE, Workdir};

#[test]
fn only_secrets_are_hidden_and_json_stays_json() {
    let work = Workdir::new();
    work.edit(
        "pipeline.toml",
        "id = \"account_id\"",
        "id = \"account_id\"\nwhere = \"country IS NULL OR country <> '${MONTH}' AND country <> '${DB_PASSWORD}'\"",
    );
    work.edit("pipeline.toml", "path = \"out\"", "path = \"${PLACE}\"");
    let run = |marked: &[&str]| {
        let _ = fs::remove_dir_all(work.path("out"));
        let xcom = work.path("tmp/x.json");
        let mut command = work.command(
            &[&["run", "../pipeline.toml", "--date", DATE, "--xcom", xcom.to_str().unwrap()], marked]
                .concat(),
        );
        command.env("MONTH", "6").env("PLACE", "out").env("DB_PASSWORD", "36");
        let ran = crate::workdir::Ran::start(command).finish();
        let said: serde_json::Value = serde_json::from_slice(&work.bytes("tmp/x.json")).expect("JSON");
        assert_eq!(said, ran.result());
        assert_eq!(said["rows"], 360, "a number is no text\n{ran}");
        said["tables"]["classification"].as_str().unwrap().to_string()
    };
    assert!(run(&[]).ends_with(&format!("out/classification/ds={DATE}")));
    let lineage =
        String::from_utf8(work.bytes(&format!("out/_runs/couriers/ds={DATE}/openlineage.jsonl"))).unwrap();
    assert!(lineage.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    assert!(run(&["--set", "secrets=[\"PLACE\"]"]).contains("${PLACE}/classification"));
}

#[test]
fn a_run_again_touches_nothing_that_it_did_not_write() {
    let work = Workdir::new();
    let partition = format!("out/classification/ds={DATE}");
    work.run(&[]).is("published");
    work.write_text(&format!("{partition}/_SUCCESS"), "");
    let before = work.files("out/classification");
    work.run(&[]).is("already_published");
    assert_eq!(work.files("out/classification"), before);
    // a part of ours is lost: it is published again, and the reader's marker stays
    let own = before.keys().find(|f| f.ends_with(".parquet")).unwrap();
    fs::remove_file(work.path(&format!("out/classification/{own}"))).unwrap();
    work.run(&[]).is("published");
    assert_eq!(work.files("out/classification"), before);
    work.write_text(&format!("{partition}/more.parquet"), "somebody's");
    let error = work.run(&[]).error(65);
    assert!(error["file"].as_str().unwrap().ends_with("more.parquet"), "{error}");
    assert!(work.path(&format!("{partition}/more.parquet")).exists());
    work.run(&["--replace"]).is("published");
    assert!(!work.path(&format!("{partition}/more.parquet")).exists());
}

#[test]
fn classes_that_readers_take_for_others_are_no_folders() {
    let long = "x".repeat(300);
    for odd in ["01", "1e3", "True", "2026-01-01", "LEGIT", &long] {
        let work = Workdir::new();
        for teacher in ["bazaar", "wallet", "studio"] {
            work.edit(
                "pipeline.toml",
                &format!("teachers/{teacher}\"\n"),
                &format!("teachers/{teacher}\"\nclasses = {{ fraud = {odd:?} }}\n"),
            );
        }
        work.edit("pipeline.toml", "\"fraud\"]", &format!("{odd:?}]"));
        let check = |more: &[&str]| work.coldstart(&[&["check", "../pipeline.toml"], more].concat());
        check(&[]).is("ok");
        let error = check(&["--set", "output.partition_by=[\"class\"]"]).error(78);
        assert_eq!((&error["key"], &error["value"]), (&"output.partition_by".into(), &odd.into()), "{error}");
    }
}

#[test]
fn a_file_system_without_an_exchange_publishes_and_says_why_it_cannot_replace() {
    if Command::new("strace").arg("-V").output().is_err() {
        return;
    }
    let work = Workdir::new();
    let run = |more: &[&str]| {
        let program = env!("CARGO_BIN_EXE_coldstart");
        let refuse =
            ["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL"];
        let command = [&refuse[..], &[program, "run", "../pipeline.toml", "--date", DATE], more].concat();
        Command::new("strace").args(command).current_dir(work.path("cwd")).output().unwrap()
    };
    let first = run(&[]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(run(&[]).status.success());
    let replaced = run(&["--replace", "--set", "student.seed=3"]);
    let said = String::from_utf8_lossy(&replaced.stderr);
    assert_eq!(replaced.status.code(), Some(73), "{said}");
    assert!(said.contains("\"file system\"") && !said.contains("\"stage\":\"score\""), "{said}");
}

#[test]
fn a_run_without_a_lock_works_and_says_so() {
    let work = Workdir::new();
    let ran = work.run(&["--no-lock"]);
    assert!(ran.is("published").stderr.contains("no lock is held"), "{ran}");
}
