//! The whole job through the command line: what a run publishes, and what must not matter to it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use serde_json::Value;

use crate::accounts::{ABUSE, ABUSE_CLASSES, Model};
use crate::faults::{assert_same, discreet, reference, reference_probabilities, tolerated};
use crate::tables;
use crate::workdir::{
    DATE, PART_0, PART_1, ROWS, Workdir, fixture, floats, named_columns, parquet, python, table, texts,
    without,
};

/// The rows of a table in another order: that of a multiplication modulo their number.
fn shuffled(batch: &RecordBatch) -> RecordBatch {
    let n = batch.num_rows() as u32;
    let step = (2..).map(|k| 97 + k).find(|s| gcd(*s, n) == 1).expect("a step");
    let order: UInt32Array = (0..n).map(|i| Some((i * step + 11) % n)).collect();
    table(
        named_columns(batch)
            .into_iter()
            .map(|(name, array)| (name, take(&array, &order, None).expect("rows")))
            .collect(),
    )
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn a_run_publishes_a_class_for_every_account_and_says_so_in_one_line() {
    let work = Workdir::new();
    let ran = work.run(&[]);
    let result = ran.result();
    discreet(&ran, &work);
    assert_eq!(
        (&result["status"], &result["rows"], &result["date"]),
        (&"published".into(), &ROWS.into(), &DATE.into())
    );
    let wanted: Vec<Option<String>> = texts(&work.target(), "account_id");
    let classification = work.published_table("classification");
    assert_eq!(texts(&classification, "account_id"), wanted, "in the order of the target");
    let (class, confidence) = (texts(&classification, "class"), floats(&classification, "confidence"));
    let p = [floats(&classification, "p_legit"), floats(&classification, "p_fraud")];
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for i in 0..ROWS {
        let (name, most) = if p[1][i] > p[0][i] { ("fraud", p[1][i]) } else { ("legit", p[0][i]) };
        assert_eq!((class[i].as_deref(), confidence[i]), (Some(name), most), "row {i}");
        *counts.entry(name.to_string()).or_default() += 1;
    }
    for (name, count) in counts {
        assert_eq!(result["classes"][&name], count, "{name}");
    }
    let student = work.files(&format!("out/student/ds={DATE}"));
    assert!(
        student.contains_key("teacher.toml") && student.contains_key("model.json"),
        "{:?}",
        student.keys()
    );
    let relevance = work.published_table("relevance");
    assert_eq!(relevance.num_rows(), 4, "three teachers and the pooled one");
    assert!((floats(&relevance, "weight").iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn the_soft_labels_keep_the_labels_of_the_future_apart() {
    // the synthetic truth is known: a run without a label must tell fraud from legit far better than chance
    let work = Workdir::new();
    work.run(&[]).is("published");
    let courier = crate::accounts::RISK.iter().find(|s| s.name == "courier").expect("the target");
    let model = Model::new(courier, crate::accounts::RISK_CLASSES, 7);
    let mut truth = BTreeMap::new();
    for part in 0..2 {
        let (_, labels) =
            tables::target(&model, 7, part, part * ROWS / 2..(part + 1) * ROWS / 2).expect("a target");
        truth.extend(texts(&labels, "account_id").into_iter().zip(texts(&labels, "label")));
    }
    let found = work.published_table("soft_labels");
    let (ids, p) = (texts(&found, "account_id"), floats(&found, "p_fraud"));
    let of = |label: &str| {
        ids.iter()
            .zip(&p)
            .filter(|(id, _)| truth[*id].as_deref() == Some(label))
            .map(|(_, p)| *p)
            .collect::<Vec<_>>()
    };
    let (frauds, legits) = (of("fraud"), of("legit"));
    let better: f64 = frauds
        .iter()
        .flat_map(|f| {
            legits.iter().map(move |l| {
                if f > l {
                    1.0
                } else if f == l {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    let auc = better / (frauds.len() * legits.len()) as f64;
    assert!(auc > 0.75, "{auc}");
}

#[test]
fn the_same_command_again_does_nothing_and_the_same_inputs_elsewhere_make_the_same_bytes() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let before = work.published();
    let ran = work.run(&[]);
    ran.is("already_published");
    assert!(ran.events("profile").is_empty(), "{ran}");
    assert_same(&work.published(), &before, &ran);
    assert_same(&before, reference(), &ran);
}

#[test]
fn threads_change_no_byte() {
    for threads in ["1", "2", "5"] {
        let work = Workdir::new();
        let ran = work.coldstart(&["run", "../pipeline.toml", "--date", DATE, "--threads", threads]);
        assert_same(&work.published(), reference(), &ran);
    }
}

#[test]
fn the_order_of_rows_and_how_they_lie_in_files_changes_no_probability() {
    tolerated(|w| w.write_target(&[shuffled(&w.target())], 50));
    tolerated(|w| {
        let all = w.target();
        let cuts = [0, 1, 100, 101, 250, ROWS];
        w.write_target(&cuts.windows(2).rev().map(|c| all.slice(c[0], c[1] - c[0])).collect::<Vec<_>>(), 33);
    });
    tolerated(|w| {
        fs::rename(w.path(PART_0), w.path("lake/target/z.parq")).unwrap();
        w.write_bytes("lake/target/deep/er/a.pq", &w.bytes(PART_1));
        fs::remove_file(w.path(PART_1)).unwrap();
    });
    tolerated(|w| w.edit("pipeline.toml", "\"lake/target\"", "\"lake/target/part-?.parquet\""));
}

#[test]
fn the_order_of_the_teachers_changes_no_account() {
    let work = Workdir::new();
    work.edit("pipeline.toml", "teachers/bazaar", "teachers/x");
    work.edit("pipeline.toml", "teachers/studio", "teachers/bazaar");
    work.edit("pipeline.toml", "teachers/x", "teachers/studio");
    work.run(&[]).is("published");
    for (name, wanted) in reference_probabilities() {
        let found = work.probabilities(name, "account_id");
        for (account, p) in wanted {
            for (a, b) in p.iter().zip(&found[account]) {
                let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
                assert!((a - b).abs() < 1e-6, "{name}, {account}: {a} and {b}");
            }
        }
    }
}

#[test]
fn stage_by_stage_is_the_run() {
    let work = Workdir::new();
    for stage in ["profile", "score", "relevance", "fuse", "fit"] {
        let ran = work.coldstart(&["stage", stage, "../pipeline.toml", "--date", DATE, "--threads", "1"]);
        ran.is("stage_done");
        assert!(work.published().is_empty(), "{stage} publishes nothing");
        ran.is("stage_done");
    }
    let early = Workdir::new();
    let error = early.coldstart(&["stage", "fuse", "../pipeline.toml", "--date", DATE]).error(66);
    assert_eq!(error["stage"], "fuse");
    let ran = work.coldstart(&["stage", "classify", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    ran.is("published");
    assert_same(&work.published(), reference(), &ran);
}

#[test]
fn check_says_what_would_happen_and_writes_nothing() {
    let work = Workdir::new();
    let before = work.files("");
    let result = work.coldstart(&["check", "../pipeline.toml"]).result();
    assert_eq!(
        (&result["status"], &result["accounts"], &result["files"]),
        (&"ok".into(), &ROWS.into(), &2.into())
    );
    assert_eq!(result["teachers"].as_array().map(Vec::len), Some(3));
    assert!(work.files("") == before && !work.path("out").exists());
    work.write_text("lake/target/notes.txt", "x");
    work.coldstart(&["check", "../pipeline.toml"]).error(65);
}

#[test]
fn where_chooses_the_accounts() {
    let work = Workdir::new();
    let ran = work.run(&["--set", "target.where=country = 'DE' AND tx_count_30d > 1"]);
    let target = work.target();
    let (country, count, ids) =
        (texts(&target, "country"), floats(&target, "tx_count_30d"), texts(&target, "account_id"));
    let wanted: Vec<&Option<String>> = (0..ROWS)
        .filter(|i| country[*i].as_deref() == Some("DE") && count[*i] > 1.0)
        .map(|i| &ids[i])
        .collect();
    assert!(wanted.len() > 5 && wanted.len() < ROWS);
    assert_eq!(ran.result()["rows"], wanted.len());
    let found = texts(&work.published_table("classification"), "account_id");
    assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn partitions_of_the_target_are_columns() {
    tolerated(|w| {
        let all = w.target();
        let countries = texts(&all, "country");
        fs::remove_dir_all(w.path("lake/target")).unwrap();
        let mut levels: Vec<&Option<String>> = countries.iter().collect();
        levels.sort();
        levels.dedup();
        for level in levels {
            let rows: UInt32Array =
                (0..ROWS as u32).filter(|i| countries[*i as usize] == *level).map(Some).collect();
            let part = named_columns(&all)
                .into_iter()
                .map(|(n, a)| (n, take(&a, &rows, None).expect("rows")))
                .collect();
            let folder = level.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__");
            w.write_table(
                &format!("lake/target/country={folder}/part.parquet"),
                &without(&table(part), "country"),
            );
        }
    });
}

#[test]
fn a_known_share_moves_the_base_rate_to_it() {
    let mean = |more: &[&str]| {
        let work = Workdir::new();
        work.run(more).is("published");
        floats(&work.published_table("soft_labels"), "p_fraud").iter().sum::<f64>() / ROWS as f64
    };
    let plain = mean(&[]);
    let wanted = plain / 2.0 + 0.2;
    let known = mean(&["--set", &format!("target.class_shares={{ fraud = {wanted} }}")]);
    assert!((known - wanted).abs() < 1e-3, "{known}, {wanted} is wanted");
    let inside =
        mean(&["--set", &format!("target.class_shares={{ fraud = [{}, {}] }}", plain - 0.05, plain + 0.05)]);
    assert!((inside - plain).abs() < 1e-9, "{inside} where {plain} lies in the range");
}

#[test]
fn a_handful_of_labels_moves_the_base_rate_towards_theirs() {
    let work = Workdir::new();
    let ids: Vec<Option<String>> = texts(&work.target(), "account_id").into_iter().take(60).collect();
    let labels: Vec<&str> = (0..ids.len()).map(|i| if i % 2 == 0 { "fraud" } else { "legit" }).collect();
    let columns: Vec<(String, ArrayRef)> = vec![
        ("account_id".into(), Arc::new(StringArray::from(ids))),
        ("label".into(), Arc::new(StringArray::from(labels))),
    ];
    work.write_table("lake/few.parquet", &table(columns));
    work.run(&["--set", "target.labels=lake/few.parquet"]).is("published");
    let found = floats(&work.published_table("soft_labels"), "p_fraud").iter().sum::<f64>();
    let plain: f64 = reference_probabilities()["soft_labels"].values().map(|p| f64::from_bits(p[1])).sum();
    assert!(found > plain, "{found} is more than {plain}");
}

#[test]
fn a_label_column_of_the_target_is_ignored_with_a_warning() {
    let (_, ran) = tolerated(|w| {
        for part in [PART_0, PART_1] {
            w.change(part, |t| {
                let labels = StringArray::from(vec!["fraud"; t.num_rows()]);
                crate::workdir::with(&t, "label", Arc::new(labels))
            });
        }
    });
    assert!(ran.stderr.contains("label column") && ran.result()["warnings"] != 0, "{ran}");
}

/// DuckDB, polars and pyarrow read the tables by their ordinary calls and agree.
fn readers_agree(work: &Workdir) -> Value {
    let output = Command::new(python())
        .arg(fixture("readers.py"))
        .arg(work.path("out"))
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one JSON line")
}

#[test]
fn duckdb_polars_and_pyarrow_read_what_is_published() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    work.coldstart(&[
        "run",
        "../pipeline.toml",
        "--date",
        "2026-01-02",
        "--set",
        "target.where=tx_count_30d > 3",
    ])
    .is("published");
    let seen = readers_agree(&partitioned(&["class"]));
    assert_eq!(seen["classification"]["rows"], ROWS, "{seen}");
    readers_agree(&partitioned(&["decision", "class"]));
}

fn partitioned(keys: &[&str]) -> Workdir {
    let work = Workdir::new();
    work.run(&["--set", &format!("output.partition_by={keys:?}")]).is("published");
    let found: BTreeMap<String, Vec<u64>> = work.probabilities("classification", "account_id");
    assert!(found == reference_probabilities()["classification"], "partitions hold the same accounts");
    work
}

/// Four classes, three teachers: LightGBM, XGBoost and ONNX.
#[test]
fn four_classes_from_three_formats() {
    let work = Workdir::empty();
    let mut teachers = String::new();
    for scenario in ABUSE {
        let model = Model::new(scenario, ABUSE_CLASSES, 7);
        if scenario.teaches {
            let folder = format!("teachers/{}", scenario.name);
            for entry in fs::read_dir(fixture("teachers4").join(scenario.name)).expect("a bundle").flatten() {
                work.write_bytes(
                    &format!("{folder}/{}", entry.file_name().to_string_lossy()),
                    &fs::read(entry.path()).expect("a file"),
                );
            }
            work.write_bytes(
                &format!("{folder}/history.parquet"),
                &parquet(&tables::history(&model, 7, 600).expect("a history"), 1000),
            );
            teachers += &format!("[[teachers]]\nbundle = \"{folder}\"\n");
        } else {
            work.write_bytes(
                PART_0,
                &parquet(&tables::target(&model, 7, 0, 0..ROWS).expect("a target").0, 64),
            );
        }
    }
    let target = "[target]\naccounts = \"lake/target\"\nid = \"account_id\"";
    let student = "[student]\nfamily = \"logistic\"\n[output]\npath = \"out\"\npartition_by = [\"class\"]";
    work.write_text(
        "pipeline.toml",
        &format!("name = \"clubs\"\nclasses = {ABUSE_CLASSES:?}\n{target}\n{teachers}{student}\n"),
    );
    let ran = work.run(&[]);
    let result = ran.result();
    assert_eq!(
        result["classes"].as_object().map(|c| c.values().filter_map(Value::as_u64).sum()),
        Some(ROWS as u64),
        "{ran}"
    );
    for table in ["soft_labels", "classification"] {
        for (account, p) in work.probabilities(table, "account_id") {
            let p: Vec<f64> = p.into_iter().map(f64::from_bits).collect();
            assert!(p.len() == 4 && (p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{table}, {account}: {p:?}");
        }
    }
    assert!(work.published_table("soft_labels").columns().iter().all(|c| c.null_count() == 0));
    assert!(
        work.files("home").is_empty() && work.files("tmp").is_empty(),
        "no library keeps anything of its own"
    );
}
