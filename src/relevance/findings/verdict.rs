//! The verdict on a run, in a few plain sentences: did relevance matter, which teacher to distrust, what
//! would help most, how right the labels may be.

use crate::relevance::findings::{DropOne, Findings};
use crate::relevance::profile::known::Known;
use crate::relevance::training::pooled::NAME;

/// Changes of log-loss below this are none.
const LITTLE: f64 = 0.01;
/// A teacher with less than this share of the others' skill at home has labels, or scores, that cannot be
/// right.
const SKILL: f64 = 0.25;
/// A label that is this much better without a teacher is harmed by it.
const HARM: f64 = -0.005;
/// A teacher this much worse abroad than the other foreigners is the one to watch.
const WORSE_ABROAD: f64 = 0.1;

/// The teacher to distrust, and why.
pub fn distrust(findings: &Findings) -> Option<(&str, String)> {
    let asked: Vec<&DropOne> = findings.drops.iter().filter(|d| d.same_as.is_none()).collect();
    let least = |of: &dyn Fn(&DropOne) -> Option<f64>| {
        asked.iter().filter_map(|d| of(d).map(|v| (*d, v))).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    if let Some((d, skill)) = least(&|d| d.own_skill) {
        let others: Vec<f64> =
            asked.iter().filter(|o| o.teacher != d.teacher).filter_map(|o| o.own_skill).collect();
        if median(others).is_some_and(|middle| skill < SKILL * middle) {
            return Some((
                &d.teacher,
                "its scores say little or nothing about the labels of its own history, which may be wrong"
                    .to_string(),
            ));
        }
    }
    if let Some((d, change)) = least(&|d| d.loss_change).filter(|(_, change)| *change < HARM) {
        return Some((
            &d.teacher,
            format!("without it the rehearsals' log-loss is {} lower", percent(-change)),
        ));
    }
    let (d, better) = least(&|d| d.abroad.map(|a| -a)).filter(|(_, better)| -better > WORSE_ABROAD)?;
    Some((
        &d.teacher,
        format!(
            "on the other histories its log-loss is {} above that of the other teachers",
            percent(-better)
        ),
    ))
}

/// The median; none of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0)
}

/// What would help most.
pub fn help(findings: &Findings) -> String {
    let known = |what: &str| findings.base_rate == what;
    let options = [
        (
            "the target's class shares (target.class_shares)",
            findings.with_shares.filter(|_| !known("class_shares")),
        ),
        ("50 labelled accounts (target.labels)", findings.with_labels.filter(|_| known("none"))),
        ("another teacher with a labelled history", findings.with_teacher),
    ];
    let gains: Vec<(&str, f64)> =
        options.iter().filter_map(|(what, change)| change.map(|c| (*what, -c))).collect();
    let Some((what, gain)) = gains.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return match known("none") {
            true => "What would help most is not known without rehearsals; a third teacher with a labelled history makes them possible, and class shares or labels of the target have helped most elsewhere.".to_string(),
            false => "What would help most is not known without rehearsals; a third teacher with a labelled history makes them possible.".to_string(),
        };
    };
    let change = |(what, gain): &(&str, f64)| {
        let direction = if *gain < 0.0 { "higher" } else { "lower" };
        format!("{} {direction} with {what}", percent(gain.abs()))
    };
    let all = gains.iter().map(change).collect::<Vec<_>>().join(", ");
    match gain > LITTLE {
        true => format!("What would help most: {what}. In the rehearsals the log-loss was {all}."),
        false => format!("Nothing that was rehearsed would help much: the log-loss was {all}."),
    }
}

/// What was lost of the target's columns, a sentence for each of the worst, the feature named once.
fn lost(findings: &Findings) -> Vec<String> {
    const MOST: usize = 5;
    let mut features: Vec<&str> = findings.lost.iter().map(|l| l.feature.as_str()).collect();
    features.sort_unstable();
    features.dedup();
    let worst = |feature: &str| {
        let of = findings.lost.iter().filter(|l| l.feature == feature);
        of.min_by(|a, b| a.share.total_cmp(&b.share))
    };
    let sentence = |l: &Known| match (l.constant, l.at_home) {
        (true, _) => format!(
            "Beware: {} is as good as constant, while it varies in the history of {}.",
            l.feature, l.teacher
        ),
        (false, Some(home)) => format!(
            "Beware: {} knows {} of the values of {}, of those in its own history {}.",
            l.teacher,
            percent(l.share),
            l.feature,
            percent(home)
        ),
        (false, None) => {
            format!("Beware: {} knows {} of the values of {}.", l.teacher, percent(l.share), l.feature)
        }
    };
    let mut out: Vec<String> = features.iter().take(MOST).filter_map(|f| worst(f).map(sentence)).collect();
    if features.len() > MOST {
        out.push(format!("So it is with {} more columns.", features.len() - MOST));
    }
    if !features.is_empty() && findings.accuracy.is_some() {
        out.push("The estimate is lowered, since no rehearsal lacked such a column.".to_string());
    }
    out
}

/// The verdict's sentences, in the order in which they are read.
pub fn sentences(findings: &Findings) -> Vec<String> {
    let mut out = vec![mattered(findings)];
    if findings.irrelevant {
        out.push("No teacher's history overlaps with the target, so all teachers count evenly: the labels are a guess.".to_string());
    }
    out.extend(pooled(findings));
    out.push(match distrust(findings) {
        Some((teacher, why)) => format!("Distrust {teacher} most: {why}."),
        None => "No teacher stands out as one to distrust.".to_string(),
    });
    out.extend(findings.drops.iter().filter_map(|d| {
        d.same_as.as_ref().map(|same| format!("{} repeats {same} and counts for nothing.", d.teacher))
    }));
    out.push(help(findings));
    if let Some(differ) = findings.rivals_differ() {
        out.push(format!(
            "Beware: on {} of the accounts a simpler way to weigh the teachers gives another class.",
            percent(differ)
        ));
    }
    out.extend(lost(findings));
    out.push(match (findings.accuracy, findings.log_loss) {
        (Some(a), Some(l)) => format!(
            "Estimated accuracy {:.3}, give or take {:.3} ({:.2} to {:.2}), log-loss {:.3}, give or take {:.3}: from {} rehearsals; such brackets held in more than four cases of five.",
            a.value, a.error, a.low, a.high, l.value, l.error, findings.rehearsals
        ),
        _ => format!("No accuracy is estimated: that takes three rehearsals, there are {}.", findings.rehearsals),
    });
    out.push("If the features have come to mean something else, only labels can tell.".to_string());
    out
}

fn mattered(findings: &Findings) -> String {
    let published = findings.published.pick(findings.default, findings.aligned);
    let (Some(change), Some(js)) = (published, findings.js) else {
        let why = if findings.drops.iter().filter(|d| d.same_as.is_none() && d.teacher != NAME).count() < 3 {
            "fewer than three teachers"
        } else {
            "no labelled history"
        };
        return format!(
            "Whether relevance mattered cannot be told: with {why} nothing was rehearsed, and the weights rest on distance and cross-loss alone."
        );
    };
    let sure = change.abs() > LITTLE && findings.error.is_some_and(|e| change.abs() > 2.0 * e);
    let judged = match (sure, change < 0.0) {
        (true, true) => "Relevance mattered".to_string(),
        (true, false) => "Relevance harmed in the rehearsals".to_string(),
        (false, true) if -change > LITTLE => {
            "Relevance probably helped, though so few rehearsals cannot prove it".to_string()
        }
        (false, _) => "Relevance neither helped nor harmed in the rehearsals".to_string(),
    };
    let (better, worse) = (findings.rehearsals - findings.harmed, findings.harmed);
    let range = findings
        .error
        .map(|e| format!(" (roughly between {} and {})", beside(change - 2.0 * e), beside(change + 2.0 * e)));
    let next = match (sure, change < 0.0) {
        (false, _) => {
            " That is too little to tell from chance; more teachers with a labelled history would tell."
        }
        (true, false) => " Set fuse.method = \"reference\" and compare, or look at the teacher named below.",
        (true, true) => "",
    };
    format!(
        "{judged}: when each of {} histories played the target, the fused label's log-loss was {} that of the plain mean of the teachers{}; it was as good or better on {better} and worse by more than 1 % on {worse}. Weights by distance alone: {}.{next}",
        findings.rehearsals,
        beside(change),
        range.unwrap_or_default(),
        beside(js),
    )
}

/// What the teacher that the job trained itself is worth.
fn pooled(findings: &Findings) -> Option<String> {
    let pooled = findings.pooled.as_ref()?;
    let change = findings.drops.iter().find(|d| d.teacher == NAME).and_then(|d| d.loss_change);
    let worth = match change {
        // a label that is worse by c without it is better by c / (1 + c) with it
        Some(without) => {
            let with = 1.0 / (1.0 + without) - 1.0;
            format!("in the rehearsals the log-loss with it was {} that without", beside(with))
        }
        None => "without three histories to rehearse on, that share is what was good elsewhere".to_string(),
    };
    Some(format!(
        "The pooled teacher, trained by this job on {} rows of {} histories, has {} of the label: {worth}.",
        pooled.rows,
        pooled.histories,
        percent(pooled.share)
    ))
}

fn beside(change: f64) -> String {
    format!("{} {}", percent(change.abs()), if change < 0.0 { "below" } else { "above" })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
