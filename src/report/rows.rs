//! From the rows of one table, or one record, to what a picture shows: the parts of a [`Report`]
//! that need nothing else.

use serde_json::Value;

use crate::report::data::*;
use crate::report::table::Table;
use crate::stages::artifacts::Profile;

/// A value of a gate in words: `rows 360, rows before 350`.
pub(super) fn said(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let known = map.iter().filter(|(_, v)| !v.is_null());
            known.map(|(k, v)| format!("{} {}", k.replace('_', " "), said(v))).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_string(),
        Value::Bool(false) => "no".to_string(),
        Value::Number(n) if n.is_f64() => format!("{:.4}", n.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

pub(super) fn histogram(
    row: &Feature,
    with: &[String],
    teachers: &[String],
    profile: &Profile,
) -> Option<Histogram> {
    let worst = (0..row.js.len())
        .filter(|k| row.js[*k].is_some())
        .max_by(|a, b| row.js[*a].unwrap_or(0.0).total_cmp(&row.js[*b].unwrap_or(0.0)))?;
    let feature = profile.profiles.features.iter().find(|f| f.name == row.name)?;
    // profiles hold the asked teachers in the order of their names
    let mut asked: Vec<&String> = teachers.iter().collect();
    asked.sort();
    let source = profile.profiles.sources.iter().position(|k| asked.get(*k) == Some(&&with[worst]))?;
    let share = |counts: &[u64]| {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|c| *c as f64 / all).collect::<Vec<f64>>()
    };
    let (target, history) = (share(feature.target.as_ref()?), share(feature.histories.get(source)?));
    let bins = target.iter().zip(&history).enumerate();
    Some(Histogram {
        feature: row.name.clone(),
        teacher: with[worst].clone(),
        js: row.js[worst]?,
        ordered: matches!(feature.bins, crate::relevance::profile::bins::Bins::Number(_)),
        bins: bins
            .map(|(b, (target, history))| Bin {
                label: feature.bins.describe(b),
                target: *target,
                history: *history,
            })
            .collect(),
    })
}

pub(super) fn moved(table: &Table) -> Vec<Moved> {
    let (names, against) = (table.texts("feature"), table.texts("against"));
    let (js, psi, ks, wasserstein) =
        (table.numbers("js"), table.numbers("psi"), table.numbers("ks"), table.numbers("wasserstein"));
    let (nulls, before, unknown) =
        (table.numbers("null_share"), table.numbers("null_share_before"), table.numbers("unknown_share"));
    let row = |i: usize| {
        (against[i].as_deref() == Some("previous")).then_some(())?;
        Some(Moved {
            name: names[i].clone()?,
            js: js[i]?,
            psi: psi[i]?,
            ks: ks[i]?,
            wasserstein: wasserstein[i],
            null_share: nulls[i]?,
            null_before: before[i]?,
            unknown_share: unknown[i]?,
        })
    };
    let mut rows: Vec<Moved> = (0..table.rows()).filter_map(row).collect();
    rows.sort_by(|a, b| b.js.total_cmp(&a.js).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(10);
    rows
}

pub(super) fn curves(table: &Table) -> Vec<Curve> {
    let (measures, coverage, errors) =
        (table.texts("measure"), table.numbers("coverage"), table.numbers("error_rate"));
    let (thresholds, worst, worst_errors) =
        (table.numbers("threshold"), table.texts("worst_history"), table.numbers("worst_error_rate"));
    let mut curves: Vec<Curve> = Vec::new();
    for i in 0..table.rows() {
        let (Some(measure), Some(coverage), Some(error)) = (&measures[i], coverage[i], errors[i]) else {
            continue;
        };
        let point = Point {
            coverage,
            error,
            threshold: thresholds[i],
            worst_history: worst[i].clone(),
            worst_error: worst_errors[i],
        };
        match curves.iter_mut().find(|c| c.measure == *measure) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { measure: measure.clone(), points: vec![point] }),
        }
    }
    // without costs of their own expected cost and confidence are the same curve
    let errors = |c: &Curve| c.points.iter().map(|p| p.error).collect::<Vec<f64>>();
    let confidence = curves.iter().find(|c| c.measure == "confidence").map(errors);
    curves.retain(|c| c.measure != "expected_cost" || confidence.as_ref() != Some(&errors(c)));
    curves
}

pub(super) fn worth(verdict: &Table) -> Vec<Worth> {
    let known = verdict.text("base_rate").unwrap_or_default();
    let options = [
        (
            "the class shares of these accounts",
            Some("target.class_shares"),
            "with_shares_change",
            known != "class_shares",
        ),
        ("50 labelled accounts", Some("target.labels"), "with_labels_change", known == "none"),
        ("one more teacher with a labelled history", None, "with_teacher_change", true),
    ];
    let mut out: Vec<Worth> = options
        .into_iter()
        .filter(|o| o.3)
        .filter_map(|(what, key, column, _)| {
            let change = verdict.number(column)?;
            Some(Worth { what: what.to_string(), key: key.map(str::to_string), change, bar: 0.0 })
        })
        .collect();
    let best = out.iter().map(|w| -w.change).fold(0.0, f64::max);
    for worth in &mut out {
        worth.bar = if best > 0.0 { (-worth.change / best).max(0.0) } else { 0.0 };
    }
    out.sort_by(|a, b| a.change.total_cmp(&b.change));
    out
}

pub(super) fn columns(profile: &Profile) -> Vec<ColumnState> {
    let odd = |name: &str| profile.non_finite.get(name).map_or(0, |n| n.nan + n.infinite);
    let features = profile.profiles.features.iter().enumerate();
    let row = |(j, f): (usize, &crate::relevance::profile::profiles::FeatureProfile)| ColumnState {
        feature: f.name.clone(),
        null_share: profile.null_share.get(j).copied(),
        unknown_share: None,
        teacher: None,
        not_finite: odd(&f.name),
    };
    features.map(row).collect()
}

/// What `coldstart evaluate` kept.
pub(super) fn truth(evaluation: &Value, classes: &[String]) -> Option<Truth> {
    let of = &evaluation["classification"];
    let bin = |b: &Value| {
        Some(Reliability {
            said: b["said"].as_f64()?,
            was: b["was"].as_f64()?,
            weight: b["weight"].as_f64()?,
        })
    };
    let class = |name: &String| {
        let c = &of["classes"][name];
        Some(ClassTruth {
            class: name.clone(),
            labelled: c["labelled"].as_u64()?,
            share: c["share"].as_f64()?,
            said: c["mean_probability"].as_f64()?,
            classified: c["classified"].as_u64()?,
            right: c["right"].as_u64()?,
            auc: c["auc"].as_f64(),
        })
    };
    Some(Truth {
        labels: of["accounts"].as_u64()?,
        accuracy: of["accuracy"].as_f64()?,
        said: of["estimated_accuracy"].as_f64()?,
        log_loss: of["log_loss"].as_f64()?,
        reliability: of["reliability"].as_array().into_iter().flatten().filter_map(bin).collect(),
        classes: classes.iter().filter_map(class).collect(),
    })
}
