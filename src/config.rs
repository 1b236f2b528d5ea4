//! The pipeline file: from TOML as typed to a [`Pipeline`] as meant.
//!
//! In: the file, `--set key.path=value` overrides, `${NAME}` from the environment, and `pipelines/defaults.toml` beneath it all.
//! Out: checked values; no later stage validates them again. Every refusal is exit 78 and names `section.key`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::lake::accounts::nearest;
use crate::relevance::decision::Rule;

const DEFAULTS: &str = include_str!("../pipelines/defaults.toml");

/// Keys that have no default, as dotted paths.
const WITHOUT_DEFAULT: &[&str] = &[
    "name",
    "classes",
    "target.accounts",
    "target.id",
    "target.where",
    "target.class_shares",
    "target.labels",
    "fuse.costs",
    "fuse.abstain.cost",
    "fuse.abstain.min_support",
    "fuse.abstain.max_disagreement",
    "teachers.bundle",
    "teachers.classes",
    "output.path",
];

/// Tables whose keys are names that the user gives.
const FREE: &[&str] = &["target.class_shares", "teachers.classes", "fuse.costs"];

/// A checked pipeline. Paths are resolved against the file that named them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    pub name: String,
    pub classes: Vec<String>,
    pub target: Target,
    pub teachers: Vec<TeacherRef>,
    pub relevance: RelevanceSettings,
    pub fuse: FuseSettings,
    pub student: StudentSettings,
    /// Decides whether tables are published and nothing of what they hold: not part of the run's identity.
    #[serde(skip_serializing)]
    pub gates: GateSettings,
    pub output: Output,
    /// Directory of the pipeline file; not part of the file and not of the run's identity.
    #[serde(skip)]
    pub root: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub accounts: String,
    pub id: String,
    #[serde(rename = "where")]
    pub filter: Option<String>,
    pub class_shares: Option<BTreeMap<String, Share>>,
    pub labels: Option<String>,
    pub non_finite: NonFinite,
    pub dedupe: Dedupe,
}

/// What the user knows of a class's share: a number or the range that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Share {
    Known(f64),
    Range([f64; 2]),
}

impl Share {
    /// Least and greatest share.
    pub fn range(self) -> (f64, f64) {
        match self {
            Share::Known(v) => (v, v),
            Share::Range([low, high]) => (low, high),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    Reject,
    AsNull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dedupe {
    Error,
    First,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherRef {
    pub bundle: String,
    /// This teacher's classes -> the target's; a class that is not named keeps its name.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelevanceSettings {
    pub min_training_rows: u64,
    pub min_class_rows: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuseSettings {
    pub method: Method,
    /// True class -> decided class -> cost; what is not named costs 0 when right and 1 when wrong.
    pub costs: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    #[serde(default)]
    pub abstain: Abstain,
}

/// When an account is left undecided; never, where nothing is said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abstain {
    pub cost: Option<f64>,
    pub min_support: Option<f64>,
    pub max_disagreement: Option<f64>,
}

/// How the teachers' scores become one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Aligned,
    Reference,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentSettings {
    pub family: crate::student::Family,
    pub max_training_rows: u64,
    pub held_out_share: f64,
    pub seed: u64,
    pub min_agreement: f64,
    pub max_kl: f64,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    PublishFused,
    Fail,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSettings {
    pub rows: OnGate,
    pub ids: OnGate,
    pub probabilities: OnGate,
    /// Least and greatest multiple of the rows of the date before.
    pub volume: [f64; 2],
    /// Largest PSI of the class shares against the date before.
    pub shares: f64,
    pub least_rows: u64,
}

/// What a gate that fails does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGate {
    Fail,
    Warn,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub path: String,
    pub partition_by: Vec<String>,
    pub format: String,
}

impl Pipeline {
    /// Reads, overrides, fills in the defaults and checks.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Pipeline> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Error::config("the pipeline file is not UTF-8 text").file(path),
            _ => Error::io(&e, "cannot read the pipeline file", path),
        })?;
        let root = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Pipeline::parse(&text, &root, overrides, &|name| std::env::var(name).ok()).map_err(|e| e.file(path))
    }

    fn parse(text: &str, root: &Path, overrides: &[String], environment: &dyn Fn(&str) -> Option<String>) -> Result<Pipeline> {
        let mut user: Table = text.parse().map_err(|e: toml::de::Error| Error::config(format!("not valid TOML: {}", e.message())))?;
        for pair in overrides {
            set(&mut user, pair)?;
        }
        let defaults: Table = DEFAULTS.parse().map_err(|e| Error::bug(format!("pipelines/defaults.toml: {e}")))?;
        let mut known: Vec<String> = WITHOUT_DEFAULT.iter().map(|s| s.to_string()).collect();
        list_keys(&defaults, "", &mut known);
        refuse_unknown(&user, "", &known)?;
        expand(&mut user, "", environment)?;
        let merged = Value::Table(overlay(defaults, user));
        let mut pipeline: Pipeline = serde_path_to_error::deserialize(merged).map_err(|e| {
            let path = e.path().to_string();
            Error::config(e.inner().message().to_string()).with("key", path)
        })?;
        pipeline.root = root.to_path_buf();
        pipeline.check()?;
        Ok(pipeline)
    }

    /// A path that the pipeline file names.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn output_path(&self) -> PathBuf {
        self.resolve(&self.output.path)
    }

    fn check(&self) -> Result<()> {
        let bad = |key: &'static str, value: &dyn std::fmt::Display, wanted: &str| Err(Error::config(wanted).with("key", key).value(value));
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !plain(&self.name) || self.name.len() > 100 {
            return bad("name", &self.name, "a name is 1 to 100 of a-z, 0-9, - and _");
        }
        if self.classes.len() < 2 || self.classes.len() > 1000 {
            return bad("classes", &self.classes.len(), "between 2 and 1000 classes are needed");
        }
        for (i, class) in self.classes.iter().enumerate() {
            if class.is_empty() || class.contains('\0') {
                return bad("classes", &format!("{class:?}"), "a class needs a name without NUL");
            }
            if self.classes[..i].contains(class) {
                return bad("classes", class, "this class stands twice");
            }
        }
        if self.teachers.len() < 2 {
            return Err(Error::config(format!("at least two teachers are needed, the pipeline names {}", self.teachers.len()))
                .with("key", "teachers"));
        }
        self.check_shares()?;
        self.check_abstain()?;
        let share = |key: &'static str, v: f64, low: f64, high: f64| match (low..=high).contains(&v) {
            true => Ok(()),
            false => Err(Error::config(format!("must lie between {low} and {high}")).with("key", key).value(v)),
        };
        share("student.held_out_share", self.student.held_out_share, 0.01, 0.5)?;
        share("student.min_agreement", self.student.min_agreement, 0.0, 1.0)?;
        share("student.max_kl", self.student.max_kl, 0.0, f64::MAX)?;
        share("student.max_training_rows", self.student.max_training_rows as f64, 100.0, 1e9)?;
        let [low, high] = self.gates.volume;
        if !(0.0 <= low && low <= high) {
            return bad("gates.volume", &format!("[{low}, {high}]"), "a least and a greatest multiple are needed, [LEAST, MOST]");
        }
        share("gates.shares", self.gates.shares, 0.0, f64::MAX)?;
        for key in &self.output.partition_by {
            if !["class", "decision"].contains(&key.as_str()) {
                return bad("output.partition_by", key, "the table can be partitioned by \"class\" and \"decision\"");
            }
        }
        if self.output.format != "parquet" {
            return bad("output.format", &self.output.format, "this build writes \"parquet\"");
        }
        Ok(())
    }

    fn check_abstain(&self) -> Result<()> {
        let known = |class: &String, key: String| match self.classes.contains(class) {
            true => Ok(()),
            false => Err(Error::config("fuse.costs names a class that is not in classes").with("key", key).value(class)),
        };
        for (is, costs) in self.fuse.costs.iter().flatten() {
            known(is, "fuse.costs".to_string())?;
            for (decided, cost) in costs {
                let key = format!("fuse.costs.{is}");
                known(decided, key.clone())?;
                if !(0.0..f64::INFINITY).contains(cost) {
                    return Err(Error::config("a cost is a finite number and not negative")
                        .with("key", format!("{key}.{decided}"))
                        .value(cost));
                }
            }
        }
        let Abstain { cost, min_support, max_disagreement } = &self.fuse.abstain;
        let limits = [
            ("fuse.abstain.cost", cost, 0.0),
            ("fuse.abstain.min_support", min_support, f64::MIN),
            ("fuse.abstain.max_disagreement", max_disagreement, 0.0),
        ];
        for (key, value, least) in limits {
            if let Some(value) = value.filter(|v| !(least..f64::INFINITY).contains(v)) {
                let wanted = if least == 0.0 { "a finite number, not negative, is expected" } else { "a finite number is expected" };
                return Err(Error::config(wanted).with("key", key).value(value));
            }
        }
        Ok(())
    }

    /// How classes are decided, and when they are not.
    pub fn rule(&self) -> Rule {
        let of = |is: &String, decided: &String| {
            let named = self.fuse.costs.iter().flatten().find(|(c, _)| *c == is).and_then(|(_, row)| row.get(decided));
            named.copied().unwrap_or(if is == decided { 0.0 } else { 1.0 })
        };
        let matrix = || self.classes.iter().flat_map(|is| self.classes.iter().map(move |decided| of(is, decided))).collect();
        let Abstain { cost, min_support, max_disagreement } = self.fuse.abstain;
        Rule { costs: self.fuse.costs.is_some().then(matrix), abstain_cost: cost, min_support, max_disagreement }
    }

    fn check_shares(&self) -> Result<()> {
        let Some(shares) = &self.target.class_shares else { return Ok(()) };
        let mut least = 0.0;
        for (class, share) in shares {
            let (low, high) = share.range();
            if !self.classes.contains(class) {
                return Err(Error::config("class_shares names a class that is not in classes")
                    .with("key", "target.class_shares")
                    .value(class));
            }
            if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
                return Err(Error::config("a share lies between 0 and 1, a range goes from low to high")
                    .with("key", format!("target.class_shares.{class}"))
                    .value(format!("[{low}, {high}]")));
            }
            least += low;
        }
        let all = shares.len() == self.classes.len();
        let most: f64 = shares.values().map(|s| s.range().1).sum();
        if least > 1.0 + 1e-3 || (all && most < 1.0 - 1e-3) {
            return Err(Error::config("the class shares cannot sum to 1").with("key", "target.class_shares").value(least));
        }
        Ok(())
    }
}

/// Applies `key.path=value`; the value is TOML, and what is not TOML is a string.
fn set(table: &mut Table, pair: &str) -> Result<()> {
    let refuse = |why: &str| Error::new(crate::error::Kind::Usage, why).with("argument", format!("--set {pair}"));
    let (path, text) = pair.split_once('=').ok_or_else(|| refuse("--set takes key.path=value"))?;
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let (parents, last) = path.trim().rsplit_once('.').map_or((None, path.trim()), |(p, l)| (Some(p), l));
    let mut place = table;
    for name in parents.into_iter().flat_map(|p| p.split('.')) {
        let next = place.entry(name).or_insert_with(|| Value::Table(Table::new()));
        place = next.as_table_mut().ok_or_else(|| refuse("--set reaches into a key that is not a table"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

fn list_keys(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => list_keys(inner, &format!("{prefix}{key}."), out),
            _ => out.push(format!("{prefix}{key}")),
        }
    }
}

/// Every key of the user's file must be known; the error names the nearest known one.
fn refuse_unknown(table: &Table, prefix: &str, known: &[String]) -> Result<()> {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        if FREE.contains(&path.as_str()) {
            continue;
        }
        let inside = format!("{path}.");
        let is_table = known.iter().any(|k| k.starts_with(&inside));
        match value {
            Value::Table(inner) if is_table => refuse_unknown(inner, &inside, known)?,
            Value::Array(items) if is_table => {
                for item in items {
                    let inner =
                        item.as_table().ok_or_else(|| Error::config("a table is expected here").with("key", path.clone()).value(item))?;
                    refuse_unknown(inner, &inside, known)?;
                }
            }
            _ if known.contains(&path) => {}
            _ => {
                let nearest = nearest(known.iter().map(String::as_str), &path);
                let error = Error::config("unknown key").with("key", path);
                return Err(match nearest {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

/// Replaces `${NAME}` in every string by the environment variable.
fn expand(table: &mut Table, prefix: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    fn walk(value: &mut Value, path: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        match value {
            Value::String(text) => {
                let mut out = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, tail) = after.split_once('}').ok_or_else(|| Error::config("${ without }").with("key", path))?;
                    let found =
                        environment(name).ok_or_else(|| Error::config("environment variable is not set").with("key", path).value(name))?;
                    crate::run::events::hide(name, &found);
                    out.push_str(before);
                    out.push_str(&found);
                    rest = tail;
                }
                out.push_str(rest);
                *text = out;
            }
            Value::Array(items) => items.iter_mut().try_for_each(|v| walk(v, path, environment))?,
            Value::Table(inner) => expand(inner, &format!("{path}."), environment)?,
            _ => {}
        }
        Ok(())
    }
    table.iter_mut().try_for_each(|(key, value)| walk(value, &format!("{prefix}{key}"), environment))
}

fn overlay(mut base: Table, top: Table) -> Table {
    for (key, value) in top {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => *below = overlay(std::mem::take(below), above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "demo"
        classes = ["no", "yes"]
        [target]
        accounts = "lake/${WHERE}"
        id = "account_id"
        [[teachers]]
        bundle = "a"
        [[teachers]]
        bundle = "b"
        classes = { rejected = "no" }
        [output]
        path = "out"
    "#;

    fn parse(text: &str, overrides: &[&str]) -> Result<Pipeline> {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Pipeline::parse(text, Path::new("base"), &overrides, &|name| (name == "WHERE").then(|| "here".to_string()))
    }

    #[test]
    fn defaults_fill_what_the_file_leaves_out_and_the_environment_is_expanded() {
        let p = parse(GOOD, &[]).unwrap();
        assert_eq!(p.target.accounts, "lake/here");
        assert_eq!(p.student.max_training_rows, 200_000);
        assert_eq!(p.resolve("x"), Path::new("base/x"));
    }

    #[test]
    fn an_override_is_toml_or_else_a_string() {
        let p = parse(GOOD, &["student.seed=7", "target.labels=few.parquet", "target.class_shares={ yes = [0.1, 0.2] }"]).unwrap();
        assert_eq!(p.student.seed, 7);
        assert_eq!(p.target.labels.as_deref(), Some("few.parquet"));
        assert_eq!(p.target.class_shares.unwrap()["yes"], Share::Range([0.1, 0.2]));
    }

    #[test]
    fn each_refusal_names_the_key() {
        let cases: &[(&str, &str)] = &[
            ("studnt.seed=7", "did you mean student.seed?"),
            ("student.sed=7", "did you mean student.seed?"),
            ("student.seed=-1", "key: student.seed"),
            ("student.family=\"oak\"", "key: student.family"),
            ("student.min_agreement=1.5", "key: student.min_agreement"),
            ("gates.volume=[2, 1]", "key: gates.volume"),
            ("gates.shares=-1", "key: gates.shares"),
            ("gates.rows=\"maybe\"", "key: gates.rows"),
            ("target.class_shares={ maybe = 0.1 }", "value: maybe"),
            ("target.class_shares={ yes = 1.1 }", "key: target.class_shares.yes"),
            ("target.class_shares={ yes = 0.2, no = 0.2 }", "cannot sum to 1"),
            ("target.accounts=\"${NOWHERE}\"", "NOWHERE"),
            ("name=\"No Good\"", "key: name"),
            ("classes=[\"a\", \"a\"]", "stands twice"),
            ("output.partition_by=[\"id\"]", "key: output.partition_by"),
            ("output.format=\"csv\"", "key: output.format"),
            ("teachers=[]", "at least two teachers"),
            ("fuse.costs={ maybe = { yes = 1.0 } }", "value: maybe"),
            ("fuse.costs={ yes = { maybe = 1.0 } }", "key: fuse.costs.yes; value: maybe"),
            ("fuse.costs={ yes = { no = -1 } }", "key: fuse.costs.yes.no; value: -1"),
            ("fuse.costs={ yes = 3 }", "key: fuse.costs.yes"),
            ("fuse.abstain.cost=-0.5", "key: fuse.abstain.cost; value: -0.5"),
            ("fuse.abstain.cost=nan", "key: fuse.abstain.cost; value: NaN"),
            ("fuse.abstain.min_support=inf", "key: fuse.abstain.min_support; value: inf"),
            ("fuse.abstain.max_disagreement=-1", "key: fuse.abstain.max_disagreement; value: -1"),
            ("fuse.abstain.costs=1", "did you mean fuse.abstain.cost?"),
        ];
        for (pair, wanted) in cases {
            let error = parse(GOOD, &[pair]).unwrap_err();
            assert!(error.to_string().contains(wanted), "{pair}: {error}");
            assert_eq!(error.kind(), crate::error::Kind::Config, "{pair}");
        }
    }
}
