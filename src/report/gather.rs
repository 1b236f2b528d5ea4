//! From the published tables and the records of a run to a [`Report`]: nothing is scored, and no account's row is read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Pipeline;
use crate::drift::sketches::ScoreSketches;
use crate::error::{Error, Kind, Result};
use crate::job::published::{self, Published};
use crate::job::{kept, remote};
use crate::lake::input;
use crate::lake::store::Real;
use crate::lake::store::files::read_json;
use crate::lake::tables::Tables;
use crate::report::data::*;
use crate::report::rows::{columns, curves, histogram, moved, said, truth, worth};
use crate::report::table::Table;
use crate::report::verdict::Facts;
use crate::run::directory::{Directory, PUBLISHED};
use crate::stages::artifacts::{COUNTED_PROFILE, Profile, SCORE_SKETCHES};

/// What `coldstart evaluate` found, in a run directory.
pub const EVALUATION: &str = "evaluation.json";

/// Rows of the heat map, pictures of features, lines over dates, rows of importances and columns with gaps.
const FEATURES: usize = 15;
const HISTOGRAMS: usize = 4;
const LINES: usize = 4;
const IMPORTANCES: usize = 10;
const COLUMNS: usize = 12;
/// Dates, at most, that lines go back.
const DATES: usize = 60;
/// Population stability index beyond which a feature is another one, by the convention of credit scoring.
const MUCH: f64 = 0.25;

/// The parts of each date of a table.
type Parts = BTreeMap<String, Vec<PathBuf>>;

/// A published date: where its tables and records lie.
pub struct Source<'a> {
    pipeline: &'a Pipeline,
    date: &'a str,
    tables: Tables,
    /// What was looked up: the parts of each date of a table.
    parts: RefCell<BTreeMap<String, Parts>>,
    root: PathBuf,
    published: Published,
}

impl<'a> Source<'a> {
    /// Nothing published for the date: 66.
    pub fn open(pipeline: &'a Pipeline, date: &'a str) -> Result<Source<'a>> {
        remote::fetch_record(pipeline, date, &Real)?;
        let root = Directory::place(&pipeline.output_path(), &pipeline.name, date);
        let record = root.join(PUBLISHED);
        if !record.exists() {
            return Err(Error::new(Kind::Missing, "nothing was published for this date")
                .file(&record)
                .with("date", date)
                .hint(format!("coldstart run PIPELINE --date {date} comes first")));
        }
        let published = read_json(&Real, &record)?;
        Ok(Source { pipeline, date, tables: pipeline.tables(), parts: RefCell::default(), root, published })
    }

    /// The run directory, in which the page is kept.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn table(&self, name: &str) -> Result<Table> {
        self.table_of(name, self.date)
    }

    fn table_of(&self, name: &str, date: &str) -> Result<Table> {
        let mut found = self.parts.borrow_mut();
        if !found.contains_key(name) {
            found.insert(name.to_string(), self.tables.dates(name)?);
        }
        Table::read(found[name].get(date).map_or(&[], Vec::as_slice))
    }

    /// A record of the run; none where an older version did not keep it.
    fn record<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        read_json(&Real, &self.root.join(file)).ok()
    }

    pub fn report(&self) -> Result<Report> {
        let verdict = self.table("relevance_verdict")?;
        let truth: Option<Truth> =
            self.record::<Value>(EVALUATION).as_ref().and_then(|v| truth(v, &self.pipeline.classes));
        let scores: ScoreSketches =
            SCORE_SKETCHES.load_from(&Real, &kept::place(&self.root)).unwrap_or_default();
        let classes = self.classes(&scores, truth.as_ref())?;
        let profile = self.profile();
        let teachers = self.teachers(&verdict)?;
        let names: Vec<String> = teachers.iter().map(|t| t.name.clone()).collect();
        let features = self.features(&names, profile.as_ref())?;
        let drift = self.drift()?;
        let trust = self.trust(&verdict, &scores)?;
        let worth = worth(&verdict);
        let metrics: Value = self.record("metrics.json").unwrap_or_default();
        let number = |name: &str| verdict.number(name).unwrap_or(0.0) as usize;
        let distrust = verdict.text("distrust");
        let moved =
            drift.since_previous.iter().filter(|m| m.psi > MUCH).max_by(|a, b| a.psi.total_cmp(&b.psi));
        let facts = Facts {
            accounts: self.published.rows,
            undecided: self.published.abstained.values().sum(),
            classes: &classes.now,
            accuracy: trust.accuracy,
            trials: number("rehearsals"),
            harmed: number("harmed"),
            irrelevant: self.published.verdict.iter().any(|s| s.contains("the labels are a guess")),
            distrust: distrust.as_deref(),
            worth: &worth,
            truth: truth.as_ref(),
            moved: moved.map(|m| m.name.as_str()),
            detail: self.published.verdict.clone(),
        };
        let verdict = facts.verdict();
        Ok(Report {
            pipeline: self.pipeline.name.clone(),
            date: self.date.to_string(),
            run: self.published.key.chars().take(12).collect(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            accounts: self.published.rows,
            verdict,
            classes,
            agreement: (scores.teachers.len() > 1).then(|| Agreement {
                teachers: scores.teachers.clone(),
                shares: scores.agreement.clone(),
                accounts: scores.accounts,
            }),
            teachers,
            features,
            drift,
            trust,
            student: self.student()?,
            worth,
            data: self.data(&metrics, profile.as_ref())?,
            truth,
        })
    }

    /// The features on common bins, as the labels were made with them.
    fn profile(&self) -> Option<Profile> {
        COUNTED_PROFILE.load_from(&Real, &kept::place(&self.root)).ok()
    }

    /// Dates up to this one for which the pipeline's tables stand, ascending: the last of them, and the first of all.
    fn dates(&self) -> Result<Vec<String>> {
        let mut dates = published::dates(&Real, self.pipeline, self.date)?;
        dates.push(self.date.to_string());
        let far = dates.len().saturating_sub(DATES);
        if far > 0 {
            dates.drain(1..=far);
        }
        Ok(dates)
    }

    fn classes(&self, scores: &ScoreSketches, truth: Option<&Truth>) -> Result<Classes> {
        let dates = self.dates()?;
        let mut shares: BTreeMap<(String, usize), f64> = BTreeMap::new();
        for (d, date) in dates.iter().enumerate() {
            let table = self.table_of("class_shares", date)?;
            for (class, share) in table.texts("class").into_iter().zip(table.numbers("share")) {
                if let (Some(class), Some(share)) = (class, share) {
                    shares.insert((class, d), share);
                }
            }
        }
        let counted = &self.published.classes;
        let all = counted.values().sum::<u64>().max(1) as f64;
        let told = self.pipeline.target.class_shares.as_ref();
        let now = self.pipeline.classes.iter().enumerate().map(|(c, class)| {
            let accounts = counted.get(class).copied().unwrap_or(0);
            ClassShare {
                accounts,
                share: accounts as f64 / all,
                expected: scores.expected.get(c).copied(),
                known: told.and_then(|t| t.get(class)).map(|s| [s.range().0, s.range().1]),
                truth: truth.and_then(|t| t.classes.iter().find(|of| of.class == *class)).map(|of| of.share),
                over_dates: (0..dates.len()).map(|d| shares.get(&(class.clone(), d)).copied()).collect(),
                class: class.clone(),
            }
        });
        let undecided = self.published.abstained.iter().map(|(reason, n)| (reason.clone(), *n)).collect();
        Ok(Classes { now: now.collect(), dates, undecided })
    }

    fn teachers(&self, verdict: &Table) -> Result<Vec<Teacher>> {
        let (table, drops) = (self.table("relevance")?, self.table("relevance_drop_one")?);
        let distrust = verdict.text("distrust");
        let names = table.texts("teacher");
        let scenarios = table.texts("scenario");
        let shifted = table.texts("most_shifted");
        let column = |name: &str| table.numbers(name);
        let (rows, weights, js, psi) =
            (column("training_rows"), column("weight"), column("js"), column("psi"));
        let (areas, own, foreign) = (column("domain_auc"), column("own_loss"), column("foreign_loss"));
        let dropped = drops.texts("teacher");
        let (same, change, changes) =
            (drops.texts("same_as"), drops.numbers("loss_change"), drops.numbers("class_changes"));
        let teachers = names.iter().enumerate().filter_map(|(i, name)| {
            let name = name.clone()?;
            let drop = dropped.iter().position(|d| d.as_ref() == Some(&name));
            Some(Teacher {
                scenario: scenarios[i].clone().unwrap_or_default(),
                training_rows: rows[i].unwrap_or(0.0) as u64,
                weight: weights[i].unwrap_or(0.0),
                js: js[i],
                psi: psi[i],
                domain_auc: areas[i],
                own_loss: own[i],
                foreign_loss: foreign[i],
                loss_change: drop.and_then(|d| change[d]),
                class_changes: drop.and_then(|d| changes[d]),
                most_shifted: shifted[i].clone(),
                same_as: drop.and_then(|d| same[d].clone()),
                pooled: name == "pooled",
                distrusted: distrust.as_ref() == Some(&name),
                name,
            })
        });
        let mut teachers: Vec<Teacher> = teachers.collect();
        // a teacher that repeats another was never asked and has no row among those that were
        for (d, name) in dropped.iter().enumerate() {
            if let (Some(name), Some(same_as)) = (name, &same[d])
                && !teachers.iter().any(|t| t.name == *name)
            {
                teachers.push(Teacher {
                    name: name.clone(),
                    same_as: Some(same_as.clone()),
                    ..Teacher::default()
                });
            }
        }
        Ok(teachers)
    }

    fn features(&self, teachers: &[String], profile: Option<&Profile>) -> Result<Features> {
        let table = self.table("relevance_features")?;
        let (names, features, js) = (table.texts("teacher"), table.texts("feature"), table.numbers("js"));
        let with: Vec<String> =
            teachers.iter().filter(|t| names.iter().any(|n| n.as_ref() == Some(t))).cloned().collect();
        let mut rows: Vec<Feature> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for ((name, feature), js) in names.iter().zip(&features).zip(&js) {
            let (Some(name), Some(feature)) = (name, feature) else { continue };
            let place = *places.entry(feature).or_insert_with(|| {
                rows.push(Feature { name: feature.clone(), js: vec![None; with.len()], mean: 0.0 });
                rows.len() - 1
            });
            if let Some(k) = with.iter().position(|t| t == name) {
                rows[place].js[k] = *js;
            }
        }
        for row in &mut rows {
            let known: Vec<f64> = row.js.iter().flatten().copied().collect();
            row.mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        }
        rows.sort_by(|a, b| b.mean.total_cmp(&a.mean).then_with(|| a.name.cmp(&b.name)));
        let more = rows.len().saturating_sub(FEATURES);
        rows.truncate(FEATURES);
        let histograms = rows
            .iter()
            .take(HISTOGRAMS)
            .filter_map(|row| histogram(row, &with, teachers, profile?))
            .collect();
        Ok(Features { teachers: with, rows, more, histograms })
    }

    fn drift(&self) -> Result<Drift> {
        let dates = self.dates()?;
        let mut features: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        let mut scores = features.clone();
        let (mut first, mut previous, mut since_previous) = (None, None, Vec::new());
        for (d, date) in dates.iter().enumerate() {
            for (table, named, lines) in
                [("feature_drift", "feature", &mut features), ("score_drift", "score", &mut scores)]
            {
                let table = self.table_of(table, date)?;
                let (names, against) = (table.texts(named), table.texts("against"));
                for ((name, against), js) in names.iter().zip(&against).zip(table.numbers("js")) {
                    if let (Some(name), Some("first"), Some(js)) = (name, against.as_deref(), js) {
                        // of a score with several classes the one that moved most
                        let value =
                            &mut lines.entry(name.clone()).or_insert_with(|| vec![None; dates.len()])[d];
                        *value = Some(value.map_or(js, |v| v.max(js)));
                    }
                }
            }
            if *date == self.date {
                let table = self.table_of("feature_drift", date)?;
                let against = table.texts("against");
                let dates_of = table.texts("against_date");
                let of = |which: &str| {
                    against.iter().position(|a| a.as_deref() == Some(which)).and_then(|i| dates_of[i].clone())
                };
                (first, previous) = (of("first"), of("previous"));
                since_previous = moved(&table);
            }
        }
        let lines = |of: BTreeMap<String, Vec<Option<f64>>>| {
            let mut lines: Vec<Line> = of.into_iter().map(|(name, values)| Line { name, values }).collect();
            let last = |line: &Line| line.values.last().copied().flatten().unwrap_or(-1.0);
            lines.sort_by(|a, b| last(b).total_cmp(&last(a)).then_with(|| a.name.cmp(&b.name)));
            lines.truncate(LINES);
            lines
        };
        Ok(Drift { first, previous, features: lines(features), scores: lines(scores), dates, since_previous })
    }

    fn trust(&self, verdict: &Table, scores: &ScoreSketches) -> Result<Trust> {
        let estimate = |name: &str| {
            let of = |what: &str| verdict.number(&format!("{name}{what}"));
            Some(Estimate { value: of("")?, error: of("_error")?, low: of("_low")?, high: of("_high")? })
        };
        let table = self.table("relevance_rehearsal")?;
        let kind =
            if verdict.number("aligned_change").is_some() && self.aligned() { "aligned" } else { "default" };
        let (rows, uniform, js) = (table.numbers("rows"), table.numbers("uniform"), table.numbers("js"));
        let (said, was, label) = (
            table.numbers(&format!("{kind}_confidence")),
            table.numbers(&format!("{kind}_accuracy")),
            table.numbers(kind),
        );
        let trials = table.texts("history").into_iter().enumerate().filter_map(|(i, history)| {
            Some(Trial {
                history: history?,
                rows: rows[i]? as u64,
                said: said[i]?,
                was: was[i]?,
                uniform: uniform[i]?,
                by_distance: js[i]?,
                label: label[i]?,
            })
        });
        Ok(Trust {
            accuracy: estimate("accuracy"),
            log_loss: estimate("log_loss"),
            trials: trials.collect(),
            reliability: scores
                .reliability
                .iter()
                .map(|r| Reliability { said: r.said, was: r.was, weight: r.weight })
                .collect(),
            coverage: curves(&self.table("risk_coverage")?),
        })
    }

    fn aligned(&self) -> bool {
        self.pipeline.fuse.method == crate::config::Method::Aligned
    }

    fn student(&self) -> Result<Student> {
        let place = self.tables.partition("student", self.date).join("fidelity.json");
        let fit: Value = serde_json::from_slice(&input::read(&place)?)
            .map_err(|e| Error::data(format!("damaged: {e}")).file(place.shown()))?;
        let of = |name: &str| fit["fidelity"][name].as_f64().unwrap_or(f64::NAN);
        let named = |pair: &Value| Some((pair[0].as_str()?.to_string(), pair[1].as_f64()?));
        let mut importances: Vec<(String, f64)> =
            fit["importances"].as_array().into_iter().flatten().filter_map(named).collect();
        importances.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        importances.truncate(IMPORTANCES);
        Ok(Student {
            family: fit["family"].as_str().unwrap_or_default().to_string(),
            agreement: of("agreement"),
            kl: of("kl"),
            calibration: of("calibration"),
            rank_correlation: of("rank_correlation"),
            rows: fit["rows"].as_u64().unwrap_or(0),
            held_out: fit["held_out_rows"].as_u64().unwrap_or(0),
            passed: fit["passed"].as_bool().unwrap_or(true),
            importances,
        })
    }

    /// How much of each feature the teacher who knows least of it does not know.
    fn known(&self, columns: &mut [ColumnState]) -> Result<()> {
        let table = self.table("relevance_known")?;
        let (teachers, features, known) =
            (table.texts("teacher"), table.texts("feature"), table.numbers("known"));
        for ((teacher, feature), known) in teachers.into_iter().zip(features).zip(known) {
            let column = columns.iter_mut().find(|c| Some(&c.feature) == feature.as_ref());
            if let (Some(column), Some(known)) = (column, known)
                && column.unknown_share.is_none_or(|worst| 1.0 - known > worst)
            {
                column.unknown_share = Some((1.0 - known).max(0.0));
                column.teacher = teacher;
            }
        }
        Ok(())
    }

    fn data(&self, metrics: &Value, profile: Option<&Profile>) -> Result<Data> {
        let rows = &metrics["rows"];
        let mut columns: Vec<ColumnState> = profile.iter().flat_map(|p| columns(p)).collect();
        self.known(&mut columns)?;
        columns.retain(|c| {
            c.null_share.unwrap_or(0.0) > 0.0 || c.unknown_share.unwrap_or(0.0) > 0.0 || c.not_finite > 0
        });
        let worst = |c: &ColumnState| c.null_share.unwrap_or(0.0).max(c.unknown_share.unwrap_or(0.0));
        columns.sort_by(|a, b| worst(b).total_cmp(&worst(a)).then_with(|| a.feature.cmp(&b.feature)));
        columns.truncate(COLUMNS);
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
        let gate =
            |g: &Value| Gate { name: text(&g["gate"]), verdict: text(&g["verdict"]), seen: said(&g["seen"]) };
        Ok(Data {
            stored: rows["stored"].as_u64(),
            filtered: rows["filtered"].as_u64(),
            repeated: rows["repeated"].as_u64().unwrap_or(0),
            accounts: self.published.rows,
            columns,
            gates: metrics["gates"].as_array().into_iter().flatten().map(gate).collect(),
            warnings: metrics["warnings"].as_array().into_iter().flatten().map(text).collect(),
        })
    }
}
