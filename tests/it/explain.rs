//! `coldstart explain`: one account, as it was published.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use serde_json::{Value, json};

use crate::workdir::{DATE, PART_0, PART_1, ROWS, Ran, Workdir, floats, texts, with};

fn explain(work: &Workdir, id: &str, more: &[&str]) -> Ran {
    work.coldstart(&[&["explain", "../pipeline.toml", "--date", DATE], more, &[id]].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What is explained of an account is what was published of it.
fn is_published(work: &Workdir, row: usize) -> Value {
    let labels = work.published_table("soft_labels");
    let id = texts(&labels, "account_id")[row].clone().expect("an id");
    let said = explain(work, &id, &[]).is("explained").result();
    let same = |found: &Value, column: &str| {
        let (found, wanted) = (number(found), floats(&labels, column)[row]);
        assert!((found - wanted).abs() <= 1e-12, "{column} of {id}: {found}, published {wanted}");
    };
    for class in ["legit", "fraud"] {
        same(&said["label"]["p"][class], &format!("p_{class}"));
    }
    same(&said["support"], "support");
    same(&said["disagreement"], "disagreement");
    for teacher in said["teachers"].as_array().expect("teachers") {
        same(&teacher["weight"], &format!("w_{}", teacher["teacher"].as_str().expect("a name")));
        for side in ["like", "unlike"] {
            let sign = if side == "like" { 1.0 } else { -1.0 };
            assert!(
                teacher[side].as_array().expect("features").iter().all(|f| sign * number(&f["adds"]) > 0.0),
                "{said}"
            );
        }
    }
    let classes = work.published_table("classification");
    assert_eq!(said["decision"]["class"].as_str(), texts(&classes, "class")[row].as_deref());
    assert_eq!(number(&said["decision"]["confidence"]), floats(&classes, "confidence")[row]);
    said
}

#[test]
fn an_account_is_explained_with_what_was_published_of_it_and_without_each_teacher() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    let mut moved = 0.0f64;
    for row in [0, 100, ROWS / 2 + 7, ROWS - 1] {
        let said = is_published(&work, row);
        assert_eq!(said["teachers"].as_array().map(Vec::len), Some(4), "three and the pooled one");
        for teacher in said["teachers"].as_array().expect("teachers") {
            let without = &teacher["without"]["p"];
            assert!((number(&without["legit"]) + number(&without["fraud"]) - 1.0).abs() < 1e-9);
            moved = moved.max((number(&without["fraud"]) - number(&said["label"]["p"]["fraud"])).abs());
        }
    }
    assert!(moved > 0.01, "a teacher matters: {moved}");

    work.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/wallet\"\n", "");
    work.run(&["--replace", "--set", "relevance.pooled=off"]).is("published");
    let said = is_published(&work, 5);
    let (a, b) = (&said["teachers"][0], &said["teachers"][1]);
    assert_eq!(a["without"]["class"], b["calibrated"]["class"], "of two teachers one is left: {said}");

    let text = explain(&work, said["account"].as_str().expect("text"), &["--log-format", "text"]);
    assert_eq!(text.code, Some(0));
    for part in ["account ", "soft label", "bazaar", "studio", "without it"] {
        assert!(text.stdout.contains(part), "{part}\n{text}");
    }
}

#[test]
fn what_moved_the_base_rate_moves_the_labels_without_a_teacher_too() {
    for more in [["--set", "target.class_shares={ fraud = 0.4 }"], ["--set", "fuse.method=\"reference\""]] {
        let work = Workdir::new();
        work.run(&more).is("published");
        let said = is_published(&work, 17);
        assert_eq!(said["base_rate"] == "class_shares", more[1].contains("shares"));
    }
}

#[test]
fn integer_ids_are_explained_even_negative_ones() {
    let work = Workdir::new();
    let ids = |from: i64, n: usize| Arc::new((from..).take(n).map(Some).collect::<Int64Array>()) as ArrayRef;
    work.change(PART_0, |t| with(&t, "account_id", ids(1 << 53, t.num_rows())));
    work.change(PART_1, |t| with(&t, "account_id", ids(-500, t.num_rows())));
    work.run(&[]).is("published");
    assert_eq!(is_published(&work, 1)["account"], json!((1i64 << 53) + 1));
    assert_eq!(explain(&work, "-499", &[]).result()["account"], -499);
    explain(&work, "-501", &[]).error(66);
    explain(&work, "0x1", &[]).error(66);
}

#[test]
fn what_cannot_be_explained_is_refused_by_name() {
    let work = Workdir::new();
    let ids: Vec<String> = texts(&work.target(), "account_id").into_iter().flatten().collect();
    explain(&work, &ids[0], &[]).error(66);
    work.run(&[]).is("published");
    let error = explain(&work, "nobody", &[]).error(66);
    assert_eq!((&error["column"], &error["value"]), (&json!("account_id"), &json!("nobody")));
    work.coldstart(&["explain", "../pipeline.toml", "--date", "2026-01-02", &ids[0]]).error(66);

    // The account has changed since: its label would be another.
    let before = [PART_0, PART_1].map(|part| (part, work.bytes(part)));
    work.change(PART_0, |t| {
        let days: Vec<f64> = floats(&t, "account_age_days").iter().map(|d| d + 900.0).collect();
        with(&t, "account_age_days", Arc::new(arrow::array::Float64Array::from(days)) as ArrayRef)
    });
    // The files of one target have one type.
    work.change(PART_1, |t| {
        with(
            &t,
            "account_age_days",
            Arc::new(arrow::array::Float64Array::from(floats(&t, "account_age_days"))) as ArrayRef,
        )
    });
    let error = explain(&work, &ids[0], &[]).error(65);
    assert!(error["error"].to_string().contains("not as it was"), "{error}");
    work.change(PART_0, |t| t.slice(1, t.num_rows() - 1));
    let error = explain(&work, &ids[0], &[]).error(65);
    assert!(error["error"].to_string().contains("no longer among"), "{error}");
    before.iter().for_each(|(part, bytes)| work.write_bytes(part, bytes));

    // A teacher has changed since.
    let bundle = work.bytes("teachers/wallet/teacher.toml");
    work.edit("teachers/wallet/teacher.toml", "scenario = \"", "scenario = \"Other ");
    let error = explain(&work, &ids[0], &[]).error(65);
    assert!(error["error"].to_string().contains("wallet has changed"), "{error}");
    work.write_bytes("teachers/wallet/teacher.toml", &bundle);

    // What was kept is damaged.
    let kept = format!("out/_runs/couriers/ds={DATE}/explanation/fusion.json");
    let whole = work.bytes(&kept);
    work.write_bytes(&kept, &whole[..whole.len() / 2]);
    assert!(explain(&work, &ids[0], &[]).error(65)["file"].to_string().contains("fusion.json"));
}
