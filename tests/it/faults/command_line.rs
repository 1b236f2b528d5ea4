//! F and G: the pipeline file, the command line, and what surrounds the process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{assert_same, discreet, faults, reference};
use crate::workdir::{DATE, Ran, Workdir, fixture, python};

#[test]
fn f75_every_refusal_of_the_pipeline_file_names_its_key() {
    let sets: [(&str, &[(&str, &str)]); 17] = [
        ("studnt.seed=7", &[("key", "studnt"), ("hint", "student")]),
        ("student.sed=7", &[("key", "student.sed"), ("hint", "student.seed")]),
        ("student.seed=-1", &[("key", "student.seed")]),
        ("student.seed=\"x\"", &[("key", "student.seed")]),
        ("student.family=\"oak\"", &[("key", "student.family")]),
        (
            "student.min_agreement=1.5",
            &[("key", "student.min_agreement"), ("value", "1.5"), ("error", "between 0 and 1")],
        ),
        ("student.held_out_share=0", &[("key", "student.held_out_share")]),
        ("student.max_training_rows=1", &[("key", "student.max_training_rows"), ("value", "1")]),
        ("target.dedupe=\"last\"", &[("key", "target.dedupe")]),
        ("target.class_shares={ maybe = 0.1 }", &[("key", "target.class_shares"), ("value", "maybe")]),
        ("target.class_shares={ fraud = [0.5, 0.2] }", &[("key", "target.class_shares.fraud")]),
        (
            "target.accounts=\"${NOT_SET_ANYWHERE}\"",
            &[("key", "target.accounts"), ("value", "NOT_SET_ANYWHERE")],
        ),
        ("target.accounts=\"s3://bucket/accounts\"", &[("value", "s3://bucket/accounts")]),
        ("target.where=\"no_such_column > 1\"", &[("key", "target.where"), ("error", "no_such_column")]),
        ("target.where=\"country >\"", &[("key", "target.where"), ("value", "country >")]),
        ("output.partition_by=[\"account_id\"]", &[("key", "output.partition_by"), ("value", "account_id")]),
        ("output.format=\"csv\"", &[("key", "output.format"), ("value", "csv")]),
    ];
    faults(|f| {
        for (pair, names) in sets {
            f.refused_set(pair, 78, names);
        }
        f.refused(78, &[("file", "pipeline.toml"), ("error", "TOML")], |w| {
            w.edit("pipeline.toml", "[target]", "[target")
        });
        f.refused(78, &[("file", "pipeline.toml"), ("error", "UTF-8")], |w| {
            w.write_bytes("pipeline.toml", &[0xff, 0xfe, 0x00])
        });
        f.refused(78, &[("file", "pipeline.toml")], |w| w.edit("pipeline.toml", "id = \"account_id\"\n", ""));
        f.refused(66, &[("file", "pipeline.toml")], |w| fs::remove_file(w.path("pipeline.toml")).unwrap());
    });
}

#[test]
fn f76_the_shipped_pipeline_passes_its_own_check() {
    let work = Workdir::new();
    work.write_bytes("pipelines/demo.toml", &fs::read(fixture("../pipelines/demo.toml")).unwrap());
    for (path, bytes) in work.files("teachers") {
        work.write_bytes(&format!("target/demo/lake/teachers/{path}"), &bytes);
    }
    for file in ["teacher.toml", "model.onnx"] {
        work.write_bytes(
            &format!("target/demo/lake/teachers/lender/{file}"),
            &fs::read(fixture("teachers/lender").join(file)).unwrap(),
        );
    }
    work.write_bytes(
        "target/demo/lake/teachers/lender/history.parquet",
        &work.bytes("teachers/bazaar/history.parquet"),
    );
    for (path, bytes) in work.files("lake/target") {
        work.write_bytes(&format!("target/demo/lake/accounts/scenario=courier/{path}"), &bytes);
    }
    let result = work.coldstart(&["check", "../pipelines/demo.toml"]).result();
    assert_eq!((&result["status"], &result["teachers"].as_array().map(Vec::len)), (&"ok".into(), &Some(4)));
}

#[test]
fn f76_the_shipped_drivers_parse_and_run_the_shipped_commands() {
    let shipped = |file: &str| fixture("../pipelines").join(file);
    let parses = "import ast, sys; [ast.parse(open(file).read()) for file in sys.argv[1:]]";
    let scripts = [
        "airflow/coldstart_operator.py",
        "airflow/coldstart_dag.py",
        "airflow/coldstart_units_dag.py",
        "spark/coldstart_job.py",
    ];
    assert!(
        Command::new(python()).args(["-c", parses]).args(scripts.map(shipped)).status().unwrap().success()
    );
    let units: &[&str] = &["plan", "work", "reduce", "commit"];
    for (file, commands) in [
        ("airflow/coldstart_dag.py", &["coldstart run", "--date"][..]),
        ("airflow/coldstart_operator.py", &["75", "130", "143"]),
        ("airflow/coldstart_units_dag.py", units),
        ("argo/workflow.yaml", &["[coldstart, run]", "--date", "75"]),
        (
            "argo/units.yaml",
            &["[coldstart, plan]", "[coldstart, work]", "[coldstart, reduce]", "[coldstart, commit]"],
        ),
        ("spark/coldstart_job.py", units),
        ("kubernetes/run.sh", &["coldstart plan", "coldstart reduce", "coldstart commit"]),
        ("kubernetes/stage.yaml", &["coldstart work", "75"]),
    ] {
        let text = fs::read_to_string(shipped(file)).unwrap();
        assert!(commands.iter().all(|command| text.contains(command)), "{file}: {commands:?}");
    }
}

#[test]
fn f77_a_wrong_command_line_is_2_with_usage() {
    let work = Workdir::new();
    let run = ["run", "../pipeline.toml"];
    let wrong: [&[&str]; 8] = [
        &run,
        &["run", "--date", DATE],
        &["walk", "../pipeline.toml"],
        &["stage", "guess", "../pipeline.toml", "--date", DATE],
        &[run[0], run[1], "--date", DATE, "--date", DATE],
        &[run[0], run[1], "--date", DATE, "--tomorrow"],
        &[run[0], run[1], "--date", DATE, "--threads", "many"],
        &[],
    ];
    for arguments in wrong {
        let ran = work.coldstart(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran}");
        assert!(ran.stderr.contains("Usage") || ran.stderr.contains("--help"), "{ran}");
        assert!(!ran.stderr.contains("panicked"), "{ran}");
    }
    work.run(&["--set", "student.seed"]).error(2);
    for help in ["--help", "--version"] {
        let ran = work.coldstart(&[help]);
        assert!(ran.code == Some(0) && ran.stdout.contains("coldstart") && ran.stderr.is_empty(), "{ran}");
    }
    assert!(!work.path("out").exists());
}

#[test]
fn f77_a_path_that_is_not_utf8_works_or_is_refused_clearly() {
    let work = Workdir::new();
    let folder = work.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).unwrap();
    for name in ["pipeline.toml", "lake", "teachers"] {
        fs::rename(work.path(name), folder.join(name)).unwrap();
    }
    let mut command = work.command(&["run", "--date", DATE, "--threads", "1"]);
    command.arg(folder.join("pipeline.toml"));
    let ran = Ran::start(command).finish();
    match ran.code {
        Some(0) => assert_eq!(ran.result()["status"], "published"),
        code => drop(ran.error(code.filter(|c| [2, 65, 78].contains(c)).unwrap_or_else(|| panic!("{ran}")))),
    }
}

#[test]
fn f79_the_last_line_of_merged_streams_is_the_result() {
    for (fault, status) in [(false, "published"), (true, "")] {
        let work = Workdir::new();
        if fault {
            work.write_text("lake/target/part-9.csv", "x");
        }
        let program = env!("CARGO_BIN_EXE_coldstart");
        let script = format!("exec \"{program}\" run ../pipeline.toml --date {DATE} --threads 1 2>&1");
        let output = Command::new("sh").args(["-c", &script]).current_dir(work.path("cwd")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(text.ends_with("}\n"), "{text}");
        assert_eq!(last["status"].as_str().unwrap_or_default(), status, "{text}");
        assert_eq!(last["exit"].as_u64(), fault.then_some(65), "{text}");
        assert!(last.to_string().len() < 4096);
    }
}

/// Sends signals to a run some time after its start: it stops with `code`, or it had finished; the same
/// command then publishes what is wanted.
fn signalled(signals: &[Signal], code: i32) {
    for delay in [5, 40, 80, 120, 200] {
        let work = Workdir::new();
        let running =
            Ran::start(work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]));
        let pid = Pid::from_raw(running.id().try_into().unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let clock = Instant::now();
        for signal in signals {
            // it may have finished
            let _ = kill_process(pid, *signal);
        }
        let ran = running.finish();
        assert!(clock.elapsed() < Duration::from_secs(10), "{ran}");
        match ran.code {
            Some(0) => drop(ran.result()),
            // the handlers were not yet installed, and the kernel ended the process
            None => assert!(ran.stderr.is_empty(), "{ran}"),
            Some(_) if signals.len() == 1 => drop(ran.error(code)),
            Some(found) => assert_eq!(found, code, "{ran}"),
        }
        let again = work.run(&[]);
        assert!(again.result()["status"].as_str().unwrap().contains("published"), "{again}");
        assert_same(&work.published(), reference(), &again);
    }
}

#[test]
fn f80_sigterm_is_143_and_the_same_command_resumes() {
    signalled(&[Signal::TERM], 143);
}

#[test]
fn f80_sigint_is_130_and_the_same_command_resumes() {
    signalled(&[Signal::INT], 130);
}

#[test]
fn f80_a_second_sigterm_ends_the_process_at_once() {
    signalled(&[Signal::TERM, Signal::TERM], 143);
}

#[test]
fn f82_an_odd_environment_changes_no_byte() {
    let odd: [&[(&str, &str)]; 3] = [
        &[
            ("TZ", "Pacific/Chatham"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("RUST_LOG", "!!=junk"),
            ("RUST_BACKTRACE", "full"),
        ],
        &[
            ("HOME", "/nowhere"),
            ("TMPDIR", "/nowhere"),
            ("RAYON_NUM_THREADS", "3"),
            ("POLARS_MAX_THREADS", "1"),
        ],
        &[],
    ];
    for (i, variables) in odd.into_iter().enumerate() {
        let work = Workdir::new();
        let mut command = work.command(&["run", "../pipeline.toml", "--date", DATE]);
        if i == 2 {
            command = Command::new("sh");
            command.args([
                "-c",
                "umask 077; ulimit -n 64; exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_coldstart"),
            ]);
            command.args(["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
            command.env_clear().current_dir(work.path("cwd")).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let ran = Ran::start({
            command.envs(variables.iter().copied());
            command
        })
        .finish();
        ran.is("published");
        discreet(&ran, &work);
        assert_same(&work.published(), reference(), &ran);
    }
}

#[test]
fn f84_a_secret_that_is_part_of_a_failing_command_is_not_said() {
    // every run of this module has one in its environment; here one is used in the pipeline and is wrong
    faults(|f| {
        f.refused(78, &[("key", "output.format")], |w| {
            w.edit("pipeline.toml", "path = \"out\"", "path = \"out\"\nformat = \"${AWS_SECRET_ACCESS_KEY}\"")
        });
    });
}

#[test]
fn a14_an_output_that_cannot_be_made_is_73_before_any_work() {
    faults(|f| {
        let error = f.refused_set("output.path=pipeline.toml", 73, &[("file", "pipeline.toml")]);
        assert!(error["error"].as_str().unwrap().contains("cannot"));
    });
    let work = Workdir::new();
    work.write_text("file", "");
    let ran = work.run(&["--set", "output.path=file/below"]);
    ran.error(73);
    assert!(ran.events("profile").is_empty(), "{ran}");
}

#[test]
fn a15_a_closed_or_full_stdout_loses_the_line_and_not_the_data() {
    let work = Workdir::new();
    let mut command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let ran = Ran::start(command).finish();
    let error = ran.error(74);
    assert!(error["error"].as_str().unwrap().contains("stdout"), "{ran}");
    assert_same(&work.published(), reference(), &ran);
    let work = Workdir::new();
    let mut command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    drop(reader);
    let ran = Ran::start(command).finish();
    ran.error(74);
    assert_same(&work.published(), reference(), &ran);
    work.run(&[]).is("already_published");
}
