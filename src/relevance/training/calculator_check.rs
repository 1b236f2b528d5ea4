//! A saved calculator comes from outside: every length, range and reference in it is checked before it is
//! used.

use crate::error::{Error, Result};
use crate::relevance::findings::risk::Judged;
use crate::relevance::profile::bins::{Bins, LEVELS, NUMBER_BINS};
use crate::relevance::profile::profiles::FeatureProfile;
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::pooled::Pooled;
use crate::relevance::training::rehearsal::Mixed;
use crate::relevance::training::rehearsal::Rehearsal;
use crate::relevance::transfer::cross_loss::CrossLoss;
use crate::student::restore;

/// Teachers and classes that a file may name.
const MOST: usize = 1000;
/// Rows of a history that a file may claim: sums of such counts are exact.
const MOST_ROWS: u64 = 1 << 40;
/// Sizes beyond this are no logit, bias or log-loss that training can have found.
const LARGEST: f64 = 1e3;
/// What rounding may add to a bound.
const SLACK: f64 = 1e-9;

/// Refuses (65) a calculator whose parts do not fit together, with the key of the part.
pub fn validate(calculator: &Calculator) -> Result<()> {
    let (k, c) = (calculator.teachers.len(), calculator.classes.len());
    check(
        (2..=MOST).contains(&k),
        || "teachers".into(),
        || format!("{k} teachers, between 2 and {MOST} are needed"),
    )?;
    check(
        (2..=MOST).contains(&c) && unique(calculator.classes.iter()),
        || "classes".into(),
        || format!("{c} classes, each once"),
    )?;
    let names = calculator.teachers.iter().map(|t| &t.name).chain(calculator.repeats.iter().map(|r| &r.name));
    check(unique(names), || "teachers".into(), || "a teacher stands twice".into())?;
    let known = |name: &String| calculator.teachers.iter().any(|t| t.name == *name);
    let stray = calculator.repeats.iter().find(|r| !known(&r.same_as));
    check(stray.is_none(), || "repeats".into(), || "a repeat names a teacher that is not there".into())?;
    length("log_rows", calculator.log_rows.len(), k)?;
    numbers("log_rows", &calculator.log_rows, 100f64.ln(), 10_000f64.ln())?;
    length("calibrations", calculator.calibrations.len(), k)?;
    for (i, calibration) in calculator.calibrations.iter().enumerate() {
        length(&format!("calibrations[{i}].bias"), calibration.bias.len(), c)?;
        numbers(&format!("calibrations[{i}].bias"), &calibration.bias, -LARGEST, LARGEST)?;
        numbers(&format!("calibrations[{i}].slope"), &[calibration.slope], (-2.5f64).exp(), 1f64.exp())?;
    }
    for (name, theta) in [("theta", calculator.theta), ("theta_aligned", calculator.theta_aligned)] {
        numbers(name, &[theta.b_q, theta.b_m, theta.b_n], -LARGEST, LARGEST)?;
        numbers(name, &[theta.alpha], -0.7, 0.7)?;
        numbers(name, &[theta.gamma], 0.0, 1.0)?;
        numbers(name, &[theta.c], -1.0, 1.0)?;
    }
    judgement("judgement", &calculator.judgement, k, c)?;
    length("without", calculator.without.len(), k)?;
    calculator
        .without
        .iter()
        .enumerate()
        .try_for_each(|(i, j)| judgement(&format!("without[{i}]"), j, k - 1, c))?;
    profiles(calculator)?;
    rehearsals(calculator)?;
    calculator.pooled.as_ref().map_or(Ok(()), |p| pooled(p, c))
}

fn judgement(key: &str, judgement: &CrossLoss, teachers: usize, classes: usize) -> Result<()> {
    length(&format!("{key}.slopes"), judgement.slopes.len(), teachers)?;
    numbers(&format!("{key}.slopes"), &judgement.slopes, 0.1, 2.0)?;
    for (name, rows) in [
        ("cross_loss", judgement.cross_loss.iter().map(Vec::len).collect::<Vec<_>>()),
        ("relative", judgement.relative.iter().map(Vec::len).collect()),
    ] {
        length(&format!("{key}.{name}"), rows.len(), teachers)?;
        rows.iter().try_for_each(|n| length(&format!("{key}.{name}"), *n, teachers))?;
    }
    for (losses, relative) in judgement.cross_loss.iter().zip(&judgement.relative) {
        let losses: Vec<f64> = losses.iter().flatten().copied().collect();
        numbers(&format!("{key}.cross_loss"), &losses, 0.0, LARGEST)?;
        numbers(&format!("{key}.relative"), relative, -1.5, 1.5)?;
    }
    length(&format!("{key}.shares"), judgement.shares.len(), teachers)?;
    for shares in judgement.shares.iter().flatten() {
        length(&format!("{key}.shares"), shares.len(), classes)?;
        numbers(&format!("{key}.shares"), shares, f64::MIN_POSITIVE, 1.0)?;
    }
    Ok(())
}

fn profiles(calculator: &Calculator) -> Result<()> {
    let (profiles, k) = (&calculator.profiles, calculator.teachers.len());
    length("profiles.teachers", profiles.teachers, k)?;
    let ascending =
        profiles.sources.windows(2).all(|w| w[0] < w[1]) && profiles.sources.iter().all(|s| *s < k);
    check(ascending, || "profiles.sources".into(), || "places of teachers, ascending".into())?;
    check(
        unique(profiles.features.iter().map(|f| &f.name)),
        || "profiles.features".into(),
        || "a feature stands twice".into(),
    )?;
    profiles
        .features
        .iter()
        .try_for_each(|f| feature(f, profiles.sources.len()).map_err(|e| e.column(&f.name)))
}

fn feature(feature: &FeatureProfile, sources: usize) -> Result<()> {
    match &feature.bins {
        Bins::Number(edges) => {
            check(
                edges.len() < NUMBER_BINS,
                || "bins".into(),
                || format!("{} edges, fewer than {NUMBER_BINS} are read", edges.len()),
            )?;
            numbers("bins", edges, f64::MIN, f64::MAX)?;
            check(edges.windows(2).all(|w| w[0] < w[1]), || "bins".into(), || "edges ascend".into())?;
        }
        Bins::Category(levels) => {
            check(
                levels.len() <= LEVELS && unique(levels.iter()),
                || "bins".into(),
                || format!("at most {LEVELS} levels, each once"),
            )?;
        }
    }
    length("histories", feature.histories.len(), sources)?;
    for counts in feature.histories.iter().chain(&feature.target) {
        length("histories", counts.len(), feature.bins.count())?;
        let most = counts.iter().copied().max().unwrap_or(0);
        check(most <= MOST_ROWS, || "histories".into(), || format!("a bin with {most} rows"))?;
    }
    Ok(())
}

fn rehearsals(calculator: &Calculator) -> Result<()> {
    let known = |name: &String| calculator.teachers.iter().any(|t| t.name == *name);
    for (i, r) in calculator.rehearsals.iter().enumerate() {
        let key = format!("rehearsals[{i}]");
        let named =
            known(&r.history) && known(&r.best_teacher) && r.without.iter().all(|w| known(&w.teacher));
        check(named, || key.clone(), || "it names a teacher that is not there".into())?;
        let losses = [
            r.own_uniform,
            r.theta0,
            r.theta,
            r.held_out,
            r.uniform,
            r.js,
            r.default,
            r.aligned,
            r.with_shares,
            r.js_with_shares,
            r.best,
        ];
        numbers(&key, &losses, f64::MIN_POSITIVE, LARGEST)?;
        numbers(&key, &r.with_labels.map_or(vec![], |l| vec![l]), 0.0, LARGEST)?;
        numbers(&key, &[r.oracle], 0.0, LARGEST)?;
        for said in [r.default_said, r.aligned_said, r.with_shares_said] {
            numbers(&key, &[said.accuracy, said.confidence], 0.0, 1.0)?;
            numbers(&key, &[said.entropy], 0.0, LARGEST)?;
        }
        r.without.iter().try_for_each(|w| numbers(&key, &[w.default, w.aligned], 0.0, LARGEST))?;
        judged(&format!("{key}.judged"), &r.judged, r.rows, calculator.classes.len())?;
        r.mixed.iter().try_for_each(|m| mixed(&format!("{key}.mixed"), m, r, calculator.classes.len()))?;
    }
    Ok(())
}

fn mixed(key: &str, mixed: &Mixed, of: &Rehearsal, classes: usize) -> Result<()> {
    let losses = mixed.losses.iter().chain(&mixed.without).chain(&mixed.with_labels).copied();
    let losses: Vec<f64> = losses.chain([mixed.aligned, mixed.with_shares]).collect();
    numbers(key, &losses, 0.0, LARGEST)?;
    numbers(&format!("{key}.share"), &[mixed.share], 0.0, 1.0)?;
    length(&format!("{key}.without"), mixed.without.len(), of.without.len())?;
    for said in [mixed.aligned_said, mixed.with_shares_said] {
        numbers(key, &[said.accuracy, said.confidence], 0.0, 1.0)?;
        numbers(key, &[said.entropy], 0.0, LARGEST)?;
    }
    for label in [&mixed.judged_aligned, &mixed.judged_with_shares] {
        length(&format!("{key}.judged"), label.len(), of.rows * classes)?;
        numbers(&format!("{key}.judged"), label, 0.0, 1.0)?;
    }
    Ok(())
}

fn pooled(pooled: &Pooled, classes: usize) -> Result<()> {
    let key = "pooled";
    numbers("pooled.share", &[pooled.share], 0.0, 1.0)?;
    length("pooled.importance", pooled.importance.len(), pooled.features.len())?;
    numbers("pooled.importance", &pooled.importance, 0.0, 1.0)?;
    let named = pooled.features.iter().all(|f| unique(f.levels.iter()))
        && unique(pooled.features.iter().map(|f| &f.name));
    check(named, || "pooled.features".into(), || "a feature or a level stands twice".into())?;
    let model = restore(pooled.model.clone()).map_err(|e| e.with("key", "pooled.model"))?;
    let fits = model.classes() == classes && model.kinds() == pooled.kinds();
    check(fits, || key.into(), || "the model's columns or classes are others".into())
}

fn judged(key: &str, judged: &Judged, rows: usize, classes: usize) -> Result<()> {
    length(&format!("{key}.labels"), judged.labels.len(), rows)?;
    let known = judged.labels.iter().all(|label| usize::from(*label) < classes);
    check(known, || format!("{key}.labels"), || "a label is no class".into())?;
    for (name, label) in
        [("default", &judged.default), ("aligned", &judged.aligned), ("with_shares", &judged.with_shares)]
    {
        length(&format!("{key}.{name}"), label.len(), rows * classes)?;
        numbers(&format!("{key}.{name}"), label, 0.0, 1.0)?;
    }
    for (name, values) in [("support", &judged.support), ("disagreement", &judged.disagreement)] {
        length(&format!("{key}.{name}"), values.len(), rows)?;
        numbers(&format!("{key}.{name}"), values, -LARGEST, LARGEST)?;
    }
    Ok(())
}

fn check(holds: bool, key: impl Fn() -> String, what: impl Fn() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::data(format!("the relevance calculator is damaged: {}", what())).with("key", key()))
    }
}

fn length(key: &str, found: usize, wanted: usize) -> Result<()> {
    check(found == wanted, || key.to_string(), || format!("{found} entries where {wanted} are needed"))
}

fn numbers(key: &str, values: &[f64], low: f64, high: f64) -> Result<()> {
    match values.iter().find(|v| !(low - SLACK..=high + SLACK).contains(*v)) {
        None => Ok(()),
        Some(v) => check(false, || key.to_string(), || format!("{v} is not between {low} and {high}")),
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> bool {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().all(|n| seen.insert(n))
}
