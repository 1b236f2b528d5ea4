//! `coldstart drift`: what a date's tables say of change, and an exit code where a threshold is passed.

use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::report::table::Table;

/// With what a date is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Against {
    First,
    Previous,
}

/// The most that may have changed; what is not given is not judged.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Thresholds {
    /// The most PSI of any feature, score, or of the class shares; .25 is another population by the convention of credit scoring.
    #[arg(long, value_name = "PSI")]
    pub max_psi: Option<f64>,
    /// The most by which a feature's share of nulls may have risen.
    #[arg(long, value_name = "SHARE")]
    pub max_null_rise: Option<f64>,
    /// The largest share of a feature's values that the earlier date did not have.
    #[arg(long, value_name = "SHARE")]
    pub max_unknown: Option<f64>,
}

/// One measure of one feature, score or class table.
struct Found {
    what: &'static str,
    name: String,
    measure: &'static str,
    value: f64,
}

/// The result line; a passed threshold is 65 and names what moved most, a date without tables 66.
pub fn drift(pipeline: &Pipeline, date: &str, against: Against, allowed: &Thresholds) -> Result<Value> {
    let against = match against {
        Against::First => "first",
        Against::Previous => "previous",
    };
    let mut found = Vec::new();
    let mut reference = None;
    for (name, column, what) in [
        ("feature_drift", "feature", "column"),
        ("score_drift", "score", "score"),
        ("class_shares", "class", "class"),
    ] {
        let parts = pipeline.tables().parts(name, date);
        let table = Table::read(&parts.map_err(|e| e.with("date", date).hint("coldstart run comes first"))?)?;
        let (names, references, dates) =
            (table.texts(column), table.texts("against"), table.texts("against_date"));
        let (psi, nulls, before, unknown) = (
            table.numbers("psi"),
            table.numbers("null_share"),
            table.numbers("null_share_before"),
            table.numbers("unknown_share"),
        );
        for i in (0..table.rows()).filter(|i| references[*i].as_deref() == Some(against)) {
            reference = dates[i].clone();
            let Some(name) = &names[i] else { continue };
            let rise = nulls[i].zip(before[i]).map(|(now, then)| now - then);
            for (measure, value) in [("psi", psi[i]), ("null_rise", rise), ("unknown_share", unknown[i])] {
                found.extend(value.map(|value| Found { what, name: name.clone(), measure, value }));
            }
        }
    }
    let worst = |measure: &str| {
        found.iter().filter(|f| f.measure == measure).max_by(|a, b| a.value.total_cmp(&b.value))
    };
    for (measure, allowed) in [
        ("psi", allowed.max_psi),
        ("null_rise", allowed.max_null_rise),
        ("unknown_share", allowed.max_unknown),
    ] {
        if let (Some(worst), Some(allowed)) = (worst(measure), allowed)
            && worst.value > allowed
        {
            return Err(Error::data("more has changed than is allowed")
                .with(worst.what, worst.name.clone())
                .with("measure", measure)
                .value(format!("{:.4}", worst.value))
                .with("allowed", allowed.to_string())
                .with("against", reference.unwrap_or_default())
                .hint("look at the page of this date (coldstart report), or raise the threshold"));
        }
    }
    let said = |measure: &str| worst(measure).map(|f| json!({f.what: f.name, "value": f.value}));
    Ok(json!({
        "status": "compared",
        "pipeline": pipeline.name,
        "date": date,
        "against": reference,
        "psi": said("psi"),
        "null_rise": said("null_rise"),
        "unknown_share": said("unknown_share"),
    }))
}
