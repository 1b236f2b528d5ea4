//! What abstaining is worth: risk against coverage on the histories, each in turn the target of the others
//! (El-Yaniv & Wiener 2010).

use serde::{Deserialize, Serialize};

use crate::relevance::fusion::decision::{Evidence, Rule};

/// Shares of the accounts that are kept on the curves.
const COVERAGE: [f64; 11] = [1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];

/// Rows of a history as the other teachers see them, under a gate that was trained without it. All labels are
/// `[n, C]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The true classes `[n]`.
    pub labels: Vec<u16>,
    /// Soft labels: the reference's, those of aligned teachers, and these where the class shares are known.
    pub default: Vec<f64>,
    pub aligned: Vec<f64>,
    pub with_shares: Vec<f64>,
    /// max_k s_k(x) `[n]`, and disagreement in bits `[n]`.
    pub support: Vec<f64>,
    pub disagreement: Vec<f64>,
}

/// A history that played the target: its name, its rows, and which of its soft labels count.
#[derive(Debug, Clone, Copy)]
pub struct Played<'a> {
    pub history: &'a str,
    pub judged: &'a Judged,
    /// `[n, C]`
    pub label: &'a [f64],
}

/// A point of the table: accounts that a threshold of `measure` keeps, and how wrong they are. Every history
/// counts the same, however many rows it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `confidence`, `expected_cost`, `support`, `disagreement`, or `configured`: the rule of the pipeline as
    /// a whole.
    pub measure: &'static str,
    /// The least (of expected cost and disagreement the greatest) value that is kept.
    pub threshold: Option<f64>,
    /// Share of the accounts that are kept.
    pub coverage: f64,
    /// Of those kept: share with another class, and mean log-loss.
    pub error_rate: Option<f64>,
    pub log_loss: Option<f64>,
    /// Mean over all accounts, abstention at its own cost; none where it has no cost and some are left out.
    pub cost: Option<f64>,
    /// The history whose kept rows are wrong most often, and how often.
    pub worst: Option<(String, f64)>,
}

/// A row of some history.
struct Row<'a> {
    history: usize,
    /// 1 / (rows of its history x histories).
    weight: f64,
    is: usize,
    p: &'a [f64],
    evidence: Evidence,
    decided: usize,
    expected_cost: f64,
}

/// The curves for each measure by which one could abstain, and the rule of the pipeline; nothing without
/// histories.
pub fn table(played: &[Played], rule: &Rule, classes: usize) -> Vec<Point> {
    let rows: Vec<Row> =
        played.iter().enumerate().flat_map(|(h, p)| rows_of(h, p, played.len(), rule, classes)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    // Each measure as something of which more is better.
    type Measure = fn(&Row) -> f64;
    let all: [(&'static str, f64, Measure); 4] = [
        ("confidence", 1.0, |r| r.p[r.decided]),
        ("expected_cost", -1.0, |r| -r.expected_cost),
        ("support", 1.0, |r| r.evidence.support),
        ("disagreement", -1.0, |r| -r.evidence.disagreement),
    ];
    let mut points = Vec::new();
    for (name, sign, of) in all {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| of(&rows[*b]).total_cmp(&of(&rows[*a])).then(a.cmp(b)));
        for coverage in COVERAGE {
            let least = of(&rows[order[last_kept(&rows, &order, coverage)]]);
            let kept = |r: &Row| of(r) >= least;
            points.push(point(name, Some(sign * least), &rows, kept, played, rule, classes));
        }
    }
    points.push(point(
        "configured",
        None,
        &rows,
        |r| rule.decide(r.p, r.evidence).1.is_none(),
        played,
        rule,
        classes,
    ));
    points
}

fn rows_of<'a>(
    history: usize,
    played: &Played<'a>,
    histories: usize,
    rule: &Rule,
    classes: usize,
) -> Vec<Row<'a>> {
    let judged = played.judged;
    let weight = 1.0 / (judged.labels.len() * histories) as f64;
    let row = |(i, p): (usize, &'a [f64])| {
        let (decided, expected_cost) = rule.class(p);
        let evidence =
            Evidence { support: judged.support[i], disagreement: judged.disagreement[i], known: 1.0 };
        Row { history, weight, is: usize::from(judged.labels[i]), p, evidence, decided, expected_cost }
    };
    played.label.chunks_exact(classes).enumerate().map(row).collect()
}

/// The place in `order` at which `coverage` of the weight is reached.
fn last_kept(rows: &[Row], order: &[usize], coverage: f64) -> usize {
    let mut sum = 0.0;
    // The tolerance keeps rounding from asking for one row more.
    order
        .iter()
        .position(|i| {
            sum += rows[*i].weight;
            sum >= coverage - 1e-9
        })
        .unwrap_or(order.len() - 1)
}

fn point(
    measure: &'static str,
    threshold: Option<f64>,
    rows: &[Row],
    kept: impl Fn(&Row) -> bool,
    played: &[Played],
    rule: &Rule,
    classes: usize,
) -> Point {
    let (mut wrong, mut loss, mut paid) = (0.0, 0.0, 0.0);
    // Weight kept, and kept but wrong, for each history.
    let mut each = vec![(0.0, 0.0); played.len()];
    for row in rows.iter().filter(|r| kept(r)) {
        let miss = if row.is == row.decided { 0.0 } else { row.weight };
        wrong += miss;
        loss -= row.weight * row.p[row.is].max(f64::MIN_POSITIVE).ln();
        paid += row.weight * rule.cost(row.is, row.decided, classes);
        each[row.history].0 += row.weight;
        each[row.history].1 += miss;
    }
    let coverage = each.iter().map(|e| e.0).sum::<f64>().min(1.0);
    let some = |v: f64| (coverage > 0.0).then_some(v / coverage);
    let left_out =
        if coverage < 1.0 - 1e-9 { rule.abstain_cost.map(|c| c * (1.0 - coverage)) } else { Some(0.0) };
    let worst = each.iter().zip(played).filter(|(e, _)| e.0 > 0.0).map(|(e, p)| (p.history, e.1 / e.0));
    let worst =
        worst.reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|(name, rate)| (name.to_string(), rate));
    Point {
        measure,
        threshold,
        coverage,
        error_rate: some(wrong),
        log_loss: some(loss),
        cost: left_out.map(|c| c + paid),
        worst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(labels: &[u16], p: &[f64], disagreement: &[f64]) -> (Judged, Vec<f64>) {
        let label: Vec<f64> = p.iter().flat_map(|p| [1.0 - p, *p]).collect();
        let rows = labels.len();
        let seen = Judged {
            labels: labels.to_vec(),
            support: vec![0.0; rows],
            disagreement: disagreement.to_vec(),
            ..Judged::default()
        };
        (seen, label)
    }

    #[test]
    fn histories_count_the_same_and_what_is_kept_is_measured() {
        let (a, of_a) = judged(&[1, 1, 0, 0], &[0.9, 0.8, 0.6, 0.1], &[0.0, 0.1, 0.9, 0.2]);
        let (b, of_b) = judged(&[1, 0], &[0.3, 0.05], &[0.3, 0.0]);
        let played = [
            Played { history: "a", judged: &a, label: &of_a },
            Played { history: "b", judged: &b, label: &of_b },
        ];
        let points = table(
            &played,
            &Rule { max_disagreement: Some(0.25), abstain_cost: Some(0.3), ..Rule::default() },
            2,
        );
        let find = |measure: &str, coverage: f64| {
            points
                .iter()
                .find(|p| p.measure == measure && (p.coverage - coverage).abs() < 1e-9)
                .expect("a point")
        };
        let all = find("confidence", 1.0);
        assert_eq!((all.error_rate, all.cost), (Some(0.125 + 0.25), Some(0.375)));
        assert_eq!(all.worst, Some(("b".to_string(), 0.5)));
        // the four most certain rows of five eighths of the weight are right
        assert_eq!(find("confidence", 0.625).error_rate, Some(0.0));
        let rule = points.last().expect("the rule");
        assert_eq!((rule.measure, rule.coverage, rule.error_rate), ("configured", 0.625, Some(0.0)));
        assert!((rule.cost.expect("a cost") - 0.3 * 0.375).abs() < 1e-12);
        assert!(table(&[], &Rule::default(), 2).is_empty());
    }

    #[test]
    fn equal_values_are_kept_together() {
        let (a, of_a) = judged(&[1, 0, 1, 0], &[0.7; 4], &[0.0; 4]);
        let points = table(&[Played { history: "a", judged: &a, label: &of_a }], &Rule::default(), 2);
        assert!(points.iter().all(|p| p.coverage == 1.0 && p.error_rate == Some(0.5)));
    }
}
