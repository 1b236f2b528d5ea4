//! A column that came to mean nothing is seen, and the estimate does not rise with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, new_null_array};

use crate::workdir::{PART_0, PART_1, Ran, Workdir, floats, texts, with};

/// What is made of a column.
type Change = Box<dyn Fn(&RecordBatch) -> ArrayRef>;

fn changed(name: &str, change: impl Fn(&RecordBatch) -> ArrayRef, more: &[&str]) -> (Workdir, Ran) {
    let work = Workdir::new();
    for part in [PART_0, PART_1] {
        work.change(part, |t| with(&t, name, change(&t)));
    }
    let ran = work.run(more);
    (work, ran)
}

fn estimated(work: &Workdir) -> f64 {
    floats(&work.published_table("relevance_verdict"), "accuracy")[0]
}

#[test]
fn columns_that_are_emptied_padded_upper_cased_or_scaled_are_seen_and_lower_the_estimate() {
    let whole = Workdir::new();
    whole.run(&[]).is("published");
    let table = whole.published_table("relevance_known");
    assert!(texts(&table, "lost").iter().all(|l| l.as_deref() == Some("false")), "{table:?}");
    let before = estimated(&whole);
    let text = |change: fn(String) -> String| {
        move |t: &RecordBatch| {
            let texts = texts(t, "country").into_iter().map(|v| v.map(change));
            Arc::new(texts.collect::<StringArray>()) as ArrayRef
        }
    };
    let scaled = |by: f64| {
        move |t: &RecordBatch| {
            let values = floats(t, "median_amount").into_iter().map(|v| (!v.is_nan()).then_some(v * by));
            Arc::new(values.collect::<Float64Array>()) as ArrayRef
        }
    };
    let empty =
        |t: &RecordBatch| new_null_array(t.column_by_name("country").unwrap().data_type(), t.num_rows());
    let cases: [(&str, Change); 5] = [
        ("country", Box::new(empty)),
        ("country", Box::new(text(|v| format!("{v:<10}")))),
        (
            "country",
            Box::new(text(|v| if v == v.to_uppercase() { v.to_lowercase() } else { v.to_uppercase() })),
        ),
        ("median_amount", Box::new(scaled(100.0))),
        ("median_amount", Box::new(scaled(0.01))),
    ];
    for (name, change) in cases {
        let (work, ran) = changed(name, &change, &[]);
        let verdict = ran.is("published").result()["verdict"].as_str().unwrap().to_string();
        assert!(verdict.contains("Beware") && verdict.contains(name), "{name}: {verdict}");
        assert!(ran.stderr.contains("a column has lost the values"), "{ran}");
        let after = estimated(&work);
        assert!(after < before, "{name}: {after} after {before}");
        let table = work.published_table("relevance_known");
        let lost: Vec<_> = texts(&table, "feature").into_iter().zip(texts(&table, "lost")).collect();
        assert!(lost.iter().any(|(f, l)| f.as_deref() == Some(name) && l.as_deref() == Some("true")));
    }
    let refused = ["--set", "target.lost_columns=reject"];
    let (_, ran) = changed("country", empty, &refused);
    assert_eq!(ran.error(65)["column"], "country", "{ran}");
}
