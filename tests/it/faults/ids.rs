//! D: ids and labels.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;

use super::faults;
use super::values::{HISTORY, set};
use crate::workdir::{PART_0, PART_1, ROWS, Workdir, renamed, table, texts, with};

/// The column with other ids in some rows.
fn set_ids(batch: &RecordBatch, values: &[(usize, Option<&str>)]) -> RecordBatch {
    let mut ids = texts(batch, "account_id");
    values.iter().for_each(|(row, v)| ids[*row] = v.map(str::to_string));
    with(batch, "account_id", Arc::new(StringArray::from(ids)))
}

#[test]
fn d52_ids_that_stand_twice_are_refused_with_examples_or_the_first_counts() {
    let again = |w: &Workdir| {
        let first = w.table(PART_0).slice(0, 2);
        w.change(PART_1, |t| {
            let conflicting = set(&first, "refund_rate", &[(0, Some(0.75))]);
            concat_batches(&t.schema(), [&t, &conflicting]).expect("one schema")
        });
    };
    let id = texts(&Workdir::new().table(PART_0), "account_id")[0].clone().unwrap();
    faults(|f| {
        f.refused(
            65,
            &[("column", "account_id"), ("value", &id), ("error", "2 rows"), ("hint", "dedupe")],
            again,
        );
        f.refused(65, &[("column", "account_id"), ("value", &id), ("error", "1 row")], |w| {
            w.change(PART_0, |t| set_ids(&t, &[(9, Some(&id))]));
        });
    });
    let work = Workdir::new();
    again(&work);
    work.run(&["--set", "target.dedupe=first"]).is("published");
    for (table, wanted) in super::reference_probabilities() {
        let found = work.probabilities(table, "account_id");
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>(),
            "{table}: each id once"
        );
        assert!(found == *wanted, "{table}: the first row of each id counts");
    }
}

#[test]
fn d53_null_empty_and_nul_ids_are_refused_and_all_others_kept_to_the_byte() {
    faults(|f| {
        for (id, why) in [(None, "null"), (Some(""), "empty"), (Some("a\0b"), "NUL")] {
            f.refused(65, &[("file", "part-"), ("column", "account_id"), ("error", why)], |w| {
                w.change(PART_1, |t| set_ids(&t, &[(7, id)]))
            });
        }
    });
    let long = "x".repeat(10_000);
    let odd = [
        " lead",
        "trail ",
        "new\nline",
        "tab\t",
        "e\u{301}",
        "\u{e9}",
        "🦀",
        "a,b\"c",
        long.as_str(),
        "NULL",
        "-1",
    ];
    let work = Workdir::new();
    let rows: Vec<(usize, Option<&str>)> = odd.iter().enumerate().map(|(i, id)| (i, Some(*id))).collect();
    work.change(PART_0, |t| set_ids(&t, &rows));
    work.run(&[]).is("published");
    let wanted: Vec<String> = texts(&work.target(), "account_id").into_iter().flatten().collect();
    for table in ["classification", "soft_labels"] {
        let found = work.probabilities(table, "account_id");
        assert!(found.len() == ROWS && wanted.iter().all(|id| found.contains_key(id)), "{table}");
    }
}

#[test]
fn d55_labels_outside_the_set_or_of_one_class_are_refused_with_counts() {
    let labels = |t: &RecordBatch, of: &dyn Fn(usize, Option<String>) -> Option<String>| {
        let new: Vec<Option<String>> =
            texts(t, "label").into_iter().enumerate().map(|(i, l)| of(i, l)).collect();
        with(t, "label", Arc::new(StringArray::from(new)))
    };
    let here = [("file", "bazaar/history.parquet"), ("column", "label")];
    let and = |more: (&'static str, &'static str)| [here[0], here[1], more];
    faults(|f| {
        f.refused(65, &and(("value", "maybe")), |w| {
            w.change(HISTORY, |t| labels(&t, &|i, l| if i == 3 { Some("maybe".into()) } else { l }))
        });
        f.refused(65, &and(("error", "null")), |w| {
            w.change(HISTORY, |t| labels(&t, &|i, l| if i == 3 { None } else { l }))
        });
        f.refused(65, &and(("error", "0 rows of class \"fraud\"")), |w| {
            w.change(HISTORY, |t| labels(&t, &|_, _| Some("legit".into())))
        });
        f.refused(65, &and(("error", "1 rows of class")), |w| {
            w.change(HISTORY, |t| labels(&t, &|i, _| Some(if i == 0 { "fraud" } else { "legit" }.into())));
        });
        f.refused(65, &and(("error", "missing")), |w| w.change(HISTORY, |t| renamed(&t, "label", "lable")));
        f.refused(65, &[here[0], ("column", "held_out")], |w| {
            w.change(HISTORY, |t| renamed(&t, "held_out", "held"))
        });
        f.refused(65, &[here[0]], |w| w.change(HISTORY, |t| t.slice(0, 0)));
    });
}

/// A file of labelled accounts of the target.
fn write_labels(work: &Workdir, rows: &[(&str, &str)]) {
    let column = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let ids = column(rows.iter().map(|(id, _)| *id).collect());
    let labels = column(rows.iter().map(|(_, label)| *label).collect());
    work.write_table("lake/few.parquet", &table(vec![("account_id".into(), ids), ("label".into(), labels)]));
}

#[test]
fn d55_a_handful_of_labels_is_checked_too() {
    let id = texts(&Workdir::new().table(PART_0), "account_id")[0].clone().unwrap();
    let set = ["--set", "target.labels=lake/few.parquet"];
    faults(|f| {
        f.refused_with(&set, 66, &[("file", "few.parquet")], |_| {});
        f.refused_with(&set, 65, &[("file", "few.parquet"), ("column", "label"), ("value", "maybe")], |w| {
            write_labels(w, &[(&id, "maybe")])
        });
        let twice = [("file", "few.parquet"), ("column", "account_id"), ("value", id.as_str())];
        f.refused_with(&set, 65, &twice, |w| write_labels(w, &[(&id, "fraud"), (&id, "legit")]));
        f.refused_with(&set, 65, &[("file", "few.parquet"), ("column", "label")], |w| {
            write_labels(w, &[(&id, "fraud")]);
            w.change("lake/few.parquet", |t| renamed(&t, "label", "class"));
        });
    });
}
