//! OpenLineage events of each attempt, a line each in `openlineage.jsonl` of the run directory.
//!
//! | event | when |
//! |---|---|
//! | `START` | the attempt holds the lock, or ends without it |
//! | `COMPLETE` | the result line is about to be said |
//! | `ABORT` | a stop was asked for; of a killed attempt the next one says so |
//! | `FAIL` | any other end |
//!
//! An attempt writes its last event while it holds the lock: who holds it and finds a `START` without an end
//! knows that its writer is dead. The parent run is what `OPENLINEAGE_PARENT_ID` names (`namespace/job/run
//! id`, as Airflow's `lineage_parent_id` gives it), the namespace of the job is `OPENLINEAGE_NAMESPACE`. An
//! event that cannot be written is a warning. Format: <https://openlineage.io/spec/2-0-2/OpenLineage.json>.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use serde_json::{Map, Value, json};

use crate::config::Pipeline;
use crate::error::{Error, Kind};
use crate::job::published::Published;
use crate::lake::input::Input;
use crate::lake::location::Location;
use crate::lake::publish::Table;
use crate::lake::tables::Tables;
use crate::process::log::Log;
use crate::process::secrets::redact_json;

const PRODUCER: &str = concat!("urn:coldstart:", env!("CARGO_PKG_VERSION"));
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// More than this is no longer read for attempts without an end.
const LARGEST: u64 = 16 << 20;

/// The events of one attempt. Dropped before its end was told, it failed.
pub struct Lineage<'a> {
    log: &'a Log,
    pipeline: &'a Pipeline,
    date: &'a str,
    job: Value,
    run: Value,
    file: PathBuf,
    began: SystemTime,
    /// Whether START and the last event are written.
    started: bool,
    ended: bool,
}

impl<'a> Lineage<'a> {
    /// An attempt begins; `job` names it, `run_directory` may not exist yet.
    pub fn new(
        log: &'a Log,
        pipeline: &'a Pipeline,
        date: &'a str,
        job: &str,
        run_directory: &Path,
    ) -> Lineage<'a> {
        let began = SystemTime::now();
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let mut facets = Map::new();
        let nominal = json!({"nominalStartTime": format!("{date}T00:00:00Z")});
        facets.insert("nominalTime".into(), facet("1-0-1/NominalTimeRunFacet", nominal));
        if let Some(parent) = variable("OPENLINEAGE_PARENT_ID").as_deref().and_then(parent) {
            facets.insert("parent".into(), facet("1-0-1/ParentRunFacet", parent));
        }
        Lineage {
            log,
            pipeline,
            date,
            job: json!({"namespace": variable("OPENLINEAGE_NAMESPACE").unwrap_or_else(|| "coldstart".into()), "name": job, "facets": {}}),
            run: json!({"runId": uuid(began), "facets": facets}),
            file: run_directory.join("openlineage.jsonl"),
            began,
            started: false,
            ended: false,
        }
    }

    pub fn run_id(&self) -> &str {
        self.run["runId"].as_str().unwrap_or_default()
    }

    /// The attempt holds the lock.
    pub fn start(&mut self) {
        self.started = true;
        let start = self.event("START", self.began);
        self.write(|file| {
            let mut events: Vec<Value> = open_ends(file)?.into_iter().map(abort).collect();
            events.push(start);
            Ok(events)
        });
    }

    /// The attempt ends; called while its lock, if it has one, is held. `published` is what stands for the
    /// date.
    pub fn end(&mut self, failure: Option<&Error>, published: Option<&Published>) {
        self.ended = true;
        let kind = match failure.map(Error::kind) {
            None => "COMPLETE",
            Some(Kind::Interrupted | Kind::Terminated) => "ABORT",
            Some(_) => "FAIL",
        };
        let mut end = self.event(kind, SystemTime::now());
        if let Some(error) = failure {
            let message = json!({"message": error.to_string(), "programmingLanguage": "Rust"});
            end["run"]["facets"]["errorMessage"] = facet("1-0-1/ErrorMessageRunFacet", message);
        }
        if let Some(published) = published {
            let tables = self.pipeline.tables();
            end["outputs"] = published.tables.iter().map(|t| output_dataset(&tables, t, self.date)).collect();
        }
        let mut events = vec![end];
        if !self.started {
            events.insert(0, self.event("START", self.began));
        }
        self.write(|_| Ok(events));
    }

    fn event(&self, kind: &str, at: SystemTime) -> Value {
        let place = |path: &str| dataset(&self.pipeline.resolve(path));
        let named = self
            .pipeline
            .teachers
            .iter()
            .map(|t| &t.bundle)
            .chain([&self.pipeline.target.accounts])
            .chain(&self.pipeline.target.labels);
        json!({
            "eventType": kind,
            "eventTime": time(at),
            "run": self.run,
            "job": self.job,
            "inputs": named.map(|p| place(p)).collect::<Vec<_>>(),
            "outputs": [],
            "producer": PRODUCER,
            "schemaURL": SCHEMA,
        })
    }

    /// Appends what `events` makes of the file; one write, so that attempts without the lock do not mix with
    /// others.
    fn write(&self, events: impl FnOnce(&mut File) -> std::io::Result<Vec<Value>>) {
        let append = || -> std::io::Result<()> {
            if let Some(folder) = self.file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            if std::fs::metadata(&self.file).is_ok_and(|m| !m.is_file()) {
                return Err(std::io::Error::other("not a regular file"));
            }
            let mut file = File::options().create(true).append(true).read(true).open(&self.file)?;
            let events = events(&mut file)?;
            let text: String = events.iter().map(|e| format!("{}\n", redact_json(e))).collect();
            file.write_all(text.as_bytes())
        };
        if let Err(e) = append() {
            let details = json!({"file": self.file.display().to_string(), "error": e.to_string()});
            self.log.warn("lineage", "an event could not be written", details);
        }
    }
}

impl Drop for Lineage<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some(&Error::bug("an invariant was broken; this is a bug")), None);
        }
    }
}

/// `namespace/job/run id`; the namespace may hold slashes of its own. None where the run id is no UUID.
fn parent(id: &str) -> Option<Value> {
    let mut parts = id.rsplitn(3, '/');
    let (run, job, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    let is_uuid = run.len() == 36
        && run
            .char_indices()
            .all(|(i, c)| if [8, 13, 18, 23].contains(&i) { c == '-' } else { c.is_ascii_hexdigit() });
    (is_uuid && !job.is_empty() && !namespace.is_empty())
        .then(|| json!({"run": {"runId": run}, "job": {"namespace": namespace, "name": job}}))
}

fn facet(schema: &str, mut content: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or(schema);
    content["_producer"] = json!(PRODUCER);
    content["_schemaURL"] = json!(format!("https://openlineage.io/spec/facets/{schema}.json#/$defs/{name}"));
    content
}

fn dataset(path: &Path) -> Value {
    if let Location::Object(uri) | Location::Table(uri) = Location::from(path) {
        // as OpenLineage names the data sets of stores: the bucket, and the key in it
        let root = uri.split_inclusive('/').take(3).map(str::len).sum::<usize>();
        return json!({"namespace": uri[..root].trim_end_matches('/'), "name": &uri[root..]});
    }
    json!({"namespace": "file", "name": std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()})
}

/// A published table: its schema and how much was written. What is no Parquet has neither.
fn output_dataset(tables: &Tables, table: &Table, date: &str) -> Value {
    let mut out = dataset(tables.table(&table.name).shown());
    let parts: Vec<_> = table.files.iter().filter(|f| f.path.ends_with(".parquet")).collect();
    let Ok(places) = (if parts.is_empty() { Ok(Vec::new()) } else { tables.parts(&table.name, date) }) else {
        return out;
    };
    let (mut fields, mut rows) = (Vec::new(), 0);
    for (place, part) in places.iter().zip(&parts) {
        let Ok((mut file, _)) = Input::open(&Location::from(place.as_path()), None) else { return out };
        if file.fetch_tail().is_err() {
            return out;
        }
        let Ok(footer) = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()) else { return out };
        rows += footer.metadata().file_metadata().num_rows();
        if fields.is_empty() {
            fields.extend(
                footer
                    .schema()
                    .fields()
                    .iter()
                    .map(|f| json!({"name": f.name(), "type": f.data_type().to_string()})),
            );
            let keys = part.path.split('/').filter_map(|folder| folder.split_once('=')).map(|(key, _)| key);
            // what stands in a path stands in some files too
            let keys: Vec<&str> =
                ["ds"].into_iter().chain(keys).filter(|k| !fields.iter().any(|f| f["name"] == **k)).collect();
            fields.extend(keys.into_iter().map(|key| json!({"name": key, "type": "Utf8"})));
        }
    }
    if !parts.is_empty() {
        let bytes: u64 = parts.iter().map(|f| f.bytes).sum();
        out["facets"] = json!({"schema": facet("1-1-1/SchemaDatasetFacet", json!({"fields": fields}))});
        let written = json!({"rowCount": rows, "size": bytes, "fileCount": parts.len()});
        out["outputFacets"] =
            json!({"outputStatistics": facet("1-0-2/OutputStatisticsOutputDatasetFacet", written)});
    }
    out
}

/// The START events in the file whose attempts have no end; leaves the file at its end, after a whole line.
fn open_ends(file: &mut File) -> std::io::Result<Vec<Value>> {
    let mut open: BTreeMap<String, Value> = BTreeMap::new();
    let mut text = String::new();
    if file.metadata()?.len() <= LARGEST {
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
    }
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let id = event["run"]["runId"].as_str().unwrap_or_default().to_string();
        match event["eventType"].as_str() {
            Some("START") => drop(open.insert(id, event)),
            _ => drop(open.remove(&id)),
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    Ok(open.into_values().collect())
}

/// The end of an attempt that was killed.
fn abort(mut start: Value) -> Value {
    start["eventType"] = json!("ABORT");
    start["eventTime"] = json!(time(SystemTime::now()));
    start
}

fn time(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A UUID of version 7 (RFC 9562, section 5.7): milliseconds, then random bits.
fn uuid(at: SystemTime) -> String {
    let ms = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64) & 0xffff_ffff_ffff;
    // Keys from the system's source of randomness, which differ for each process; no crate for two words.
    let random = || RandomState::new().hash_one(std::process::id());
    let (a, b) = (random() & 0xfff, random() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000);
    format!("{:08x}-{:04x}-7{a:03x}-{:04x}-{:012x}", ms >> 16, ms & 0xffff, b >> 48, b & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_uuids_of_version_7_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| uuid(SystemTime::now())).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(id.len() == 36 && &id[14..15] == "7" && "89ab".contains(&id[19..20]), "{id}");
        }
    }

    #[test]
    fn a_parent_is_named_by_namespace_job_and_run() {
        let id = "0192d1a4-5a2e-7c7f-8f3a-0123456789ab";
        let found = parent(&format!("http://airflow/x/dag.task/{id}")).unwrap();
        assert_eq!(found["job"], json!({"namespace": "http://airflow/x", "name": "dag.task"}));
        assert_eq!(found["run"]["runId"], id);
        for wrong in ["", "a/b/c", "a/b", &format!("b/{id}"), &format!("//{id}")] {
            assert!(parent(wrong).is_none(), "{wrong}");
        }
    }
}
