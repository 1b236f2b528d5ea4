//! A start: a pipeline file that is written for a folder of bundles and a target, and label files as people make them.

use crate::workdir::{DATE, Workdir, texts};

fn text(work: &Workdir, path: &str) -> String {
    String::from_utf8(work.bytes(path)).expect("text")
}

#[test]
fn a_new_pipeline_runs_as_it_is_written() {
    let work = Workdir::new();
    let made = work.coldstart(&["new", ".."]).error(73);
    assert!(made["hint"].as_str().is_some_and(|h| h.contains("-o")), "{made}");
    let made = work.coldstart(&["new", "..", "-o", "../new.toml"]);
    let line = made.is("created").result();
    assert_eq!((&line["id"], &line["teachers"][0]), (&"account_id".into(), &"bazaar".into()));
    let written = text(&work, "new.toml");
    assert!(
        written.contains("accounts = \"lake/target\"") && written.contains("bundle = \"teachers/wallet\""),
        "{written}"
    );
    work.coldstart(&["check", "../new.toml"]).is("ok");
    let fast = [
        "--set",
        "student.family=logistic",
        "--set",
        "student.min_agreement=0.5",
        "--set",
        "student.max_kl=1",
    ];
    work.coldstart(&[&["run", "../new.toml", "--date", DATE], &fast[..]].concat()).is("published");
    work.coldstart(&["new", "../lake", "-o", "../other.toml"]).error(66);
}

#[test]
fn a_batch_comes_back_filled_in_as_csv_and_what_is_wrong_in_it_names_the_remedy() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let advise = ["advise", "../pipeline.toml", "--date", DATE, "--labels", "40", "-o", "../batch.csv"];
    work.coldstart(&advise).is("advised");
    let batch = text(&work, "batch.csv");
    assert!(batch.starts_with("account_id,p_legit,p_fraud,disagreement,chance,label\n"), "{batch}");
    let filled = |with: &dyn Fn(usize) -> &'static str| {
        let lines: Vec<String> = batch
            .lines()
            .enumerate()
            .map(|(i, l)| if i == 0 { l.into() } else { format!("{l}{}", with(i)) })
            .collect();
        work.write_text("batch.csv", &(lines.join("\n") + "\n"));
    };
    let evaluate = ["evaluate", "../pipeline.toml", "--date", DATE, "--labels", "../batch.csv"];
    assert!(
        work.coldstart(&evaluate).error(65)["error"]
            .as_str()
            .is_some_and(|e| e.contains("no row has a label"))
    );
    filled(&|i| if i <= 30 { "fraud" } else { "" });
    assert_eq!(work.coldstart(&evaluate).is("evaluated").result()["labels"], 30);
    work.run(&["--replace", "--set", "target.labels=batch.csv"]).is("published");
    filled(&|_| "1");
    let refused = work.coldstart(&evaluate).error(65);
    assert!(
        refused["hint"].as_str().is_some_and(|h| h.contains("if 0 is legit and 1 is fraud")),
        "{refused}"
    );
    work.write_text("batch.csv", "id,label\na,fraud\n");
    assert_eq!(work.coldstart(&evaluate).error(65)["found"], "id, label");
}

#[test]
fn what_stands_in_the_place_of_something_else_is_called_by_its_name() {
    let work = Workdir::new();
    let said = work.coldstart(&["check", "../teachers/bazaar"]).error(78);
    assert!(said["hint"].as_str().is_some_and(|h| h.contains("a teacher's bundle")), "{said}");
    work.write_text("lake/accounts.csv", "account_id,age\na,1\n");
    let said = work
        .coldstart(&["check", "../pipeline.toml", "--set", "target.accounts=lake/accounts.csv"])
        .error(65);
    assert!(said["hint"].as_str().is_some_and(|h| h.contains("duckdb")), "{said}");
    let dated = work.coldstart(&["run", "../pipeline.toml", "--date", "01.02.2026"]);
    assert!(dated.code == Some(2) && dated.stderr.contains("did you mean 2026-02-01?"), "{dated}");
    work.run(&[]).is("published");
    let conflict = work.run(&["--set", "fuse.method=reference"]).error(65);
    assert_eq!(conflict["changed"], "fuse.method");
    assert_eq!(texts(&work.published_table("class_shares"), "class").len(), 2);
}
