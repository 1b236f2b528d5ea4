//! An explanation as people read it.

use std::fmt::Write;

use crate::commands::explain::views::{Explanation, FeatureDistance, FeatureView, Opinion, TeacherView};

/// Several lines, the last one complete.
pub fn render(e: &Explanation) -> String {
    let mut out = String::new();
    let id = e.account.as_str().map_or_else(|| e.account.to_string(), str::to_string);
    let reason = e.decision.reason.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("account {id} of {}, {} (run {})", e.pipeline, e.date, e.run_id));
    line(format!(
        "  class       {} by {} ({}{reason})",
        said(&e.decision.said),
        e.decision.by,
        e.decision.decision
    ));
    line(format!("  soft label  {}", said(&e.label)));
    line(format!(
        "  support {:.3}, disagreement {:.3} bits, base rate moved by: {}",
        e.support, e.disagreement, e.base_rate
    ));
    let rivals: Vec<String> = e
        .rivals
        .iter()
        .map(|r| format!("{} {} ({})", r.name, said(&r.said), if r.agrees { "agrees" } else { "differs" }))
        .collect();
    line(format!("  rivals      {}", rivals.join("; ")));
    for teacher in &e.teachers {
        line(String::new());
        describe(teacher).into_iter().for_each(&mut line);
    }
    out
}

fn describe(t: &TeacherView) -> Vec<String> {
    let mut out = vec![format!("  {} ({}): weight {:.3}", t.teacher, t.scenario, t.weight)];
    if let Some(same) = &t.same_as {
        out.push(format!("    says the same as {same} and was not asked"));
        return out;
    }
    out.push(format!("    says        {}; calibrated {}", said(&t.raw), said(&t.calibrated)));
    out.extend(t.support.map(|support| {
        let (like, unlike) = (features(&t.like), features(&t.unlike));
        format!("    support     {support:+.3}: like its history in {like}; unlike it in {unlike}")
    }));
    out.extend(t.target_js.map(|js| {
        let (near, far) = (distances(&t.target_near), distances(&t.target_far));
        format!("    the target  JS {js:.3} bits: closest in {near}; furthest in {far}")
    }));
    let change = if t.changes_class { "ANOTHER CLASS: " } else { "" };
    out.push(format!("    without it  {change}{}", said(&t.without)));
    out
}

/// The class with its probability, or all of two or three.
fn said(opinion: &Opinion) -> String {
    let p = opinion.p.get(&opinion.class).copied().unwrap_or_default();
    let others: Vec<String> = opinion
        .p
        .iter()
        .filter(|(c, _)| **c != opinion.class)
        .take(3)
        .map(|(c, p)| format!("{c} {p:.4}"))
        .collect();
    format!("{} {p:.4} ({})", opinion.class, others.join(", "))
}

fn features(list: &[FeatureView]) -> String {
    let one = |f: &FeatureView| {
        let value = match (f.value.as_f64(), f.value.as_str()) {
            (Some(number), _) => format!("{} [{}]", number as f32, f.bin),
            (_, Some(level)) if level != f.bin => format!("{level} [{}]", f.bin),
            _ => f.bin.clone(),
        };
        format!("{} = {value} {:+.3}", f.feature, f.adds)
    };
    or_nothing(list.iter().map(one).collect())
}

fn distances(list: &[FeatureDistance]) -> String {
    or_nothing(list.iter().map(|d| format!("{} {:.3}", d.feature, d.js)).collect())
}

fn or_nothing(list: Vec<String>) -> String {
    if list.is_empty() { "nothing".to_string() } else { list.join(", ") }
}
