//! Decisions: classes by cost, accounts that are left undecided with a reason, and what the histories say of
//! it.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use serde_json::Value;

use crate::workdir::{DATE, PART_0, ROWS, Workdir, floats, named_columns, table, texts};

/// The target's first file with nothing but the id in its first row.
fn empty_first_row(work: &Workdir) {
    work.change(PART_0, |t| {
        let column = |(name, array): (String, ArrayRef)| match name.as_str() {
            "account_id" => (name, array),
            _ => {
                let rest = array.slice(1, array.len() - 1);
                let null = new_null_array(array.data_type(), 1);
                (name, arrow::compute::concat(&[null.as_ref(), rest.as_ref()]).expect("one type"))
            }
        };
        table(named_columns(&t).into_iter().map(column).collect())
    });
}

fn reasons(classification: &RecordBatch) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for (decision, reason) in
        texts(classification, "decision").into_iter().zip(texts(classification, "reason"))
    {
        assert_eq!(decision.as_deref(), Some(if reason.is_some() { "abstained" } else { "classified" }));
        reason.into_iter().for_each(|r| *out.entry(r).or_default() += 1);
    }
    out
}

#[test]
fn an_account_without_any_feature_is_left_undecided_and_says_why() {
    for fused in [false, true] {
        let work = Workdir::new();
        empty_first_row(&work);
        let below_gate = ["--set", "student.max_kl=0.0"];
        let result = work.run(if fused { &below_gate } else { &[] }).result();
        assert_eq!(result["abstained"], serde_json::json!({"no_features": 1}));
        let found = work.published_table("classification");
        assert_eq!(texts(&found, "student")[0].as_deref() == Some("fused"), fused);
        assert_eq!(reasons(&found), BTreeMap::from([("no_features".to_string(), 1)]));
        assert_eq!(texts(&found, "reason")[0].as_deref(), Some("no_features"), "it is the first account");
        assert_eq!(found.num_rows(), ROWS);
        assert_eq!(floats(&work.published_table("soft_labels"), "known")[0], 0.0);
    }
}

#[test]
fn costs_move_the_class_and_each_limit_leaves_its_own_accounts_undecided() {
    let work = Workdir::new();
    work.edit(
        "pipeline.toml",
        "[student]",
        "[fuse]\ncosts = { fraud = { legit = 5.0 } }\nabstain = { cost = 0.4, max_disagreement = 0.05, min_support = 0.0 }\n[student]",
    );
    let result = work.run(&["--set", "output.partition_by=[\"decision\", \"class\"]"]).result();
    let root = format!("out/classification/ds={DATE}");
    let mut found: Vec<RecordBatch> = Vec::new();
    let mut abstained = BTreeMap::<String, u64>::new();
    for path in work.files(&root).into_keys() {
        let part = work.table(&format!("{root}/{path}"));
        let decision =
            path.split('/').next().expect("a partition").trim_start_matches("decision=").to_string();
        let class = path.split('/').nth(1).expect("a partition").trim_start_matches("class=").to_string();
        let reason = texts(&part, "reason");
        assert!(part.column_by_name("decision").is_none() && part.column_by_name("class").is_none());
        let p = floats(&part, "p_fraud");
        for i in 0..part.num_rows() {
            assert_eq!(reason[i].is_some(), decision == "abstained", "{path}");
            // 5 p is what calling it legit is expected to cost, 1 - p what calling it fraud is
            assert_eq!(class == "fraud", 1.0 - p[i] < 5.0 * p[i], "{path}: {}", p[i]);
            if reason[i].as_deref() == Some("expected_cost") {
                assert!((1.0 - p[i]).min(5.0 * p[i]) > 0.4);
            }
            reason[i].iter().for_each(|r| *abstained.entry(r.clone()).or_default() += 1);
        }
        found.push(part);
    }
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS);
    assert_eq!(serde_json::to_value(&abstained).unwrap(), result["abstained"]);
    for reason in ["expected_cost", "teachers_disagree", "low_support"] {
        assert!(abstained.get(reason).is_some_and(|n| *n > 0), "{abstained:?}");
    }
    let soft = work.published_table("soft_labels");
    let low = floats(&soft, "support").iter().filter(|s| **s < 0.0).count() as u64;
    assert_eq!(abstained["low_support"], low, "support comes first");
}

#[test]
fn the_histories_say_what_abstaining_is_worth() {
    let work = Workdir::new();
    work.run(&["--set", "fuse.abstain.cost=0.2"]).is("published");
    let risk = work.published_table("risk_coverage");
    let (measure, coverage) = (texts(&risk, "measure"), floats(&risk, "coverage"));
    let (error, cost) = (floats(&risk, "error_rate"), floats(&risk, "cost"));
    let of =
        |name: &str| (0..measure.len()).filter(|i| measure[*i].as_deref() == Some(name)).collect::<Vec<_>>();
    for name in ["confidence", "expected_cost", "support", "disagreement"] {
        let rows = of(name);
        assert!((coverage[rows[0]] - 1.0).abs() < 1e-9, "{name} starts with every account");
        assert!(rows.windows(2).all(|w| coverage[w[0]] >= coverage[w[1]]), "{name}");
    }
    let confidence = of("confidence");
    let (all, half) = (confidence[0], confidence[6]);
    assert!(
        error[half] < error[all],
        "the confident half is wrong less often: {} and {}",
        error[half],
        error[all]
    );
    let rule = of("configured")[0];
    assert!(coverage[rule] < 1.0 && error[rule] < error[all] && cost[rule] < cost[all], "{}", coverage[rule]);
    assert!(
        texts(&risk, "worst_history")
            .iter()
            .flatten()
            .all(|h| ["bazaar", "wallet", "studio"].contains(&h.as_str()))
    );
    // two teachers cannot rehearse: the table stands, empty
    let two = Workdir::new();
    two.edit("pipeline.toml", "[[teachers]]\nbundle = \"teachers/studio\"\n", "");
    two.run(&[]).is("published");
    assert_eq!(two.published_table("risk_coverage").num_rows(), 0);
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused_by_key_and_value() {
    let work = Workdir::new();
    let cases: [(&str, &str, &str); 4] = [
        ("fuse.costs={ fraud = { legit = -2.5 } }", "fuse.costs.fraud.legit", "-2.5"),
        ("fuse.costs={ theft = { legit = 1 } }", "fuse.costs", "theft"),
        ("fuse.abstain.cost=-1", "fuse.abstain.cost", "-1"),
        ("fuse.abstain.max_disagreement=nan", "fuse.abstain.max_disagreement", "NaN"),
    ];
    for (pair, key, value) in cases {
        let error: Value = work.run(&["--set", pair]).error(78);
        assert_eq!((&error["key"], &error["value"]), (&key.into(), &value.into()), "{pair}");
    }
}
