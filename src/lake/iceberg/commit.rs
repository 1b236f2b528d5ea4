//! One snapshot publishes a date of a table: the files that stood there are gone in it, the run's are added.
//!
//! Readers see the date as it was or as it is, never between: a catalog knows one metadata file at a time. The rules
//! are those of [`crate::lake::delta::commit`]:
//!
//! | found at a try | then |
//! |---|---|
//! | our key in a snapshot, and its files as the date's | done: the commit landed, though its answer was lost |
//! | the date's files are not those that the run saw when it began | another run published it: 75 |
//! | another commit was first, and left the date alone | a snapshot is made again on top of it |
//! | the answer leaves it open | looked at again, for as often as a reader of the catalog would wait |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::lake::iceberg::changes::{Change, Outcome, now_after};
use crate::lake::iceberg::manifest::{Content, Entry, Manifest};
use crate::lake::iceberg::manifest_write::{self, Draft, Fate, Next};
use crate::lake::iceberg::metadata::parse;
use crate::lake::iceberg::rewrite::Made;
use crate::lake::iceberg::table::{DATE, Table};
use crate::lake::location::Location;
use crate::lake::store::Store;
use crate::lake::unique;
use crate::lake::write;

/// Other writers that may be first before a run gives up (75).
const TRIES: usize = 100;
/// Answers that may leave open what became of a commit before a run gives up (75).
const OPEN: u64 = 6;

/// Which of a snapshot's totals grows with what, and shrinks with what.
const TOTALS: [(&str, &str, &str); 3] = [
    ("total-data-files", "added-data-files", "deleted-data-files"),
    ("total-records", "added-records", "deleted-records"),
    ("total-files-size", "added-files-size", "removed-files-size"),
];
/// Totals that a run leaves as they are.
const KEPT: [&str; 3] = ["total-delete-files", "total-position-deletes", "total-equality-deletes"];

/// What a run publishes of one table.
#[derive(Debug)]
pub struct Publication {
    pub date: String,
    /// `ds` first.
    pub partition_columns: Vec<String>,
    /// How many files.
    pub files: usize,
    /// The files, where each lies as a manifest names it, and its partition.
    pub added: Vec<(Made, String, Vec<Value>)>,
    /// What names the run and its date in a snapshot's summary.
    pub about: [(&'static str, String); 5],
    /// What the names of its files end with.
    pub mark: String,
}

/// A manifest in which the date has files, and all files of it.
type Touched = (Manifest, Vec<Entry>);

/// Commits; `seen` are the date's files when the run began.
pub fn commit(store: &dyn Store, place: &Location, new: &Publication, seen: &BTreeSet<String>) -> Result<()> {
    let mut open = 0;
    for _ in 0..TRIES {
        let gone = || Error::new(Kind::TryAgain, "the table was dropped meanwhile").file(place.shown());
        let table = Table::load(place)?.ok_or_else(gone)?;
        let touched = touched(&table, &new.date)?;
        let live = live(&table, &touched, &new.date)?;
        if is_ours(&table, &live, new) {
            return Ok(());
        }
        if live.iter().map(|e| table.below(&e.path)).collect::<BTreeSet<_>>() != *seen {
            return Err(
                Error::new(Kind::TryAgain, "another run published this date meanwhile").file(place.shown())
            );
        }
        let (change, written) = snapshot(store, &table, new, &touched)?;
        match table.commit(store, &change)? {
            Outcome::Done => return Ok(()),
            Outcome::Lost => written.iter().try_for_each(|file| write::remove(store, file))?,
            Outcome::Unknown(e) if open == OPEN => return Err(e),
            Outcome::Unknown(_) => {
                // one that lands later does so only where nobody else was first: two of ours never count both
                std::thread::sleep(Duration::from_millis(250 << open));
                open += 1;
            }
        }
    }
    Err(Error::new(Kind::TryAgain, format!("{TRIES} other commits were faster")).file(place.shown()))
}

/// The snapshot of a run that counts: its id, and what its files' names end with.
pub fn landed(table: &Table, new: &Publication) -> Result<Option<String>> {
    let touched = touched(table, &new.date)?;
    let live = live(table, &touched, &new.date)?;
    Ok(ours(table, &live, new).and_then(|s| {
        table.metadata.snapshots.iter().find(|f| f.snapshot_id == s)?.summary.get("coldstart.files").cloned()
    }))
}

fn is_ours(table: &Table, live: &[&Entry], new: &Publication) -> bool {
    ours(table, live, new).is_some()
}

/// The snapshot that holds our key, if the date's files are those that it added.
fn ours(table: &Table, live: &[&Entry], new: &Publication) -> Option<i64> {
    let of_us = |summary: &BTreeMap<String, String>| {
        new.about.iter().all(|(key, value)| summary.get(*key) == Some(value))
    };
    let added = live.first()?.snapshot?;
    let snapshot = table.metadata.snapshots.iter().find(|s| s.snapshot_id == added)?;
    let same = live.len() == new.files && live.iter().all(|e| e.snapshot == Some(added));
    (same && of_us(&snapshot.summary)).then_some(added)
}

/// The manifests in which the date has files.
fn touched(table: &Table, date: &str) -> Result<Vec<Touched>> {
    let manifests = table.manifests()?.into_iter().filter(|m| table.may_hold(m, date));
    let read = |m: Manifest| m.entries(true).map(|entries| (m, entries));
    let all: Vec<Touched> = manifests.collect::<Vec<_>>().into_par_iter().map(read).collect::<Result<_>>()?;
    let holds = |(m, entries): &Touched| {
        let unknown = table.date_place(m.spec).is_none() && !entries.is_empty();
        entries.iter().any(|e| e.content == Content::Data && table.date_of(e) == Some(date)) || unknown
    };
    Ok(all.into_iter().filter(holds).collect())
}

/// The date's files. Where they are partitioned otherwise than the table's are now, nobody can say which they are (65).
fn live<'a>(table: &Table, touched: &'a [Touched], date: &str) -> Result<Vec<&'a Entry>> {
    match touched.iter().find(|(m, _)| m.spec != table.metadata.default_spec_id) {
        Some((manifest, _)) => {
            Err(Error::data("some of the table's files are partitioned otherwise, by an older spec")
                .file(table.place.shown())
                .value(format!("spec {}", manifest.spec))
                .hint("rewrite them by the table's spec, with Spark's rewrite_data_files say"))
        }
        None => {
            let entries = touched.iter().flat_map(|(_, entries)| entries);
            Ok(entries.filter(|e| e.content == Content::Data && table.date_of(e) == Some(date)).collect())
        }
    }
}

/// The next snapshot, with its manifests written: what is asked of the catalog, and the files to remove where it
/// refuses.
fn snapshot(
    store: &dyn Store,
    table: &Table,
    new: &Publication,
    touched: &[Touched],
) -> Result<(Change, Vec<Location>)> {
    let parent = table.content()["current-snapshot-id"].as_i64().filter(|id| *id != -1);
    let last = table.content()["last-sequence-number"].as_i64().unwrap_or(0);
    let next = Next { snapshot: (unique::bits() >> 65) as i64, parent, sequence: last + 1 };
    let (root, name) = (table.metadata_root(), unique::uuid());
    let mut written = Vec::new();
    let mut put = |path: &str, bytes: Vec<u8>| -> Result<()> {
        let place = parse(path)?;
        write::write_unique(store, &place, bytes.into())?;
        written.push(place);
        Ok(())
    };
    let (mut listed, mut gone) = (Vec::new(), (0, 0, 0));
    let mut added = Draft::default();
    for (made, path, partition) in &new.added {
        added.add(made, path, partition, next, table)?;
    }
    let path = format!("{root}/{name}-m0.avro");
    let (bytes, record) = added.finish(table, &path, next)?;
    put(&path, bytes)?;
    listed.push(record);
    let (mut dates, mut again) = (BTreeSet::new(), BTreeSet::new());
    for (n, (manifest, entries)) in touched.iter().enumerate() {
        let mut draft = Draft::default();
        for entry in entries {
            let goes = entry.content == Content::Data && table.date_of(entry) == Some(new.date.as_str());
            draft.keep(entry, if goes { Fate::Goes } else { Fate::Stays }, next);
            if goes {
                gone = (gone.0 + 1, gone.1 + entry.rows, gone.2 + entry.bytes);
                dates.insert(json!(entry.partition).to_string());
            }
        }
        let path = format!("{root}/{name}-m{}.avro", n + 1);
        let (bytes, record) = draft.finish(table, &path, next)?;
        put(&path, bytes)?;
        listed.push(record);
        again.insert(manifest.record["manifest_path"].to_string());
    }
    let stays = |m: &Manifest| {
        let counts = m.number("added_files_count") + m.number("existing_files_count");
        counts > 0 && !again.contains(&m.record["manifest_path"].to_string())
    };
    listed.extend(table.manifests()?.into_iter().filter(stays).map(|m| m.record));
    let path = format!("{root}/snap-{}-1-{name}.avro", next.snapshot);
    put(&path, manifest_write::list(&listed, next)?)?;
    dates.extend(new.added.iter().map(|(_, _, partition)| json!(partition).to_string()));
    let summary = summary(table, new, gone, dates.len(), parent);
    let time = now_after(table.content()["last-updated-ms"].as_i64().unwrap_or(0));
    let mut snapshot = json!({"snapshot-id": next.snapshot, "sequence-number": next.sequence, "timestamp-ms": time,
        "manifest-list": path, "summary": summary, "schema-id": table.metadata.current_schema_id});
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = json!(parent);
    }
    let mut main = table.content()["refs"]["main"].clone();
    if !main.is_object() {
        main = json!({"type": "branch"});
    }
    main["action"] = json!("set-snapshot-ref");
    main["ref-name"] = json!("main");
    main["snapshot-id"] = json!(next.snapshot);
    let change = Change {
        requirements: vec![
            json!({"type": "assert-table-uuid", "uuid": table.content()["table-uuid"]}),
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}),
            json!({"type": "assert-default-spec-id", "default-spec-id": table.metadata.default_spec_id}),
        ],
        updates: vec![json!({"action": "add-snapshot", "snapshot": snapshot}), main],
    };
    Ok((change, written))
}

/// What a snapshot says of itself; `gone` are files, rows and bytes.
fn summary(
    table: &Table,
    new: &Publication,
    gone: (u64, u64, u64),
    partitions: usize,
    parent: Option<i64>,
) -> Value {
    let operation = if gone.0 == 0 { "append" } else { "overwrite" };
    let mut out: BTreeMap<String, String> = [
        ("operation", operation),
        ("engine-name", "coldstart"),
        ("engine-version", env!("CARGO_PKG_VERSION")),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into();
    out.insert("changed-partition-count".to_string(), partitions.to_string());
    let made = || new.added.iter().map(|(made, _, _)| made);
    let numbers = [
        ("added-data-files", made().count() as u64),
        ("added-records", made().map(|m| m.facts.rows).sum()),
        ("added-files-size", made().map(|m| m.digest.bytes).sum()),
        ("deleted-data-files", gone.0),
        ("deleted-records", gone.1),
        ("removed-files-size", gone.2),
    ];
    out.extend(numbers.iter().filter(|(_, n)| *n > 0).map(|(key, n)| (key.to_string(), n.to_string())));
    let before = table.metadata.snapshots.iter().find(|s| Some(s.snapshot_id) == parent).map(|s| &s.summary);
    let total = |key: &str| match before {
        // a snapshot that does not say its totals has none to go on from
        Some(summary) => summary.get(key)?.parse::<u64>().ok(),
        None => Some(0),
    };
    let of = |key: &str| numbers.iter().find(|(name, _)| *name == key).map_or(0, |(_, n)| *n);
    for (key, grows, shrinks) in TOTALS {
        out.extend(
            total(key).map(|n| (key.to_string(), (n + of(grows)).saturating_sub(of(shrinks)).to_string())),
        );
    }
    out.extend(KEPT.iter().filter_map(|key| Some((key.to_string(), total(key)?.to_string()))));
    out.extend(new.about.iter().map(|(key, value)| (key.to_string(), value.clone())));
    out.insert("coldstart.files".to_string(), new.mark.clone());
    debug_assert!(new.partition_columns.first().is_some_and(|c| c == DATE));
    json!(out)
}
