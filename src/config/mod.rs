//! The pipeline file: from TOML as typed to a [`Pipeline`] as meant.
//!
//! In: the file, `--set key.path=value` overrides, `${NAME}` from the environment, and
//! `pipelines/defaults.toml` beneath it all. Out: checked values; no later stage validates them again. Every
//! refusal is exit 78 and names `section.key`.

mod check;
pub mod defaults;
mod layers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lake::catalog;
use crate::lake::location::Location;
use crate::lake::store::digest;
use crate::lake::table::Pin;
use crate::lake::tables::{Format, Tables};
use crate::relevance::fusion::decision::Rule;

/// A checked pipeline. Paths are resolved against the file that named them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Names the runs; of a-z, 0-9, - and _.
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,100}$"))]
    pub name: String,
    /// The target's classes, in the order of every `p_<class>` column.
    #[schemars(length(min = 2, max = 1000))]
    pub classes: Vec<String>,
    pub target: Target,
    /// Two or more classifiers of related scenarios.
    #[schemars(length(min = 2))]
    pub teachers: Vec<TeacherRef>,
    pub relevance: RelevanceSettings,
    pub fuse: FuseSettings,
    pub student: StudentSettings,
    /// Decides whether tables are published and nothing of what they hold: not part of the run's identity.
    #[serde(skip_serializing)]
    pub gates: GateSettings,
    pub output: Output,
    /// Catalogs of Iceberg tables, by the names that `iceberg://NAME/NAMESPACE.TABLE` and `output.catalog` use. They say
    /// where tables are and hold credentials: not part of the run's identity.
    #[serde(default, rename = "catalog", skip_serializing)]
    pub catalogs: BTreeMap<String, catalog::Settings>,
    /// Names of environment variables whose values are never written down, beside those whose names say so.
    #[serde(default, skip_serializing)]
    pub secrets: Vec<String>,
    /// Directory of the pipeline file; not part of the file and not of the run's identity.
    #[serde(skip)]
    pub root: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The accounts to classify: a Parquet file, a glob, a hive-partitioned directory, a Delta table, or an Iceberg
    /// table, `iceberg://CATALOG/NAMESPACE.TABLE`.
    pub accounts: String,
    /// The column that names an account: unique, not null; whole numbers or text.
    pub id: String,
    /// Which rows are the target, an SQL condition: `"status = 'open'"`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// What you know of the base rate: `{ fraud = 0.11 }`, or a range, `{ fraud = [0.08, 0.15] }`.
    pub class_shares: Option<BTreeMap<String, Share>>,
    /// Labelled accounts of the target: the id and `label`, as Parquet or CSV; rows with an empty label are left out.
    pub labels: Option<String>,
    /// Of a lakehouse table: the version that is read; the newest without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Of a lakehouse table: the version is that of this time, such as `"2026-08-31T00:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    pub non_finite: NonFinite,
    pub dedupe: Dedupe,
    /// By how much the share of values that a teacher knows may fall below that in its history.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub known_fall: f64,
    pub lost_columns: OnLost,
}

impl Target {
    /// Which version of a table is read. Refused (78): a time that is none, or a version and a time.
    pub fn pin(&self) -> Result<Pin> {
        let refuse =
            |why: &str, value: &str| Err(Error::config(why).with("key", "target.as_of").value(value));
        let as_of = match &self.as_of {
            None => None,
            Some(text) if self.version.is_some() => {
                return refuse("a version or a time chooses what is read, not both", text);
            }
            Some(text) => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(time) => Some(time.to_utc()),
                Err(_) => return refuse("a time is written as 2026-08-31T00:00:00Z", text),
            },
        };
        Ok(Pin { version: self.version, as_of })
    }
}

/// What the user knows of a class's share: a number or the range that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    Reject,
    AsNull,
}

/// What a column does whose values teachers know no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    Warn,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedupe {
    Error,
    First,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherRef {
    /// A directory with a `teacher.toml`.
    pub bundle: String,
    /// This teacher's classes -> the target's, where they have other names: `{ rejected = "no" }`.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelevanceSettings {
    pub min_training_rows: u64,
    pub min_class_rows: u64,
    /// A file that `coldstart relevance train` wrote.
    pub calculator: Option<String>,
    pub pooled: PooledTeacher,
}

/// Whether the job trains a teacher of its own on the rows of all histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PooledTeacher {
    // where at least two histories give rows
    Auto,
    Off,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FuseSettings {
    pub method: Method,
    /// True class -> decided class -> cost; what is not named costs 0 when right and 1 when wrong.
    pub costs: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    #[serde(default)]
    pub abstain: Abstain,
}

/// When an account is left undecided; never, where nothing is said.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Abstain {
    pub cost: Option<f64>,
    pub min_support: Option<f64>,
    pub max_disagreement: Option<f64>,
}

/// How the teachers' scores become one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Aligned,
    Reference,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StudentSettings {
    pub family: crate::student::Family,
    pub max_training_rows: u64,
    #[schemars(range(min = 0.01, max = 0.5))]
    pub held_out_share: f64,
    pub seed: u64,
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_agreement: f64,
    pub max_kl: f64,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    PublishFused,
    Fail,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnGate {
    Fail,
    Warn,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// A directory: the tables appear below it.
    pub path: String,
    pub partition_by: Vec<String>,
    pub format: String,
    /// Of Iceberg tables: the catalog in which they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// Of Iceberg tables: the namespace in which they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Parquet in an object store, where nothing makes the files of a date appear together.
    #[serde(skip_serializing)]
    pub not_atomic: bool,
}

/// What to do with something that is no pipeline file.
fn in_place_of(path: &Path) -> String {
    if path.join("teacher.toml").exists() || path.ends_with("teacher.toml") {
        return "this is a teacher's bundle: name the pipeline file that uses it".to_string();
    }
    let inside = || {
        std::fs::read_dir(path)
            .ok()?
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .min()
    };
    match inside() {
        Some(file) => format!("name the file: {}", file.display()),
        None => "name a TOML file with [target], [[teachers]] and [output]; `coldstart new` writes one"
            .to_string(),
    }
}

impl Pipeline {
    /// Reads, overrides, fills in the defaults and checks.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Pipeline> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::IsADirectory => {
                Error::config("this is a directory, a pipeline is a TOML file")
                    .file(path)
                    .hint(in_place_of(path))
            }
            std::io::ErrorKind::InvalidData => {
                Error::config("the pipeline file is not UTF-8 text").file(path).hint(in_place_of(path))
            }
            _ => Error::io(&e, "cannot read the pipeline file", path),
        })?;
        let root = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let known = path.ends_with("teacher.toml")
            || path.extension().is_some_and(|e| {
                ["csv", "parquet", "json", "yaml", "yml"].iter().any(|other| e.eq_ignore_ascii_case(other))
            });
        let parsed = Pipeline::parse(&text, &root, overrides, &|name| std::env::var(name).ok());
        parsed.map_err(|e| if known { e.file(path).hint(in_place_of(path)) } else { e.file(path) })
    }

    /// As [`Pipeline::read`], from a text whose paths are relative to `root`.
    pub fn parse(
        text: &str,
        root: &Path,
        overrides: &[String],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Pipeline> {
        let merged = layers::merge(text, overrides, environment)?;
        let mut pipeline: Pipeline = serde_path_to_error::deserialize(merged).map_err(|e| {
            let path = e.path().to_string();
            Error::config(e.inner().message().to_string()).with("key", path)
        })?;
        pipeline.root = root.to_path_buf();
        pipeline.check()?;
        pipeline.catalogs.iter().for_each(|(name, settings)| catalog::know(name, settings, root));
        Ok(pipeline)
    }

    /// A path that the pipeline file names, or the URI of an object store in its place.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let place = Location::parse(path, &self.root);
        place.map_or_else(|_| self.root.join(path), |place| place.shown().to_path_buf())
    }

    /// The classes that become names of folders; none where the table is not partitioned by them.
    pub fn class_folders(&self) -> impl Iterator<Item = &String> {
        let by_class = self.output.partition_by.iter().any(|key| key == "class");
        self.classes.iter().filter(move |_| by_class)
    }

    /// The directory of this machine in which run directories stand: the output's, or where that is an object
    /// store a scratch directory that is its alone, below `COLDSTART_SCRATCH` or the system's temporary one.
    pub fn output_path(&self) -> PathBuf {
        let path = self.resolve(&self.output.path);
        match Location::from(path.as_path()) {
            Location::Path(path) => path,
            Location::Object(uri) | Location::Table(uri) => {
                let scratch = std::env::var_os("COLDSTART_SCRATCH");
                let below = scratch.map_or_else(std::env::temp_dir, PathBuf::from);
                below.join(format!("coldstart-{}", &digest::text(&uri)[..16]))
            }
        }
    }

    /// The pipeline with the target's table at this version; unchanged without one.
    pub fn at_version(&self, version: Option<u64>) -> Pipeline {
        let mut pinned = self.clone();
        if version.is_some() {
            (pinned.target.version, pinned.target.as_of) = (version, None);
        }
        pinned
    }

    /// The published tables.
    pub fn tables(&self) -> Tables {
        let format = match self.output.format.as_str() {
            "delta" => Format::Delta,
            "iceberg" => Format::Iceberg,
            _ => Format::Parquet,
        };
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let space = format!("iceberg://{}/{}", name(&self.output.catalog), name(&self.output.namespace));
        Tables { output: Location::from(self.resolve(&self.output.path).as_path()), format, space }
    }

    /// Whether a pooled teacher is asked for; the reference method has none.
    pub fn wants_pooled(&self) -> bool {
        self.relevance.pooled == PooledTeacher::Auto && self.fuse.method == Method::Aligned
    }

    /// How classes are decided, and when they are not.
    pub fn rule(&self) -> Rule {
        let of = |is: &String, decided: &String| {
            let named = self
                .fuse
                .costs
                .iter()
                .flatten()
                .find(|(c, _)| *c == is)
                .and_then(|(_, row)| row.get(decided));
            named.copied().unwrap_or(if is == decided { 0.0 } else { 1.0 })
        };
        let matrix = || {
            self.classes
                .iter()
                .flat_map(|is| self.classes.iter().map(move |decided| of(is, decided)))
                .collect()
        };
        let Abstain { cost, min_support, max_disagreement } = self.fuse.abstain;
        Rule {
            costs: self.fuse.costs.is_some().then(matrix),
            abstain_cost: cost,
            min_support,
            max_disagreement,
        }
    }
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
        Pipeline::parse(text, Path::new("base"), &overrides, &|name| {
            (name == "WHERE").then(|| "here".to_string())
        })
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
        let p = parse(
            GOOD,
            &["student.seed=7", "target.labels=few.parquet", "target.class_shares={ yes = [0.1, 0.2] }"],
        )
        .unwrap();
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
            ("output.format=\"iceberg\"", "key: output.catalog"),
            ("output.catalog=\"lake\"", "key: output.catalog"),
            ("target.accounts=\"iceberg://lake/a.b\"", "key: target.accounts"),
            ("target.accounts=\"iceberg://lake\"", "key: target.accounts"),
            ("catalog.lake={ type = \"glue\", uri = \"x\" }", "key: catalog.lake.type; value: glue"),
            ("catalog.lake={ type = \"sql\", uri = \"postgresql://x\" }", "key: catalog.lake.uri"),
            ("catalog.lake={ type = \"rest\", url = \"http://x\" }", "key: catalog.lake"),
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
