//! `coldstart advise`: a batch of accounts to label.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};

use crate::workdir::{DATE, ROWS, Workdir, floats, table, texts};

fn advise(work: &Workdir, more: &[&str]) -> crate::workdir::Ran {
    work.coldstart(
        &[&["advise", "../pipeline.toml", "--date", DATE, "-o", "../batch.parquet"], more].concat(),
    )
}

#[test]
fn a_batch_is_seeded_spread_over_the_soft_labels_and_leaves_out_what_is_labelled() {
    let work = Workdir::new();
    assert_eq!(advise(&work, &["--labels", "40"]).error(66)["hint"], "coldstart run comes first");
    work.run(&[]).is("published");
    let said = advise(&work, &["--labels", "40"]);
    assert_eq!(
        (&said.is("advised").result()["labels"], &said.result()["accounts"]),
        (&40.into(), &ROWS.into())
    );
    let batch = work.table("batch.parquet");
    let soft = work.published_table("soft_labels");
    let p: BTreeMap<_, _> = texts(&soft, "account_id").into_iter().zip(floats(&soft, "p_fraud")).collect();
    let ids = texts(&batch, "account_id");
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 40, "each account once");
    for ((id, drawn), chance) in ids.iter().zip(floats(&batch, "p_fraud")).zip(floats(&batch, "chance")) {
        assert_eq!(p[id], drawn);
        assert!(chance > 0.0 && chance <= 1.0);
    }
    let information = |p: &f64| p * (1.0 - p);
    let mean = |of: &[f64]| of.iter().map(information).sum::<f64>() / of.len() as f64;
    let everyone: Vec<f64> = p.values().copied().collect();
    assert!(mean(&floats(&batch, "p_fraud")) > mean(&everyone), "labels are asked for where they say more");
    let least = floats(&batch, "p_fraud").into_iter().fold(1.0, f64::min);
    let mut sorted = everyone.clone();
    sorted.sort_by(f64::total_cmp);
    assert!(least < sorted[ROWS / 2], "and not only where the teachers are uncertain: {least}");
    // the same seed draws the same bytes, another one others
    let bytes = work.bytes("batch.parquet");
    advise(&work, &["--labels", "40", "--threads", "2"]).is("advised");
    assert!(bytes == work.bytes("batch.parquet"));
    advise(&work, &["--labels", "40", "--seed", "1"]).is("advised");
    assert!(ids != texts(&work.table("batch.parquet"), "account_id"));
    // the batch comes back with labels: it moves the base rate, and is not asked for again
    let columns: Vec<(String, ArrayRef)> = vec![
        ("account_id".into(), Arc::new(StringArray::from(ids.clone()))),
        ("label".into(), Arc::new(StringArray::from(vec!["fraud"; 40]))),
    ];
    work.write_table("lake/few.parquet", &table(columns));
    let told = ["--set", "target.labels=lake/few.parquet"];
    let next = advise(&work, &[&["--labels", "1000"], &told[..]].concat());
    assert_eq!(next.is("advised").result()["labels"], ROWS - 40);
    assert!(texts(&work.table("batch.parquet"), "account_id").iter().all(|id| !ids.contains(id)));
    work.run(&[&["--replace"], &told[..]].concat()).is("published");
    let moved = floats(&work.published_table("soft_labels"), "p_fraud").iter().sum::<f64>();
    assert!(moved > everyone.iter().sum::<f64>());
}

#[test]
fn a_batch_of_nothing_and_an_output_that_cannot_be_are_refused() {
    let work = Workdir::new();
    work.run(&[]).is("published");
    advise(&work, &["--labels", "0"]).error(2);
    let few = advise(&work, &["--labels", "5"]);
    few.is("advised");
    assert!(few.stderr.contains("not used with so few labels"), "{few}");
    work.coldstart(&["advise", "../pipeline.toml", "--date", DATE, "--labels", "30", "-o", "../lake"])
        .error(73);
}
