//! The gates before publication: what the tables hold, and how far they are from what the date before
//! published.
//!
//! | gate | key | passes where |
//! |---|---|---|
//! | rows | `gates.rows` | each table has as many rows as there are accounts |
//! | ids | `gates.ids` | each table holds the accounts that were scored, each once |
//! | probabilities | `gates.probabilities` | all are finite, within 0 and 1, and add up to one |
//! | volume | `gates.volume` | the number of accounts is within these multiples of the date before |
//! | shares | `gates.shares` | the class shares are at most this PSI from those of the date before |
//!
//! The student's fidelity is a gate of the fit stage, which decides by it what is published
//! (`student.min_agreement`, `student.max_kl`). A gate changes no byte of a table: the settings are not part
//! of a run's key, and a run that a gate stopped goes on from there.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{GateSettings, OnGate};
use crate::error::{Error, Result};
use crate::job::published::Published;
use crate::job::read_back::Counts;
use crate::process::log::Log;
use crate::relevance::profile::distance::feature_distance;

/// What the command line accepts although a gate would refuse it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accepted {
    pub volume: bool,
    pub shares: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    /// Failed, and published all the same since that was asked for.
    Accepted,
    /// There was nothing to compare with, or too little.
    NotCompared,
}

/// One gate's look.
#[derive(Debug, Serialize)]
pub struct Gate {
    pub gate: &'static str,
    pub verdict: Verdict,
    pub seen: Value,
    pub allowed: Value,
    /// What publishes all the same.
    #[serde(skip)]
    overridden_by: &'static str,
}

/// All gates on the tables of a run for `accounts` accounts.
pub fn judge(
    settings: &GateSettings,
    (accounts, classes): (u64, &BTreeMap<String, u64>),
    counts: &Counts,
    previous: Option<&(String, Published)>,
    accepted: Accepted,
) -> Vec<Gate> {
    let whole = |name, on: OnGate, passed: bool, seen: Value, allowed: Value, overridden_by| {
        let verdict = verdict(passed, on == OnGate::Warn);
        Gate { gate: name, verdict, seen, allowed, overridden_by }
    };
    let each = |what: &dyn Fn(&crate::job::read_back::Count) -> Value| -> Value {
        counts
            .tables
            .iter()
            .map(|(table, count)| (table.to_string(), what(count)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let all = |holds: &dyn Fn(&crate::job::read_back::Count) -> bool| {
        counts.tables.iter().all(|(_, count)| holds(count))
    };
    let first = counts.tables.iter().find_map(|(_, c)| c.first_improper.clone());
    let mut gates = vec![
        whole(
            "rows",
            settings.rows,
            all(&|c| c.rows == accounts),
            each(&|c| json!(c.rows)),
            json!(accounts),
            "--set gates.rows=warn",
        ),
        whole(
            "ids",
            settings.ids,
            all(&|c| c.ids == counts.scored.ids),
            each(&|c| json!(c.ids == counts.scored.ids)),
            json!("those that were scored, each once"),
            "--set gates.ids=warn",
        ),
        whole(
            "probabilities",
            settings.probabilities,
            all(&|c| c.improper == 0),
            json!({"improper_rows": each(&|c| json!(c.improper)), "first": first}),
            json!(0),
            "--set gates.probabilities=warn",
        ),
    ];
    gates.extend(compare(settings, (accounts, classes), previous, accepted));
    gates
}

/// The gates that compare with the date before.
fn compare(
    settings: &GateSettings,
    (rows, classes): (u64, &BTreeMap<String, u64>),
    previous: Option<&(String, Published)>,
    accepted: Accepted,
) -> [Gate; 2] {
    let [low, high] = settings.volume;
    let mut volume = Gate {
        gate: "volume",
        verdict: Verdict::NotCompared,
        seen: json!({"rows": rows}),
        allowed: json!(settings.volume),
        overridden_by: "--accept-volume publishes all the same, --set gates.volume=[LEAST, MOST] moves the gate",
    };
    let mut shares = Gate {
        gate: "shares",
        verdict: Verdict::NotCompared,
        seen: json!({"classes": classes}),
        allowed: json!(settings.shares),
        overridden_by: "--accept-shares publishes all the same, --set gates.shares=PSI moves the gate",
    };
    if let Some((date, before)) = previous {
        let count = |n: u64| n.max(settings.least_rows).max(1) as f64;
        let ratio = count(rows) / count(before.rows);
        volume.verdict = verdict((low..=high).contains(&ratio), accepted.volume);
        volume.seen = json!({"rows": rows, "rows_before": before.rows, "date_before": date, "ratio": ratio});
        if rows.min(before.rows) >= settings.least_rows {
            let names: std::collections::BTreeSet<&String> =
                classes.keys().chain(before.classes.keys()).collect();
            let of = |counts: &BTreeMap<String, u64>| {
                names.iter().map(|n| counts.get(*n).copied().unwrap_or(0)).collect::<Vec<u64>>()
            };
            let psi = feature_distance(&of(&before.classes), &of(classes), false).psi;
            shares.verdict = verdict(psi <= settings.shares, accepted.shares);
            shares.seen = json!({"classes": classes, "classes_before": before.classes, "date_before": date, "psi": psi});
        }
    }
    [volume, shares]
}

fn verdict(passed: bool, accepted: bool) -> Verdict {
    match (passed, accepted) {
        (true, _) => Verdict::Passed,
        (false, true) => Verdict::Accepted,
        (false, false) => Verdict::Failed,
    }
}

/// Refuses (65) what a gate failed; says what was accepted.
pub fn refuse(gates: &[Gate], log: &Log) -> Result<()> {
    for gate in gates.iter().filter(|g| g.verdict == Verdict::Accepted) {
        log.warn(
            "publish",
            "a gate failed and was overridden",
            json!({"gate": gate.gate, "seen": gate.seen, "allowed": gate.allowed}),
        );
    }
    match gates.iter().find(|g| g.verdict == Verdict::Failed) {
        None => Ok(()),
        Some(gate) => Err(Error::data("a gate failed; nothing is published")
            .with("gate", gate.gate)
            .value(&gate.seen)
            .with("allowed", gate.allowed.to_string())
            .hint(gate.overridden_by)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::read_back::Count;

    const SETTINGS: GateSettings = GateSettings {
        rows: OnGate::Fail,
        ids: OnGate::Fail,
        probabilities: OnGate::Fail,
        volume: [0.2, 10.0],
        shares: 0.25,
        least_rows: 1000,
    };

    fn classes(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(name, n)| (name.to_string(), *n)).collect()
    }

    fn failed(gates: &[Gate]) -> Vec<&str> {
        gates.iter().filter(|g| g.verdict == Verdict::Failed).map(|g| g.gate).collect()
    }

    /// The gates that a change from one date's counts to the next fails.
    fn from_to(before: &[(&str, u64)], now: &[(&str, u64)]) -> Vec<String> {
        let sum = |of: &[(&str, u64)]| of.iter().map(|(_, n)| n).sum();
        let record = Published { rows: sum(before), classes: classes(before), ..Published::default() };
        let found = compare(
            &SETTINGS,
            (sum(now), &classes(now)),
            Some(&("2026-01-01".into(), record)),
            Accepted::default(),
        );
        failed(&found).into_iter().map(str::to_string).collect()
    }

    #[test]
    fn ordinary_days_pass_and_others_do_not() {
        let ordinary: [[&[(&str, u64)]; 2]; 6] = [
            [&[("no", 9000), ("yes", 1000)], &[("no", 9100), ("yes", 900)]],
            [&[("no", 90_000), ("yes", 10_000)], &[("no", 30_000), ("yes", 4_000)]],
            [&[("no", 9), ("yes", 3)], &[("no", 4000), ("yes", 1000)]],
            [&[("no", 300), ("yes", 60)], &[("no", 10), ("yes", 20)]],
            [&[("no", 5000), ("yes", 5000)], &[("no", 9000), ("yes", 6000)]],
            [&[("no", 100_000), ("yes", 10)], &[("no", 100_000), ("yes", 40)]],
        ];
        for [before, now] in ordinary {
            assert!(from_to(before, now).is_empty(), "{before:?} {now:?}");
        }
        assert_eq!(from_to(&[("no", 900_000), ("yes", 100_000)], &[("no", 10), ("yes", 2)]), ["volume"]);
        assert_eq!(from_to(&[("no", 10)], &[("no", 900_000), ("yes", 100_000)]), ["volume"]);
        assert_eq!(from_to(&[("no", 9000), ("yes", 1000)], &[("no", 6500), ("yes", 3500)]), ["shares"]);
        assert_eq!(from_to(&[("no", 9000), ("yes", 1000)], &[("legit", 9000), ("fraud", 1000)]), ["shares"]);
        assert_eq!(from_to(&[("no", 100_000)], &[("yes", 10_000)]), ["volume", "shares"]);
    }

    #[test]
    fn a_lost_account_another_one_and_a_wrong_probability_each_fail_their_gate() {
        let count = |rows, ids, improper| Count { rows, ids: (ids, ids), improper, ..Count::default() };
        let cases = [
            ((3, 6, 0), vec![]),
            ((2, 5, 0), vec!["rows", "ids"]),
            ((3, 7, 0), vec!["ids"]),
            ((3, 6, 1), vec!["probabilities"]),
        ];
        let none = BTreeMap::new();
        for ((rows, ids, improper), wanted) in cases {
            let tables =
                vec![("soft_labels", count(3, 6, 0)), ("classification", count(rows, ids, improper))];
            let counts = Counts { scored: count(3, 6, 0), tables };
            let gates = judge(&SETTINGS, (3, &none), &counts, None, Accepted::default());
            assert_eq!(failed(&gates), wanted);
            let warn = GateSettings {
                rows: OnGate::Warn,
                ids: OnGate::Warn,
                probabilities: OnGate::Warn,
                ..SETTINGS
            };
            assert!(failed(&judge(&warn, (3, &none), &counts, None, Accepted::default())).is_empty());
        }
    }
}
