//! Owners who may not share rows: what `coldstart profile` writes for them, and what a pipeline makes of it.

use serde_json::{Value, json};

use crate::workdir::{Ran, Workdir, floats, texts};

const TEACHERS: [&str; 3] = ["bazaar", "wallet", "studio"];

/// `coldstart profile` of a teacher's history into its bundle.
fn profile(work: &Workdir, teacher: &str, more: &[&str]) -> Ran {
    let bundle = format!("../teachers/{teacher}");
    let (history, out) = (format!("{bundle}/history.parquet"), format!("{bundle}/sketch.json"));
    work.coldstart(
        &[
            &[
                "profile",
                &history,
                "-o",
                &out,
                "--label",
                "label",
                "--held-out",
                "held_out",
                "--teacher",
                &bundle,
            ],
            more,
        ]
        .concat(),
    )
}

const WITH_ALL: [&str; 4] =
    ["--score-with", "../teachers/bazaar", "../teachers/wallet", "../teachers/studio"];

/// From now on the teacher has a profile in place of its rows, which are gone.
fn keep_rows_at_home(work: &Workdir, teacher: &str) {
    let toml = format!("teachers/{teacher}/teacher.toml");
    work.edit(&toml, "accounts = \"history.parquet\"", "profile = \"sketch.json\"");
    std::fs::remove_file(work.path(&format!("teachers/{teacher}/history.parquet"))).expect("a history");
}

fn sketch(work: &Workdir, teacher: &str) -> Value {
    serde_json::from_slice(&work.bytes(&format!("teachers/{teacher}/sketch.json"))).expect("JSON")
}

/// A column of the published `relevance`, in the order of [`TEACHERS`].
fn relevance(work: &Workdir, column: &str) -> Vec<f64> {
    let table = work.published_table("relevance");
    let (names, values) = (texts(&table, "teacher"), floats(&table, column));
    TEACHERS
        .iter()
        .map(|t| values[names.iter().position(|n| n.as_deref() == Some(t)).expect("a teacher")])
        .collect()
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
}

/// A history whose rows stay at home is none for the pooled teacher, which is not what is compared here.
const OFF: [&str; 2] = ["--set", "relevance.pooled=off"];

#[test]
fn a_teacher_without_rows_weighs_nearly_what_it_weighs_with_them() {
    let whole = Workdir::new();
    whole.run(&OFF).is("published");
    for (k, teacher) in TEACHERS.into_iter().enumerate() {
        let work = Workdir::new();
        profile(&work, teacher, &WITH_ALL).is("profiled");
        let labels = &sketch(&work, teacher)["labels"];
        assert_eq!(labels["tables"].as_array().map(Vec::len), Some(3));
        keep_rows_at_home(&work, teacher);
        work.run(&OFF).is("published");
        let of = |column: &str| (relevance(&work, column), relevance(&whole, column));
        let (slope, exact) = of("own_slope");
        assert!(near(&slope, &exact, 1e-9), "{teacher}: own calibration {slope:?}, with rows {exact:?}");
        for (column, tolerance) in [("foreign_slope", 0.03), ("own_loss", 0.01), ("foreign_loss", 0.01)] {
            let (found, exact) = of(column);
            assert!(near(&found, &exact, tolerance), "{teacher}: {column} {found:?}, with rows {exact:?}");
        }
        // one pseudo-target less trains another theta, so the weights are near and not equal
        let (found, exact) = of("weight");
        assert!(near(&found, &exact, 0.03), "{teacher}: weights {found:?}, with rows {exact:?}");
        // without labels the gate knows nothing of the history, and the weight of its teacher moves further
        profile(&work, teacher, &[]).error(66);
        let bare = Workdir::new();
        let history = format!("../teachers/{teacher}/history.parquet");
        let out = format!("../teachers/{teacher}/sketch.json");
        bare.coldstart(&["profile", &history, "--leave-out", "label", "--leave-out", "held_out", "-o", &out])
            .is("profiled");
        keep_rows_at_home(&bare, teacher);
        bare.run(&OFF).is("published");
        let unlabelled = relevance(&bare, "weight");
        assert!(
            (found[k] - exact[k]).abs() <= (unlabelled[k] - exact[k]).abs() + 1e-3,
            "{teacher}: {found:?} {unlabelled:?} {exact:?}"
        );
        // and so do the labels that come of it
        let gap = |w: &Workdir| {
            let p = |w: &Workdir| floats(&w.published_table("soft_labels"), "p_fraud");
            p(w).iter().zip(p(&whole)).map(|(a, b)| (a - b).abs()).sum::<f64>()
        };
        assert!(gap(&work) < gap(&bare), "{teacher}: {} and {}", gap(&work), gap(&bare));
    }
}

#[test]
fn a_profile_with_the_own_calibration_alone_holds_no_table() {
    let work = Workdir::new();
    profile(&work, "wallet", &[]).is("profiled");
    let file = sketch(&work, "wallet");
    assert_eq!(file["labels"]["tables"], json!([]));
    assert_eq!(file["labels"]["classes"], json!(["legit", "fraud"]));
    let counts: u64 =
        file["labels"]["counts"].as_array().expect("counts").iter().filter_map(Value::as_u64).sum();
    assert_eq!(file["rows"], counts);
    assert!(file["features"].get("label").is_none() && file["features"].get("held_out").is_none());
    // a name that a row has alone stays at home
    let ids = &file["features"]["account_id"]["category"];
    assert_eq!((&ids["levels"], &ids["other"]), (&json!([]), &file["rows"]));
    keep_rows_at_home(&work, "wallet");
    work.run(&[]).is("published");
    let slope = relevance(&work, "own_slope")[1];
    let written = &file["labels"]["own"]["calibration"]["slope"];
    assert!((written.as_f64().expect("a slope") - slope).abs() < 1e-12);
    // all three without rows: nothing can be trained, and it is said
    for teacher in ["bazaar", "studio"] {
        profile(&work, teacher, &[]).is("profiled");
        keep_rows_at_home(&work, teacher);
    }
    let ran = work.run(&["--replace"]);
    ran.is("published");
    assert!(ran.events("relevance").iter().any(|e| e.contains("could not be trained")), "{ran}");
}

#[test]
fn noise_is_drawn_from_the_secret_and_said_in_the_file() {
    let work = Workdir::new();
    let noisy = |epsilon: &str, secret: &str| {
        profile(
            &work,
            "bazaar",
            &[&WITH_ALL[..], &["--epsilon", epsilon, "--noise-secret", secret]].concat(),
        )
        .is("profiled");
        work.bytes("teachers/bazaar/sketch.json")
    };
    let strong = noisy("20", "owl");
    assert!(strong == noisy("20", "owl") && strong != noisy("20", "crow"));
    assert!(!String::from_utf8_lossy(&strong).contains("crow"));
    let file = sketch(&work, "bazaar");
    let histograms = file["features"].as_object().expect("features").len() as u64 + 2 + 3;
    assert_eq!(
        (&file["privacy"]["epsilon"], &file["privacy"]["histograms"]),
        (&json!(20.0), &json!(histograms))
    );
    assert!(file["privacy"]["mechanism"].as_str().expect("a text").contains("Laplace"));
    // little noise is nearly none, and much of it still makes a file that is read
    noisy("0.001", "owl");
    noisy("100000", "owl");
    let exact = Workdir::new();
    profile(&exact, "bazaar", &WITH_ALL).is("profiled");
    for w in [&work, &exact] {
        keep_rows_at_home(w, "bazaar");
        w.run(&[]).is("published");
    }
    let (found, wanted) = (relevance(&work, "weight"), relevance(&exact, "weight"));
    assert!(near(&found, &wanted, 0.01), "{found:?} and {wanted:?}");
    work.write_bytes("teachers/bazaar/sketch.json", &strong);
    work.run(&["--replace"]).is("published");
    let refused = |more: &[&str], code: i32| assert_eq!(profile(&exact, "wallet", more).code, Some(code));
    refused(&["--epsilon", "-1", "--noise-secret", "owl"], 2);
    refused(&["--epsilon", "1e-300", "--noise-secret", "owl"], 2);
    refused(&["--epsilon", "1"], 2);
}

#[test]
fn a_profile_of_another_model_is_not_believed() {
    let work = Workdir::new();
    profile(&work, "bazaar", &WITH_ALL).is("profiled");
    keep_rows_at_home(&work, "bazaar");
    let good = sketch(&work, "bazaar");
    let write = |file: &Value| work.write_text("teachers/bazaar/sketch.json", &file.to_string());
    let mut stale = good.clone();
    stale["labels"]["own"]["model"] = json!("0".repeat(64));
    write(&stale);
    let error = work.run(&[]).error(65);
    assert_eq!((&error["key"], &error["teacher"]), (&json!("labels.own.model"), &json!("bazaar")));
    let mut stale = good.clone();
    stale["labels"]["tables"][1]["model"] = json!("0".repeat(64));
    write(&stale);
    let ran = work.run(&[]);
    ran.is("published");
    assert!(ran.events("relevance").iter().any(|e| e.contains("another model")), "{ran}");
}

#[test]
fn a_hostile_profile_is_refused_by_file_key_and_value() {
    let work = Workdir::new();
    profile(&work, "bazaar", &WITH_ALL).is("profiled");
    keep_rows_at_home(&work, "bazaar");
    let good = sketch(&work, "bazaar");
    let number = "/features/account_age_days/number";
    let category = "/features/country/category";
    let cell = "/labels/tables/0/cells/0";
    let cases: Vec<(String, Value, &str, &str)> = vec![
        ("/format".into(), json!(99), "error", "format version"),
        ("/rows".into(), json!(0), "key", "rows"),
        ("/surprise".into(), json!(1), "error", "surprise"),
        (format!("{number}/counts/0"), json!(u64::MAX), "key", "counts"),
        (format!("{number}/counts/0"), json!(-1), "key", "counts[0]"),
        (format!("{number}/counts"), json!([1]), "key", "values"),
        (format!("{number}/values/0"), json!(1e300), "key", "values"),
        (format!("{number}/n"), json!(1), "key", "n"),
        (format!("{category}/levels/0/0"), json!("\u{10ffff}"), "key", "levels"),
        (format!("{category}/nulls"), json!(u64::MAX), "key", "counts"),
        ("/labels/classes/0".into(), json!("fraud"), "key", "labels.classes"),
        ("/labels/classes/0".into(), json!("theft"), "value", "theft"),
        ("/labels/counts".into(), json!([0, 0]), "key", "labels.counts"),
        ("/labels/counts/1".into(), json!(1), "error", "at least 5"),
        ("/labels/own/calibration/slope".into(), json!(0.0), "key", "labels.own.calibration.slope"),
        ("/labels/own/calibration/bias".into(), json!([1e9, 0.0]), "key", "labels.own.calibration.bias"),
        (
            "/labels/tables/1/teacher".into(),
            good["labels"]["tables"][0]["teacher"].clone(),
            "key",
            "labels.tables",
        ),
        (format!("{cell}/score"), json!([0.9, 0.9]), "key", "labels.tables.cells.score"),
        (format!("{cell}/score"), json!([1.0]), "key", "labels.tables.cells.score"),
        (format!("{cell}/label"), json!(2), "key", "labels.tables.cells.label"),
        (format!("{cell}/rows"), json!(u64::MAX), "key", "counts"),
    ];
    for (place, value, key, said) in cases {
        let mut bad = good.clone();
        match bad.pointer_mut(&place) {
            Some(old) => *old = value.clone(),
            None => bad[place.trim_start_matches('/')] = value.clone(),
        }
        assert!(bad != good, "{place}");
        work.write_text("teachers/bazaar/sketch.json", &bad.to_string());
        let ran = work.run(&[]);
        let error = ran.error(65);
        assert!(error[key].as_str().unwrap_or_default().contains(said), "{place} = {value}: {error}");
        assert!(error["file"].as_str().unwrap_or_default().ends_with("sketch.json"), "{place}: {error}");
        assert_eq!(error["teacher"], "bazaar", "{place}: {error}");
    }
    for text in ["", "{", "[]", "null", "{\"format\": 2}", &"[".repeat(100_000)] {
        work.write_text("teachers/bazaar/sketch.json", text);
        assert_eq!(work.run(&[]).error(65)["teacher"], "bazaar");
    }
    work.write_text("teachers/bazaar/sketch.json", &good.to_string());
    work.run(&[]).is("published");
}

#[test]
fn an_owner_is_told_what_is_wrong_with_the_request() {
    let work = Workdir::new();
    let history = "../teachers/bazaar/history.parquet";
    let run = |more: &[&str]| work.coldstart(&[&["profile", history, "-o", "../out.json"], more].concat());
    assert_eq!(run(&["--label", "lable"]).error(65)["column"], "lable");
    assert_eq!(run(&["--teacher", "../teachers/bazaar"]).code, Some(2));
    run(&["--label", "label", "--teacher", "../teachers/nobody"]).error(66);
    assert_eq!(
        run(&["--label", "country", "--teacher", "../teachers/bazaar"]).error(65)["column"],
        "country"
    );
    assert_eq!(
        run(&["--label", "label", "--held-out", "country", "--teacher", "../teachers/bazaar"]).error(65)["column"],
        "country"
    );
    work.change("teachers/bazaar/history.parquet", |t| crate::workdir::without(&t, "country"));
    assert_eq!(
        run(&["--label", "label", "--score-with", "../teachers/wallet"]).error(65)["column"],
        "country"
    );
    assert!(!work.path("out.json").exists());
}
