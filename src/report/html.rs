//! The page as one self-contained HTML file: the report's numbers, laid out by [`super::plot`] and drawn by the templates beside this file.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, Value};
use serde::Serialize;

use crate::report::data::{Bin, Histogram, Level, Line, Reliability, Report};
use crate::report::plot::{self, Axis, Plot, Unit};

/// Divergences in bits at which a cell of the heat map takes its next colour.
const MOVED: [f64; 7] = [0.003, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4];

/// Levels of a category that are drawn.
const LEVELS: usize = 7;

/// A number that stands at the head of the page.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    value: String,
    note: String,
}

#[derive(Serialize)]
struct Steps<'a> {
    of: &'a Histogram,
    plot: Plot,
    /// The most frequent levels, of a category alone.
    levels: Vec<&'a Bin>,
}

/// All that the template sees.
#[derive(Serialize)]
struct Page<'a> {
    r: &'a Report,
    css: &'static str,
    level: &'static str,
    figures: Vec<Figure>,
    /// Whether class shares were told.
    known: bool,
    shares_lines: &'a [Line],
    shares_plot: Option<Plot>,
    histograms: Vec<Steps<'a>>,
    drift_plot: Plot,
    scores_plot: Option<Plot>,
    trials: Pairs,
    reliability: Option<Pairs>,
    truth: Option<Pairs>,
    /// Whether it was looked at which values the teachers know.
    unknown: bool,
    coverage_plot: Option<Plot>,
}

/// What was said beside what was found, and the line on which both are the same.
#[derive(Serialize)]
struct Pairs {
    plot: Plot,
    diagonal: String,
}

/// The page's text.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.add_template("marks.html", include_str!("templates/marks.html"))?;
    env.add_template("page.html", include_str!("templates/page.html"))?;
    add_filters(&mut env);
    let shares: Vec<Line> = report
        .classes
        .now
        .iter()
        .map(|c| Line { name: c.class.clone(), values: c.over_dates.clone() })
        .collect();
    let (dates, drift, trust) = (&report.classes.dates, &report.drift, &report.trust);
    let said = |bins: &[Reliability]| bins.iter().map(|b| (b.said, b.was)).collect::<Vec<_>>();
    let page = Page {
        r: report,
        css: include_str!("templates/page.css"),
        level: level(report.verdict.level),
        figures: figures(report),
        known: report.classes.now.iter().any(|c| c.known.is_some()),
        shares_lines: &shares,
        shares_plot: (dates.len() > 1).then(|| lines(dates, &shares, Unit::Share, 0.05)),
        histograms: report.features.histograms.iter().map(steps).collect(),
        drift_plot: lines(&drift.dates, &drift.features, Unit::Number, 0.01),
        scores_plot: (!drift.scores.is_empty())
            .then(|| lines(&drift.dates, &drift.scores, Unit::Number, 0.01)),
        trials: pairs(trust.trials.iter().map(|t| (t.said, t.was)).collect()),
        reliability: (!trust.reliability.is_empty()).then(|| pairs(said(&trust.reliability))),
        unknown: report.data.columns.iter().any(|c| c.unknown_share.is_some()),
        truth: report.truth.as_ref().map(|t| pairs(said(&t.reliability))),
        coverage_plot: coverage(report),
    };
    env.get_template("page.html")?.render(Serde(&page))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Good => "Usable as it is",
        Level::Care => "Usable with care",
        Level::Stop => "Look before you use it",
    }
}

fn figures(report: &Report) -> Vec<Figure> {
    let undecided: u64 = report.classes.undecided.iter().map(|(_, n)| n).sum();
    let mut out = vec![Figure {
        name: "Accounts",
        value: count(report.accounts),
        note: if undecided > 0 {
            format!("{} undecided", count(undecided))
        } else {
            "all have a class".to_string()
        },
    }];
    if let Some(rarest) = report.classes.now.iter().min_by(|a, b| a.share.total_cmp(&b.share)) {
        out.push(Figure {
            name: "Rarest class",
            value: percent(rarest.share, 1),
            note: format!("are {}", named(&rarest.class)),
        });
    }
    out.push(match (&report.truth, report.trust.accuracy) {
        (Some(truth), _) => Figure {
            name: "Accuracy found",
            value: percent(truth.accuracy, 1),
            note: format!("on {} labels that arrived", count(truth.labels)),
        },
        (None, Some(a)) => Figure {
            name: "Accuracy expected",
            value: percent(a.value, 1),
            note: format!("{} to {}", percent(a.low, 0), percent(a.high, 0)),
        },
        (None, None) => Figure {
            name: "Accuracy expected",
            value: "not known".into(),
            note: "needs three histories".into(),
        },
    });
    if let Some(worst) = report.features.rows.first() {
        out.push(Figure {
            name: "Moved most",
            value: worst.name.clone(),
            note: format!("divergence {:.3}", worst.mean),
        });
    }
    out
}

fn lines(dates: &[String], lines: &[Line], unit: Unit, least: f64) -> Plot {
    let axis = Axis::from_zero(lines.iter().flat_map(|l| l.values.iter().flatten().copied()), least, unit);
    let series: Vec<(String, Vec<Option<f64>>)> =
        lines.iter().map(|l| (l.name.clone(), l.values.clone())).collect();
    plot::over_dates(dates, &series, axis)
}

fn steps(of: &Histogram) -> Steps<'_> {
    let side = |of_bin: fn(&Bin) -> f64| of.bins.iter().map(of_bin).collect::<Vec<f64>>();
    let mut levels: Vec<&Bin> =
        of.bins.iter().filter(|b| !of.ordered && b.target + b.history > 0.0).collect();
    levels.sort_by(|a, b| b.target.max(b.history).total_cmp(&a.target.max(a.history)));
    levels.truncate(LEVELS);
    Steps { of, plot: plot::histograms(&side(|b| b.target), &side(|b| b.history)), levels }
}

fn pairs(points: Vec<(f64, f64)>) -> Pairs {
    let axis = Axis::around(points.iter().flat_map(|(a, b)| [*a, *b]), (0.0, 1.0), Unit::Share);
    let draw = |points| plot::points(&[(String::new(), points)], axis, axis);
    let mut line = draw(vec![(axis.low, axis.low), (axis.high, axis.high)]);
    Pairs { plot: draw(points), diagonal: line.series.remove(0).path }
}

fn coverage(report: &Report) -> Option<Plot> {
    let curves = &report.trust.coverage;
    // the rule of the pipeline is one point, and stands in the numbers
    let series: Vec<(String, Vec<(f64, f64)>)> = curves
        .iter()
        .filter(|c| c.points.len() > 1)
        .map(|c| (words(c.measure.clone()), c.points.iter().map(|p| (p.coverage, p.error)).collect()))
        .collect();
    let errors =
        Axis::from_zero(curves.iter().flat_map(|c| c.points.iter().map(|p| p.error)), 0.02, Unit::Share);
    (!series.is_empty())
        .then(|| plot::points(&series, Axis { low: 0.0, high: 1.0, unit: Unit::Share }, errors))
}

fn add_filters(env: &mut Environment) {
    env.add_filter("count", |v: Value| optional(&v, |v| count(v.max(0.0) as u64)));
    env.add_filter("percent", |v: Value, digits: Option<usize>| {
        optional(&v, |v| percent(v, digits.unwrap_or(1)))
    });
    env.add_filter("points", |v: f64| format!("{:.1} points", 100.0 * v));
    env.add_filter("decimal", |v: Value, digits: usize| optional(&v, |v| format!("{v:.digits$}")));
    env.add_filter("change", |v: Value| {
        optional(&v, |v| format!("{}{:.1} %", if v < 0.0 { "−" } else { "+" }, 100.0 * v.abs()))
    });
    env.add_filter("range", |v: Option<Vec<f64>>| match v.as_deref() {
        Some([low, high]) if low == high => percent(*low, 1),
        Some([low, high]) => format!("{} to {}", percent(*low, 1), percent(*high, 1)),
        _ => "–".to_string(),
    });
    env.add_filter("moved", |v: Value| {
        number(&v).map(|v| MOVED.iter().filter(|m| v >= **m).count()).unwrap_or(0)
    });
    env.add_filter("heat", |v: f64| ((v * 8.0) as usize).min(7));
    env.add_filter("words", words);
}

fn number(value: &Value) -> Option<f64> {
    f64::try_from(value.clone()).ok().filter(|v| v.is_finite())
}

/// What was not measured is an en dash.
fn optional(value: &Value, write: impl Fn(f64) -> String) -> String {
    number(value).map_or_else(|| "–".to_string(), write)
}

/// A share in per cent; what is not zero is not written as zero.
pub fn percent(share: f64, digits: usize) -> String {
    let least = 0.1f64.powi(digits as i32);
    match 100.0 * share {
        v if v > 0.0 && v < least / 2.0 => format!("< {least:.digits$}\u{a0}%"),
        v => format!("{v:.digits$}\u{a0}%"),
    }
}

/// A whole number with its thousands apart.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or_default()).collect();
    groups.join(",")
}

/// A class in a sentence; a number alone would be taken for a count.
pub fn named(class: &str) -> String {
    if class.parse::<f64>().is_ok() { format!("class {class}") } else { class.to_string() }
}

fn words(name: String) -> String {
    name.replace('_', " ")
}
