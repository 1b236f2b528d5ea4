//! What the relevance stage found out, for people: the tables `relevance_rehearsal` (a row for each
//! history that played the target), `relevance_drop_one` (a row for each teacher) and `relevance_verdict`
//! (one row), and `verdict.json`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use rayon::prelude::*;

use crate::config::Method;
use crate::drift::sketches::{self, ScoreSketches, classes_kept};
use crate::error::{Error, Result};
use crate::lake::store::files::write_json;
use crate::relevance::findings::diversity::diversity;
use crate::relevance::findings::{
    DropOne, Findings, Published, Seen, abroad, loss_change, own_skill, verdict,
};
use crate::relevance::fusion::columns::Columns;
use crate::relevance::fusion::fuse::{Fused, Fuser};
use crate::relevance::maths::probability::{argmax, entropy};
use crate::relevance::maths::real::{Lanes, of_row};
use crate::relevance::profile::distance::{Distances, irrelevant};
use crate::relevance::profile::known::Known;
use crate::relevance::training::calculator::Calculator;
use crate::relevance::training::pooled::NAME as POOLED;
use crate::relevance::training::rehearsal::Mixed;
use crate::relevance::training::rehearsal::Rehearsal;
use crate::run::context::Run;
use crate::stages::artifacts::{Fusion, SCORE_SKETCHES, Verdict};
use crate::stages::fuse::risk_coverage;
use crate::stages::write_table;

/// Accounts that one worker fuses at a time.
const CHUNK: usize = 1024;

/// Compares the label with its rivals and with itself without each teacher on the accounts given, and writes
/// tables and verdict.
pub fn write(
    run: &Run,
    calculator: &Calculator,
    distances: &Distances,
    fusion: &Fusion,
    rows: &Columns,
    known: &[Known],
) -> Result<()> {
    let fuser = fusion.fuser(calculator, distances)?;
    let fused = fuse_all(&fuser, rows, Kept::of);
    let published = match run.pipeline.fuse.method {
        Method::Aligned => Published::Aligned,
        Method::Reference => Published::Default,
    };
    let rehearsals = calculator.rehearsed();
    let (classes, mut drops) = (run.pipeline.classes.len(), Vec::new());
    for (k, without_k) in fusion.fusers_without(calculator, distances)?.iter().enumerate() {
        drops.push(drop_one(
            k,
            published,
            (calculator, &rehearsals),
            &fused,
            &fuse_all(without_k, &rows.without(k, classes), |f, i| of_row(&f.label, i).collect()),
        ));
    }
    drops.extend(calculator.repeats.iter().map(|r| repeat(&r.name, &r.same_as)));
    drops.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.teacher.cmp(&b.teacher)));
    let irrelevant = irrelevant(&distances.js);
    let findings = Findings::new(
        published,
        &fusion.base_rate,
        calculator.trained,
        irrelevant,
        seen(&fused, &fuser),
        drops,
        &rehearsals,
    )
    .with_pooled(calculator.pooled.as_ref().zip(fusion.pooled_share))
    .with_lost(
        known.iter().filter(|k| k.lost).cloned().collect(),
        lost_share(known),
        run.pipeline.classes.len(),
        &rehearsals,
    );
    if let Some(differ) = findings.rivals_differ() {
        run.log.warn(
            "relevance",
            "rivals disagree with the label on many accounts",
            serde_json::json!({"share": differ}),
        );
    }
    let distrust = verdict::distrust(&findings).map(|(teacher, _)| teacher.to_string());
    let verdict = Verdict { sentences: verdict::sentences(&findings), distrust, findings };
    let folder = run.directory.stage("relevance");
    for (table, batch) in [
        ("relevance_rehearsal", rehearsal_table(&rehearsals, &calculator.rehearsals)),
        ("relevance_known", known_table(known)),
        ("relevance_drop_one", drop_table(&verdict.findings.drops)),
        ("relevance_verdict", verdict_table(&verdict)),
    ] {
        write_table(run, &folder.join(table), &batch.map_err(|e| Error::bug(e.to_string()))?)?;
    }
    SCORE_SKETCHES.save(run.directory, &sketches(run, calculator, &fused))?;
    write_json(run.directory.store, &folder.join("verdict.json"), &verdict)
}

/// What is kept of the scores for later dates and for the page.
fn sketches(run: &Run, calculator: &Calculator, fused: &[Kept]) -> ScoreSketches {
    let classes = run.pipeline.classes.len();
    let mut names: Vec<&str> = calculator.teachers.iter().map(|t| t.name.as_str()).collect();
    let asked = names.len();
    if fused.first().is_some_and(|f| !f.pooled.is_empty()) {
        names.push(POOLED);
    }
    let teacher = |k: usize, c: usize| {
        fused.iter().map(move |f| if k < asked { f.p[k * classes + c] } else { f.pooled[c] })
    };
    let mut scores = Vec::new();
    for c in classes_kept(classes) {
        let class = &run.pipeline.classes[c];
        scores.push(sketches::score("label", class, fused.iter().map(|f| f.label[c])));
        scores.extend(names.iter().enumerate().map(|(k, name)| sketches::score(name, class, teacher(k, c))));
    }
    let said: Vec<Vec<usize>> = fused
        .iter()
        .map(|f| f.p.chunks_exact(classes).chain(f.pooled.chunks_exact(classes)).map(argmax).collect())
        .collect();
    let agree =
        |a: usize, b: usize| said.iter().filter(|s| s[a] == s[b]).count() as f64 / said.len().max(1) as f64;
    let each = 0..names.len();
    let rehearsed = calculator.rehearsed();
    let played = risk_coverage::played(run.pipeline, &rehearsed);
    ScoreSketches {
        accounts: fused.len() as u64,
        expected: (0..classes).map(|c| mean(fused, |f| f.label[c])).collect(),
        teachers: names.iter().map(|name| name.to_string()).collect(),
        agreement: each.clone().map(|a| each.clone().map(|b| agree(a, b)).collect()).collect(),
        scores,
        reliability: sketches::reliability(
            played.iter().map(|p| (p.judged.labels.as_slice(), p.label)),
            classes,
        ),
    }
}

/// What is compared of an account's label.
struct Kept {
    label: Vec<f64>,
    weights: Vec<f64>,
    agree: [bool; 3],
    /// Calibrated scores `[K, C]`.
    p: Vec<f64>,
    /// What the pooled teacher says `[C]`; empty without one.
    pooled: Vec<f64>,
}

impl Kept {
    fn of(fused: &Fused<Lanes>, i: usize) -> Kept {
        Kept {
            label: of_row(&fused.label, i).collect(),
            weights: of_row(&fused.weights, i).collect(),
            agree: fused.agree.map(|agree| agree.0[i] > 0.0),
            p: of_row(&fused.p, i).collect(),
            pooled: of_row(&fused.pooled, i).collect(),
        }
    }
}

/// Fuses the rows and keeps something of each.
fn fuse_all<T: Send>(
    fuser: &Fuser,
    rows: &Columns,
    keep: impl Fn(&Fused<Lanes>, usize) -> T + Sync,
) -> Vec<T> {
    let chunk = |first: usize| -> Vec<T> {
        let mut kept = Vec::with_capacity(CHUNK);
        fuser.each(rows, first..rows.rows().min(first + CHUNK), |_, count, fused| {
            kept.extend((0..count).map(|i| keep(fused, i)));
        });
        kept
    };
    let firsts: Vec<usize> = (0..rows.rows()).step_by(CHUNK).collect();
    firsts.into_par_iter().flat_map_iter(chunk).collect()
}

fn mean(rows: &[Kept], of: impl Fn(&Kept) -> f64) -> f64 {
    rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64
}

fn share(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn seen(fused: &[Kept], fuser: &Fuser) -> Seen {
    Seen {
        accounts: fused.len(),
        confidence: mean(fused, |f| f.label[argmax(&f.label)]),
        entropy: mean(fused, |f| entropy(&f.label)),
        rivals_differ: [0, 1, 2].map(|rival| mean(fused, |f| share(!f.agree[rival]))),
        diversity: diversity(fused.iter().map(|f| f.p.as_slice()), fuser.blend().classes),
    }
}

fn drop_one(
    k: usize,
    published: Published,
    (calculator, rehearsed): (&Calculator, &[Rehearsal]),
    with: &[Kept],
    without: &[Vec<f64>],
) -> DropOne {
    let teacher = calculator.names()[k].to_string();
    // the pooled teacher has no history of its own
    let judgement = (k < calculator.teachers.len()).then_some(&calculator.judgement);
    let moved =
        |(a, b): (&Kept, &Vec<f64>)| a.label.iter().zip(b).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0;
    let changes = |(a, b): (&Kept, &Vec<f64>)| share(argmax(&a.label) != argmax(b));
    let rows = with.len().max(1) as f64;
    let (loss_change, rehearsals) = loss_change(rehearsed, published, &teacher);
    DropOne {
        same_as: None,
        weight: mean(with, |f| f.weights[k]),
        moved: with.iter().zip(without).map(moved).sum::<f64>() / rows,
        class_changes: with.iter().zip(without).map(changes).sum::<f64>() / rows,
        loss_change,
        rehearsals,
        own_skill: judgement.and_then(|j| own_skill(j, k)),
        abroad: judgement.and_then(|j| abroad(j, k)),
        teacher,
    }
}

/// A teacher that was left out already.
fn repeat(teacher: &str, same_as: &str) -> DropOne {
    DropOne {
        teacher: teacher.to_string(),
        same_as: Some(same_as.to_string()),
        weight: 0.0,
        moved: 0.0,
        class_changes: 0.0,
        loss_change: None,
        rehearsals: 0,
        own_skill: None,
        abroad: None,
    }
}

type Batch = std::result::Result<RecordBatch, arrow::error::ArrowError>;

/// A table from named columns; those of optional numbers may hold nulls.
fn table(columns: Vec<(&str, ArrayRef, bool)>) -> Batch {
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn text(name: &str, values: impl Iterator<Item = String>) -> (&str, ArrayRef, bool) {
    (name, Arc::new(StringArray::from_iter_values(values)), false)
}

fn number(name: &str, values: impl Iterator<Item = f64>) -> (&str, ArrayRef, bool) {
    (name, Arc::new(Float64Array::from_iter_values(values)), false)
}

fn maybe(name: &str, values: impl Iterator<Item = Option<f64>>) -> (&str, ArrayRef, bool) {
    (name, Arc::new(values.collect::<Float64Array>()), true)
}

fn count(name: &str, values: impl Iterator<Item = usize>) -> (&str, ArrayRef, bool) {
    (name, Arc::new(Int64Array::from_iter_values(values.map(|v| v as i64))), false)
}

/// A row for each history that played the target: log-losses and what the labels said of themselves.
///
/// With a pooled teacher what is said of the aligned label is of the mixed one; `unpooled` is then the aligned
/// label, `pooled` the trees of the other histories alone, and `pooled_share` the share that these chose.
fn rehearsal_table(rows: &[Rehearsal], unpooled: &[Rehearsal]) -> Batch {
    let column = |name, of: &dyn Fn(&Rehearsal) -> f64| number(name, rows.iter().map(of));
    let of_pooled = |of: fn(&Rehearsal, &Mixed) -> f64| {
        unpooled.iter().map(move |r| r.mixed.as_ref().map(|m| of(r, m))).collect::<Vec<_>>()
    };
    let mut columns = vec![
        text("history", rows.iter().map(|r| r.history.clone())),
        count("rows", rows.iter().map(|r| r.rows)),
        column("uniform", &|r| r.uniform),
        column("js", &|r| r.js),
        column("gate", &|r| r.held_out),
        column("gate_untrained", &|r| r.theta0),
        column("default", &|r| r.default),
        column("aligned", &|r| r.aligned),
        column("with_shares", &|r| r.with_shares),
        maybe("with_labels", rows.iter().map(|r| r.with_labels)),
        column("js_with_shares", &|r| r.js_with_shares),
        text("best_teacher", rows.iter().map(|r| r.best_teacher.clone())),
        column("best", &|r| r.best),
        column("oracle", &|r| r.oracle),
        column("default_accuracy", &|r| r.default_said.accuracy),
        column("default_confidence", &|r| r.default_said.confidence),
        column("aligned_accuracy", &|r| r.aligned_said.accuracy),
        column("aligned_confidence", &|r| r.aligned_said.confidence),
    ];
    if unpooled.iter().any(|r| r.mixed.is_some()) {
        columns.extend([
            maybe("unpooled", of_pooled(|r, _| r.aligned).into_iter()),
            maybe("pooled", of_pooled(|_, m| m.losses[m.losses.len() - 1]).into_iter()),
            maybe("pooled_share", of_pooled(|_, m| m.share).into_iter()),
        ]);
    }
    table(columns)
}

/// The share of its features that the teacher has lost that lost most.
fn lost_share(known: &[Known]) -> f64 {
    let share = |teacher: &str| {
        let of = known.iter().filter(|k| k.teacher == teacher);
        of.clone().filter(|k| k.lost).count() as f64 / of.count().max(1) as f64
    };
    known
        .iter()
        .map(|k| k.teacher.as_str())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(share)
        .fold(0.0, f64::max)
}

/// A row for each teacher and feature of it that the target holds: what it knows of the values there and in
/// its own history.
fn known_table(rows: &[Known]) -> Batch {
    let flag = |name, of: &dyn Fn(&Known) -> bool| -> (&str, ArrayRef, bool) {
        (name, Arc::new(BooleanArray::from_iter(rows.iter().map(|k| Some(of(k))))), false)
    };
    table(vec![
        text("teacher", rows.iter().map(|k| k.teacher.clone())),
        text("feature", rows.iter().map(|k| k.feature.clone())),
        number("known", rows.iter().map(|k| k.share)),
        maybe("known_at_home", rows.iter().map(|k| k.at_home)),
        number("nulls", rows.iter().map(|k| k.nulls)),
        maybe("nulls_at_home", rows.iter().map(|k| k.nulls_at_home)),
        flag("constant", &|k| k.constant),
        flag("lost", &|k| k.lost),
    ])
}

/// A row for each teacher: what changes without it.
fn drop_table(rows: &[DropOne]) -> Batch {
    let same_as: StringArray = rows.iter().map(|d| d.same_as.as_deref()).collect();
    table(vec![
        text("teacher", rows.iter().map(|d| d.teacher.clone())),
        ("same_as", Arc::new(same_as), true),
        number("weight", rows.iter().map(|d| d.weight)),
        number("moved", rows.iter().map(|d| d.moved)),
        number("class_changes", rows.iter().map(|d| d.class_changes)),
        maybe("loss_change", rows.iter().map(|d| d.loss_change)),
        count("rehearsals", rows.iter().map(|d| d.rehearsals)),
        maybe("own_skill", rows.iter().map(|d| d.own_skill)),
        maybe("abroad", rows.iter().map(|d| d.abroad)),
    ])
}

/// One row: the verdict and the numbers behind it. What ends in `_change` is a log-loss against another in
/// the rehearsals, less one: against the plain mean of the teachers, or, for what `with_` names, against the
/// published kind of label.
fn verdict_table(verdict: &Verdict) -> Batch {
    let f = &verdict.findings;
    let one = |name, value: f64| number(name, [value].into_iter());
    let opt = |name, value: Option<f64>| maybe(name, [value].into_iter());
    let distrust: StringArray = [verdict.distrust.as_deref()].into_iter().collect();
    table(vec![
        text("verdict", [verdict.sentences.join(" ")].into_iter()),
        ("distrust", Arc::new(distrust), true),
        text("base_rate", [f.base_rate.clone()].into_iter()),
        ("trained", Arc::new(BooleanArray::from(vec![f.trained])), false),
        count("rehearsals", [f.rehearsals].into_iter()),
        count("harmed", [f.harmed].into_iter()),
        opt("error", f.error),
        opt("js_change", f.js),
        opt("gate_change", f.gate),
        opt("default_change", f.default),
        opt("aligned_change", f.aligned),
        opt("best_change", f.best_teacher),
        opt("oracle_change", f.oracle),
        opt("with_shares_change", f.with_shares),
        opt("with_labels_change", f.with_labels),
        opt("with_teacher_change", f.with_teacher),
        count("accounts", [f.seen.accounts].into_iter()),
        one("confidence", f.seen.confidence),
        one("entropy", f.seen.entropy),
        one("uniform_differs", f.seen.rivals_differ[0]),
        one("js_differs", f.seen.rivals_differ[1]),
        one("gate_differs", f.seen.rivals_differ[2]),
        one("disagreement", f.seen.diversity.disagreement),
        one("divergence", f.seen.diversity.divergence),
        opt("accuracy", f.accuracy.map(|e| e.value)),
        opt("accuracy_error", f.accuracy.map(|e| e.error)),
        opt("accuracy_low", f.accuracy.map(|e| e.low)),
        opt("accuracy_high", f.accuracy.map(|e| e.high)),
        opt("log_loss", f.log_loss.map(|e| e.value)),
        opt("log_loss_error", f.log_loss.map(|e| e.error)),
        opt("log_loss_low", f.log_loss.map(|e| e.low)),
        opt("log_loss_high", f.log_loss.map(|e| e.high)),
    ])
}
