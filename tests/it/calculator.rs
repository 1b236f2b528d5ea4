//! `coldstart relevance train`, what a run does with a saved calculator, and what it finds out about its
//! teachers.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray};
use arrow::datatypes::DataType;
use serde_json::{Value, json};

use crate::accounts::{Model, RISK, RISK_CLASSES};
use crate::faults::{discreet, faults};
use crate::tables;
use crate::workdir::{DATE, Ran, Workdir, floats, parquet, texts, with};

const USE: [&str; 2] = ["--set", "relevance.calculator=calculator.json"];
const COPY: &str = "[[teachers]]\nbundle = \"teachers/copy\"\n[student]";

fn train(work: &Workdir, pipeline: &str, more: &[&str]) -> Ran {
    work.coldstart(&[&["relevance", "train", pipeline, "-o", "../calculator.json"], more].concat())
}

/// Every account's weights and probabilities in `soft_labels`, to the last bit.
fn soft_labels(work: &Workdir) -> BTreeMap<String, Vec<u64>> {
    let table = work.published_table("soft_labels");
    let columns: Vec<Vec<f64>> = ["p_legit", "p_fraud", "w_bazaar", "w_studio", "w_wallet", "support"]
        .iter()
        .map(|c| floats(&table, c))
        .collect();
    let ids = texts(&table, "account_id").into_iter().flatten().enumerate();
    ids.map(|(i, id)| (id, columns.iter().map(|c| c[i].to_bits()).collect())).collect()
}

/// Teachers in another order.
fn turn(work: &Workdir) {
    let text = String::from_utf8(work.bytes("pipeline.toml")).expect("text");
    let text = text
        .replace("teachers/bazaar", "teachers/X")
        .replace("teachers/studio", "teachers/bazaar")
        .replace("teachers/X", "teachers/studio");
    work.write_text("turned.toml", &text);
}

/// The value of a column for the teacher named, in a table with a row for each.
fn of(work: &Workdir, table: &str, teacher: &str, column: &str) -> f64 {
    let table = work.published_table(table);
    let row = texts(&table, "teacher").iter().position(|t| t.as_deref() == Some(teacher));
    floats(&table, column)[row.unwrap_or_else(|| panic!("no {teacher}"))]
}

/// Labels of a history in another order, so that they say nothing of its accounts.
fn shuffle_labels(work: &Workdir, teacher: &str) {
    work.change(&format!("teachers/{teacher}/history.parquet"), |t| {
        let labels = texts(&t, "label");
        let n = labels.len();
        let shuffled: StringArray = (0..n).map(|i| labels[(i * 7919 + 13) % n].clone()).collect();
        with(&t, "label", Arc::new(shuffled) as ArrayRef)
    });
}

/// Histories of some thousand accounts: of a hundred held-out ones with ten frauds, chance alone may make
/// sense.
fn longer_histories(work: &Workdir) {
    for scenario in RISK.iter().filter(|s| ["bazaar", "wallet", "studio"].contains(&s.name)) {
        let history = tables::history(&Model::new(scenario, RISK_CLASSES, 7), 7, 3000).expect("a history");
        work.write_bytes(&format!("teachers/{}/history.parquet", scenario.name), &parquet(&history, 1000));
    }
}

#[test]
fn a_calculator_trained_before_its_target_exists_gives_the_same_labels_whatever_the_order_of_teachers_and_threads()
 {
    let work = Workdir::new();
    turn(&work);
    fs::rename(work.path("lake"), work.path("lake.later")).expect("no target yet");
    let ran = train(&work, "../pipeline.toml", &["--threads", "1"]);
    discreet(&ran, &work);
    let said = ran.is("trained").result();
    assert_eq!(
        (&said["teachers"], &said["trained"], &said["rehearsals"]),
        (&json!(["bazaar", "studio", "wallet"]), &json!(true), &json!(3))
    );
    let first = work.bytes("calculator.json");
    train(&work, "../turned.toml", &["--threads", "3"]).is("trained");
    assert!(work.bytes("calculator.json") == first, "the same calculator");
    fs::rename(work.path("lake.later"), work.path("lake")).expect("the target");

    work.run(&[]).is("published");
    let in_passing = soft_labels(&work);
    let ran = work.run(&[&USE[..], &["--replace"]].concat());
    ran.is("published");
    let saved = soft_labels(&work);
    assert!(!ran.stderr.contains("not used"), "{ran}");
    work.coldstart(&["run", "../turned.toml", "--date", DATE, "--threads", "3", "--replace", USE[0], USE[1]])
        .is("published");
    assert!(soft_labels(&work) == saved, "neither order nor threads matter");
    let gap = |(a, b): (&u64, &u64)| (f64::from_bits(*a) - f64::from_bits(*b)).abs();
    let gaps = in_passing.iter().map(|(id, p)| p[..2].iter().zip(&saved[id]).map(gap).fold(0.0, f64::max));
    let most = gaps.fold(0.0, f64::max);
    assert!(most > 0.0 && most < 0.1, "edges of the histories alone give nearly the same labels: {most}");
}

#[test]
fn the_calculator_that_a_run_kept_serves_the_next_run() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let before = soft_labels(&work);
    let kept = format!("relevance.calculator=out/_runs/couriers/ds={DATE}/explanation/calculator.json");
    fs::copy(
        work.path(&format!("out/_runs/couriers/ds={DATE}/explanation/calculator.json")),
        work.path("calculator.json"),
    )
    .expect("kept");
    work.run(&["--set", &kept, "--set", "relevance.calculator=calculator.json", "--replace"]).is("published");
    assert!(soft_labels(&work) == before, "trained with this target, it is the same");
}

#[test]
fn a_stale_calculator_is_refused_with_the_teacher_that_made_it_so() {
    let stale = |names: &[(&str, &str)], change: &dyn Fn(&Workdir)| {
        faults(|f| {
            f.refused_with(
                &USE,
                78,
                &[&[("error", "stale"), ("hint", "relevance train"), ("file", "calculator.json")], names]
                    .concat(),
                |w| {
                    train(w, "../pipeline.toml", &[]).is("trained");
                    change(w);
                },
            );
        });
    };
    stale(&[("error", "wallet has changed"), ("teacher", "wallet")], &|w| shuffle_labels(w, "wallet"));
    stale(&[("error", "wallet is no longer among the teachers")], &|w| {
        w.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/wallet\"\n", "");
    });
    stale(&[("error", "copy is new"), ("teacher", "copy")], &|w| {
        copy_bazaar(w);
        w.edit("pipeline.toml", "[student]", COPY);
    });
    let work = Workdir::new();
    train(&work, "../pipeline.toml", &[]).is("trained");
    shuffle_labels(&work, "bazaar");
    assert_eq!(
        work.coldstart(&[&["check", "../pipeline.toml"], &USE[..]].concat()).error(78)["teacher"],
        "bazaar"
    );
}

/// `teachers/copy`: bazaar under another name.
fn copy_bazaar(work: &Workdir) {
    for (path, bytes) in work.files("teachers/bazaar") {
        work.write_bytes(&format!("teachers/copy/{path}"), &bytes);
    }
    work.edit("teachers/copy/teacher.toml", "name = \"bazaar\"", "name = \"copy\"");
}

#[test]
fn a_damaged_calculator_is_refused_with_the_key_of_the_damage() {
    let work = Workdir::new();
    train(&work, "../pipeline.toml", &[]).is("trained");
    let whole: Value = serde_json::from_slice(&work.bytes("calculator.json")).expect("JSON");
    let refused = |names: &[(&str, &str)]| {
        let ran = work.run(&USE);
        discreet(&ran, &work);
        let error = ran.error(65);
        for (key, part) in [&[("file", "calculator.json")], names].concat() {
            assert!(error[key].to_string().contains(part), "the error's {key:?} says {part:?}\n{ran}");
        }
    };
    let cases: &[(&str, Value, &str)] = &[
        ("/format", json!(2), "format"),
        ("/unheard_of", json!(1), "unheard_of"),
        ("/theta/gamma", json!(7.0), "theta"),
        ("/theta/bQ", Value::Null, "theta.bQ"),
        ("/theta/bQ", json!("NaN"), "theta.bQ"),
        ("/theta/bM", json!(1e300), "theta"),
        ("/theta/more", json!(1), "theta"),
        ("/log_rows", json!([5.0, 5.0]), "log_rows"),
        ("/calibrations/0/bias", json!([0.0]), "calibrations[0].bias"),
        ("/calibrations/1/slope", json!(-1.0), "calibrations[1].slope"),
        ("/teachers/1/name", json!("bazaar"), "teachers"),
        ("/classes", json!(["legit", "legit"]), "classes"),
        ("/judgement/relative/0", json!([]), "judgement.relative"),
        ("/judgement/shares/0", json!([0.5]), "judgement.shares"),
        ("/without", json!([]), "without"),
        ("/without/2/slopes", json!([1.0, 1.0, 1.0]), "without[2].slopes"),
        ("/profiles/sources", json!([0, 0, 9]), "profiles.sources"),
        ("/profiles/sources", json!([0, 1, -1]), "profiles.sources"),
        ("/profiles/features/0/histories/1", json!([1, 2]), "histories"),
        ("/profiles/features/0/bins", json!({"number": [2.0, 1.0]}), "bins"),
        ("/profiles/features/0/bins", json!({"nothing": []}), "bins"),
        ("/repeats", json!([{"name": "x", "digest": "", "same_as": "nobody"}]), "repeats"),
        ("/rehearsals/0/history", json!("nobody"), "rehearsals[0]"),
        ("/rehearsals/0/uniform", json!(-1.0), "rehearsals[0]"),
    ];
    for (at, value, key) in cases {
        let mut damaged = whole.clone();
        let (parent, name) = at.rsplit_once('/').expect("a pointer");
        match damaged.pointer_mut(parent).expect("a parent") {
            Value::Object(map) => drop(map.insert(name.to_string(), value.clone())),
            Value::Array(items) => items[name.parse::<usize>().expect("a place")] = value.clone(),
            other => panic!("{other}"),
        }
        work.write_text("calculator.json", &damaged.to_string());
        let named = if *at == "/unheard_of" || *at == "/theta/more" {
            ("error", at.rsplit_once('/').expect("a name").1)
        } else {
            ("key", *key)
        };
        refused(&[named]);
    }
    let text = whole.to_string();
    for damaged in [&text[..text.len() / 2], "", "null", "[]", "{}", "{\"format\": 1}", &"[".repeat(100_000)]
    {
        work.write_text("calculator.json", damaged);
        refused(&[("error", "not a relevance calculator")]);
    }
    work.write_text("calculator.json", &text.replacen("\"bQ\":", "\"bQ\": 1e999, \"ignored\":", 1));
    refused(&[("error", "not a relevance calculator")]);
    fs::File::create(work.path("calculator.json")).and_then(|f| f.set_len(1 << 40)).expect("a huge file");
    // The key of a run is the digest of its inputs; nobody waits for that of a terabyte.
    assert_eq!(work.run(&USE).error(65)["value"], (1u64 << 40).to_string() + " bytes");
    fs::remove_file(work.path("calculator.json")).expect("gone");
    work.run(&USE).error(66);
    work.write_text("calculator.json", &text);
    work.run(&USE).is("published");
}

#[test]
fn a_copy_of_a_teacher_is_left_out_of_training_and_nothing_changes_without_it() {
    let work = Workdir::new();
    copy_bazaar(&work);
    train(&work, "../pipeline.toml", &[]).is("trained");
    work.run(&USE).is("published");
    let before = soft_labels(&work);
    work.edit("pipeline.toml", "[student]", COPY);
    assert_eq!(train(&work, "../pipeline.toml", &[]).result()["repeats"], json!(["copy"]));
    for more in [&[USE[0], USE[1], "--replace"][..], &["--replace"]] {
        let ran = work.run(more);
        ran.is("published");
        assert!(more.len() == 1 || soft_labels(&work) == before, "a copy changes no label\n{ran}");
        for column in ["weight", "moved", "class_changes"] {
            assert_eq!(of(&work, "relevance_drop_one", "copy", column), 0.0, "{column}\n{ran}");
        }
        assert!(of(&work, "relevance_drop_one", "bazaar", "moved") > 0.0);
        assert!(ran.result()["verdict"].as_str().is_some_and(|v| v.contains("copy repeats bazaar")), "{ran}");
        let ids = texts(&work.target(), "account_id");
        let said = work
            .coldstart(&[
                "explain",
                "../pipeline.toml",
                "--date",
                DATE,
                ids[3].as_deref().expect("an id"),
                USE[0],
                USE[1],
            ])
            .result();
        let copy = said["teachers"]
            .as_array()
            .and_then(|t| t.iter().find(|t| t["teacher"] == "copy"))
            .expect("the copy")
            .clone();
        assert_eq!((&copy["same_as"], &copy["without"]["p"]), (&json!("bazaar"), &said["label"]["p"]));
    }
    work.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/wallet\"\n", "");
    work.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/studio\"\n", "");
    let error = train(&work, "../pipeline.toml", &[]).error(65);
    assert!(error["error"].to_string().contains("fewer than two different teachers"), "{error}");
}

#[test]
fn the_verdict_distrusts_the_teacher_whose_labels_were_shuffled() {
    for teacher in ["bazaar", "wallet", "studio"] {
        let work = Workdir::new();
        longer_histories(&work);
        shuffle_labels(&work, teacher);
        let ran = work.run(&[]);
        let said = ran.result()["verdict"].as_str().expect("a verdict").to_string();
        assert!(said.contains(&format!("Distrust {teacher} most")), "{said}");
        assert!(ran.stdout.len() < 4096, "{}", ran.stdout.len());
        let verdict = work.published_table("relevance_verdict");
        assert_eq!(
            (texts(&verdict, "distrust"), texts(&verdict, "verdict")),
            (vec![Some(teacher.to_string())], vec![Some(said)])
        );
        let skill = |teacher| of(&work, "relevance_drop_one", teacher, "own_skill");
        let others = ["bazaar", "wallet", "studio"].into_iter().filter(|t| *t != teacher).map(skill);
        // by chance the held-out accounts may have another base rate
        assert!(
            skill(teacher) < 0.1 && others.clone().all(|s| s > 1.5 * skill(teacher)),
            "{} {:?}",
            skill(teacher),
            others.collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_run_shows_its_rivals_side_by_side_and_estimates_only_what_was_rehearsed() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let rehearsals = work.published_table("relevance_rehearsal");
    assert_eq!(texts(&rehearsals, "history"), ["bazaar", "studio", "wallet"].map(|n| Some(n.to_string())));
    let oracle = floats(&rehearsals, "oracle");
    for column in ["uniform", "js", "gate", "default", "aligned", "with_shares", "best"] {
        let losses = floats(&rehearsals, column);
        assert!(losses.iter().all(|l| l.is_finite() && *l > 0.0), "{column}: {losses:?}");
        assert!(
            column != "best" || losses.iter().zip(&oracle).all(|(l, o)| l > o),
            "one teacher for all and one for each: {losses:?} {oracle:?}"
        );
    }
    let verdict = work.published_table("relevance_verdict");
    let one = |column: &str| floats(&verdict, column)[0];
    assert!(
        one("accuracy_low") < one("accuracy")
            && one("accuracy") <= one("accuracy_high")
            && one("accuracy_error") > 0.0
    );
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let labels = work.published_table("soft_labels");
    let confidence: Vec<f64> = floats(&labels, "p_legit").iter().map(|p| p.max(1.0 - p)).collect();
    assert!((one("confidence") - mean(&confidence)).abs() < 1e-9, "few accounts are all looked at");
    let weights = floats(&work.published_table("relevance_drop_one"), "weight");
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);

    work.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/wallet\"\n", "");
    let said = work.run(&["--replace"]).result()["verdict"].to_string();
    assert!(said.contains("cannot be told") && said.contains("fewer than three teachers"), "{said}");
    assert!(said.contains("No accuracy is estimated"), "{said}");
    let verdict = work.published_table("relevance_verdict");
    assert!(floats(&verdict, "accuracy")[0].is_nan() && floats(&verdict, "aligned_change")[0].is_nan());
    assert_eq!(work.published_table("relevance_rehearsal").num_rows(), 0);
}

#[test]
fn teachers_that_have_nothing_in_common_with_the_target_count_evenly_and_the_run_says_so() {
    let work = Workdir::new();
    for part in [crate::workdir::PART_0, crate::workdir::PART_1] {
        work.change(part, |t| {
            let fields = t.schema();
            fields.fields().iter().filter(|f| f.name() != "account_id").fold(t.clone(), |t, f| {
                let far: ArrayRef = match f.data_type() {
                    kind if kind.is_numeric() => Arc::new(Float64Array::from(vec![1e9; t.num_rows()])),
                    DataType::Boolean => Arc::new(BooleanArray::from(vec![None; t.num_rows()])),
                    _ => Arc::new(StringArray::from(vec!["never seen"; t.num_rows()])),
                };
                with(&t, f.name(), far)
            })
        });
    }
    let ran = work.run(&[]);
    let said = ran.result()["verdict"].to_string();
    assert!(
        said.contains("all teachers count evenly") && ran.stderr.contains("no teacher's history overlaps"),
        "{ran}"
    );
    let labels = work.published_table("soft_labels");
    for weight in ["w_bazaar", "w_studio", "w_wallet"] {
        assert!(floats(&labels, weight).iter().all(|w| (w - 1.0 / 3.0).abs() < 1e-9), "{weight}");
    }
    let js = floats(&work.published_table("relevance"), "js");
    assert!(js.iter().all(|js| js.is_nan() || *js > 0.8), "the pooled teacher alone has none: {js:?}");
    assert!(floats(&labels, "w_pooled").iter().all(|w| *w == 0.0));
}
