//! D: the values of features, and how few accounts there may be.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::{both, faults, tolerated};
use crate::workdir::{PART_0, PART_1, ROWS, Workdir, floats, named_columns, table, texts, with};

pub const HISTORY: &str = "teachers/bazaar/history.parquet";

/// A float64 column with other values in some rows.
pub fn set(batch: &RecordBatch, column: &str, values: &[(usize, Option<f64>)]) -> RecordBatch {
    let old = batch.column_by_name(column).expect("a column").as_primitive::<Float64Type>();
    let mut new: Vec<Option<f64>> = old.iter().collect();
    values.iter().for_each(|(row, v)| new[*row] = *v);
    with(batch, column, Arc::new(Float64Array::from(new)))
}

/// Every account has a class, and every probability is one.
fn all_finite(work: &Workdir, rows: usize) {
    for name in ["soft_labels", "classification"] {
        let found = work.published_table(name);
        assert_eq!(found.num_rows(), rows, "{name}");
        let p: Vec<Vec<f64>> = ["p_legit", "p_fraud"].iter().map(|c| floats(&found, c)).collect();
        for (legit, fraud) in p[0].iter().zip(&p[1]) {
            assert!(
                (0.0..=1.0).contains(fraud) && (legit + fraud - 1.0).abs() < 1e-9,
                "{name}: {legit} + {fraud}"
            );
        }
    }
}

#[test]
fn d47_what_is_not_finite_is_refused_with_counts_or_read_as_null() {
    let odd = [(3, Some(f64::NAN)), (5, Some(f64::INFINITY)), (6, Some(f64::NEG_INFINITY))];
    faults(|f| {
        f.refused(
            65,
            &[
                ("file", "part-"),
                ("column", "refund_rate"),
                ("value", "1 NaN, 2 infinite"),
                ("hint", "as_null"),
            ],
            |w| {
                w.change(PART_1, |t| set(&t, "refund_rate", &odd));
            },
        );
        f.refused(65, &[("file", "history.parquet"), ("column", "refund_rate"), ("value", "1 NaN")], |w| {
            w.change(HISTORY, |t| set(&t, "refund_rate", &odd[..1]));
        });
    });
    let as_null = |values: [(usize, Option<f64>); 3]| {
        let work = Workdir::new();
        work.change(PART_1, |t| set(&t, "refund_rate", &values));
        let ran = work.run(&["--set", "target.non_finite=as_null"]);
        ran.is("published");
        (
            work.probabilities("classification", "account_id"),
            ran.events("profile").iter().any(|e| e.contains("not finite")),
        )
    };
    let (odd, warned) = as_null(odd);
    assert!(warned && odd == as_null(odd_rows_as_null()).0);
}

fn odd_rows_as_null() -> [(usize, Option<f64>); 3] {
    [(3, None), (5, None), (6, None)]
}

#[test]
fn d49_a_column_of_nulls_and_an_account_of_nulls_have_a_class() {
    let work = Workdir::new();
    both(&work, |t| with(&t, "median_amount", Arc::new(Float64Array::from(vec![None; t.num_rows()]))));
    work.run(&[]).is("published");
    all_finite(&work, ROWS);
    let work = Workdir::new();
    both(&work, |t| {
        let nulls = |(name, array): (String, ArrayRef)| match name.as_str() {
            "account_id" => (name, array),
            _ => (name, new_null_array(array.data_type(), array.len())),
        };
        table(named_columns(&t).into_iter().map(nulls).collect())
    });
    work.run(&[]).is("published");
    all_finite(&work, ROWS);
}

#[test]
fn d50_constants_subnormals_and_huge_numbers_are_finite_and_beyond_float32_refused() {
    for value in [0.0, -0.0, 7.5, 1e-310, f64::MIN_POSITIVE, 3e38, -3e38] {
        let work = Workdir::new();
        both(&work, |t| with(&t, "median_amount", Arc::new(Float64Array::from(vec![value; t.num_rows()]))));
        work.run(&[]).is("published");
        all_finite(&work, ROWS);
    }
    tolerated(|w| {
        both(w, |t| {
            let negated: Vec<Option<f64>> = t
                .column_by_name("neighbours_flagged_share")
                .unwrap()
                .as_primitive::<Float64Type>()
                .iter()
                .collect();
            let negated: Float64Array =
                negated.into_iter().map(|v| v.map(|v| if v == 0.0 { -0.0 } else { v })).collect();
            with(&t, "neighbours_flagged_share", Arc::new(negated))
        });
    });
    faults(|f| {
        f.refused(65, &[("column", "median_amount"), ("value", "1 infinite or beyond float32")], |w| {
            w.change(PART_0, |t| set(&t, "median_amount", &[(0, Some(1e300))]));
        });
    });
}

#[test]
fn d51_the_same_values_in_another_type_are_the_same_and_other_types_are_refused() {
    let same = [
        ("tx_count_30d", DataType::Decimal128(18, 0)),
        ("tx_count_30d", DataType::UInt64),
        ("account_age_days", DataType::Float64),
        ("email_verified", DataType::Int8),
        ("country", DataType::LargeUtf8),
        ("country", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))),
        ("device_os", DataType::Utf8View),
        ("account_id", DataType::LargeUtf8),
    ];
    for (column, to) in same {
        tolerated(|w| both(w, |t| with(&t, column, cast(t.column_by_name(column).unwrap(), &to).unwrap())));
    }
    faults(|f| {
        let date: fn(usize) -> ArrayRef = |n| Arc::new(Date32Array::from(vec![20_000; n]));
        let text: fn(usize) -> ArrayRef = |n| Arc::new(StringArray::from(vec!["12"; n]));
        let flag: fn(usize) -> ArrayRef = |n| Arc::new(BooleanArray::from(vec![true; n]));
        let cases = [
            ("account_age_days", "Date32", date),
            ("tx_count_30d", "Utf8", text),
            ("country", "Boolean", flag),
        ];
        for (column, found, array) in cases {
            f.refused(65, &[("column", column), ("error", found)], |w| {
                both(w, |t| with(&t, column, array(t.num_rows())))
            });
        }
        f.refused(65, &[("column", "account_id"), ("error", "Boolean")], |w| {
            both(w, |t| with(&t, "account_id", flag(t.num_rows())))
        });
    });
}

#[test]
fn d51_integer_ids_come_out_as_they_went_in() {
    let work = Workdir::new();
    let first = (1i64 << 53) + 1;
    let ids = |from: i64, n: usize| {
        Arc::new((from..).step_by(2).take(n).map(Some).collect::<Int64Array>()) as ArrayRef
    };
    work.change(PART_0, |t| with(&t, "account_id", ids(first, t.num_rows())));
    work.change(PART_1, |t| with(&t, "account_id", ids(-5000, t.num_rows())));
    work.run(&[]).is("published");
    let found = work.published_table("classification");
    assert_eq!(found.column_by_name("account_id").unwrap().data_type(), &DataType::Int64);
    let found = texts(&found, "account_id");
    assert_eq!(found.len(), ROWS);
    for id in [first, first + 2, -5000] {
        assert!(found.contains(&Some(id.to_string())), "{id}");
    }
}

#[test]
fn d56_one_account_and_fewer_accounts_than_features_have_a_class() {
    for rows in [1, 2, 7] {
        let work = Workdir::new();
        work.write_target(&[work.target().slice(0, rows)], 64);
        work.run(&[]).is("published");
        all_finite(&work, rows);
    }
}

#[test]
fn d57_a_copy_of_a_teacher_is_left_out_and_the_weights_sum_to_one() {
    let work = Workdir::new();
    copy_teacher(&work);
    work.edit("pipeline.toml", "[student]", "[[teachers]]\nbundle = \"teachers/copy\"\n[student]");
    let ran = work.run(&[]);
    ran.is("published");
    assert!(ran.events("score").iter().any(|e| e.contains("says the same")), "{ran}");
    let labels = work.published_table("soft_labels");
    assert!(labels.column_by_name("w_copy").is_none());
    let weights: Vec<Vec<f64>> =
        ["w_bazaar", "w_wallet", "w_studio", "w_pooled"].iter().map(|w| floats(&labels, w)).collect();
    assert!((0..ROWS).all(|i| (weights.iter().map(|w| w[i]).sum::<f64>() - 1.0).abs() < 1e-9));
    faults(|f| {
        f.refused(65, &[("error", "fewer than two different teachers")], |w| {
            copy_teacher(w);
            w.edit("pipeline.toml", "teachers/wallet", "teachers/copy");
            w.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/studio\"\n", "");
        });
        f.refused(65, &[("error", "same name"), ("value", "bazaar")], |w| {
            w.edit("pipeline.toml", "teachers/wallet", "teachers/bazaar")
        });
        f.refused(78, &[("key", "teachers"), ("error", "names 1")], |w| {
            w.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/wallet\"\n", "");
            w.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/studio\"\n", "");
        });
    });
}

/// `teachers/copy`: bazaar under another name.
fn copy_teacher(work: &Workdir) {
    for (path, bytes) in work.files("teachers/bazaar") {
        work.write_bytes(&format!("teachers/copy/{path}"), &bytes);
    }
    work.edit("teachers/copy/teacher.toml", "name = \"bazaar\"", "name = \"copy\"");
}

#[test]
fn d58_a_target_far_from_every_history_and_one_that_is_a_history_are_finite() {
    let far = Workdir::new();
    both(&far, |t| {
        let shift = |name: &str| {
            floats(&t, name)
                .into_iter()
                .map(|v| if v.is_nan() { None } else { Some(1e6 + v) })
                .collect::<Float64Array>()
        };
        ["median_amount", "refund_rate", "neighbours_flagged_share"]
            .iter()
            .fold(t.clone(), |t2, name| with(&t2, name, Arc::new(shift(name))))
    });
    far.run(&[]).is("published");
    all_finite(&far, ROWS);
    let same = Workdir::new();
    let history = same.table(HISTORY);
    let rows = history.num_rows();
    same.write_target(&[history], 64);
    same.run(&[]).is("published");
    all_finite(&same, rows);
    let relevance = same.published_table("relevance");
    let names = texts(&relevance, "teacher");
    let found = floats(&relevance, "relevance");
    let own = found[names.iter().position(|n| n.as_deref() == Some("bazaar")).unwrap()];
    // the pooled teacher has no scenario of its own to be compared with
    let given: Vec<f64> =
        names.iter().zip(found).filter(|(n, _)| n.as_deref() != Some("pooled")).map(|(_, r)| r).collect();
    assert_eq!(given.len(), 3);
    assert!(own.is_finite() && given.iter().all(|r| *r <= own), "its own teacher is the most relevant");
}

#[test]
fn d61_a_class_without_accounts_has_no_partition_and_is_counted() {
    let id = texts(&Workdir::new().table(PART_0), "account_id")[0].clone().unwrap();
    let work = Workdir::new();
    let ran = work.run(&[
        "--set",
        &format!("target.where=account_id = '{id}'"),
        "--set",
        "output.partition_by=[\"class\"]",
    ]);
    let classes = ran.result()["classes"].clone();
    let mut counts: Vec<u64> = classes.as_object().unwrap().values().filter_map(|n| n.as_u64()).collect();
    counts.sort();
    assert_eq!(counts, [0, 1], "{ran}");
    assert_eq!(work.files("out/classification").len(), 1, "{ran}");
}

#[test]
fn d62_any_class_name_makes_a_partition_and_comes_back() {
    for odd in ["a/b", "..", "a=b", "%2F", "with space", "a:b", "🦀"] {
        let work = Workdir::new();
        for teacher in ["bazaar", "wallet", "studio"] {
            work.edit(
                "pipeline.toml",
                &format!("teachers/{teacher}\"\n"),
                &format!("teachers/{teacher}\"\nclasses = {{ fraud = {odd:?} }}\n"),
            );
        }
        work.edit("pipeline.toml", "\"fraud\"]", &format!("{odd:?}]"));
        let result = work.run(&["--set", "output.partition_by=[\"class\"]"]).result();
        let files = work.files("out/classification");
        let folders: std::collections::BTreeSet<&str> =
            files.keys().filter_map(|f| f.split('/').nth(1)).collect();
        assert!(files.keys().all(|f| f.split('/').count() == 3), "{odd}: {files:?}", files = files.keys());
        assert_eq!(
            folders.len(),
            result["classes"].as_object().unwrap().values().filter(|n| **n != 0).count(),
            "{odd}: {folders:?}"
        );
        assert_eq!(work.published_table("classification").num_rows(), ROWS);
    }
}

#[test]
fn d64_a_date_is_a_day_of_the_calendar() {
    let work = Workdir::new();
    for date in ["2026-02-30", "2026-02-29", "2026-13-01", "today", "01.02.2026", "2026-01-01T00:00:00", ""] {
        let ran = work.coldstart(&["run", "../pipeline.toml", "--date", date]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran}");
        assert!(ran.stderr.contains("--date"), "{ran}");
    }
    assert!(!work.path("out").exists());
    assert_eq!(
        work.coldstart(&["run", "../pipeline.toml", "--date", "2028-02-29"]).result()["date"],
        "2028-02-29"
    );
}
