//! A date of a table is published: its columns made ready, the run's files written anew with their ids and put where
//! the table keeps its files, and one snapshot committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use rayon::prelude::*;
use serde_json::json;

use crate::error::{Error, Result};
use crate::lake::iceberg::columns::{self, Column, Shape};
use crate::lake::iceberg::commit::{self, Publication, landed};
use crate::lake::iceberg::metadata::parse;
use crate::lake::iceberg::rewrite::{self, Made};
use crate::lake::iceberg::table::{DATE, Table};
use crate::lake::location::{Location, path_partitions};
use crate::lake::part;
use crate::lake::store::Store;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::table::OfRun;
use crate::lake::write;

/// Publishes the files below `source` as the date of the table at `place`, which is made at `home` where there is
/// none; `staging` is a directory of the run for it alone.
pub fn publish(
    store: &dyn Store,
    (place, home): (&Location, &Location),
    run: &OfRun,
    (source, staging): (&Path, &Path),
) -> Result<Vec<FileDigest>> {
    let names = digest::list(store, source)?;
    let first = names.first().ok_or_else(|| Error::bug("a table without a file").file(source))?;
    let shape = shape(&source.join(first), first)?;
    let table = columns::ready(store, place, home, &shape)?;
    let columns = columns::columns(&table, &shape)?;
    let made = names.par_iter().map(|name| make(store, (source, staging), (name, run.date), &columns));
    let made = made.collect::<Result<Vec<_>>>().inspect_err(|_| drop(store.remove(staging)))?;
    let mut new = Publication {
        date: run.date.to_string(),
        partition_columns: shape.partition_columns,
        files: made.len(),
        added: Vec::new(),
        about: [
            ("coldstart.pipeline", run.pipeline.to_string()),
            ("coldstart.table", run.table.to_string()),
            ("coldstart.date", run.date.to_string()),
            ("coldstart.run-id", run.key[..12].to_string()),
            ("coldstart.key", run.key.to_string()),
        ],
        mark: String::new(),
    };
    let done = landed(&table, &new)?;
    new.mark = done.clone().unwrap_or_else(|| mark(&table));
    let root = table.data_root();
    for made in made {
        let (staged, named) = (staging.join(&made.digest.path), marked(&made.digest.path, &new.mark));
        let made = Made { digest: FileDigest { path: named, ..made.digest }, ..made };
        let path = format!("{root}/{}", run.path(&made.digest.path));
        if done.is_none() {
            write::put_file(store, &staged, &made.digest, &parse(&path)?)?;
        }
        let value = |column: &String| match column.as_str() {
            DATE => json!(run.date),
            other => json!(made.partitions.get(other).cloned().flatten()),
        };
        let partition = new.partition_columns.iter().map(value).collect();
        new.added.push((made, path, partition));
    }
    if done.is_none() {
        commit::commit(store, place, &new, run.seen)?;
    }
    // what cannot be removed now, the next run removes
    let _ = store.remove(staging);
    Ok(new.added.into_iter().map(|(made, _, _)| made.digest).collect())
}

/// What the table must hold, by a file of the run and its path.
fn shape(file: &Path, name: &str) -> Result<Shape> {
    let keys = path_partitions(Path::new(name)).into_keys();
    let partition_columns: Vec<String> = [DATE.to_string()].into_iter().chain(keys).collect();
    let mut fields: Vec<Field> = part::fields(file)?;
    for key in &partition_columns {
        if !fields.iter().any(|f| f.name() == key) {
            fields.push(Field::new(key, DataType::Utf8, true));
        }
    }
    Ok(Shape { fields, partition_columns })
}

/// Writes one file anew, below `staging`.
fn make(
    store: &dyn Store,
    (source, staging): (&Path, &Path),
    (name, date): (&str, &str),
    columns: &[Column],
) -> Result<Made> {
    let to: PathBuf = staging.join(name);
    let partitions: BTreeMap<String, Option<String>> = path_partitions(Path::new(name));
    let mut known = partitions.clone();
    known.insert(DATE.to_string(), Some(date.to_string()));
    rewrite::rewrite(store, (&source.join(name), &to), columns, &known)?;
    let facts = rewrite::facts(&to, columns)?;
    Ok(Made { digest: digest::file(store, staging, name)?, partitions, facts })
}

/// What tells a run's files from those of an earlier commit of the same run: no name is ever used again, since other
/// engines remove what a snapshot has dropped by its name. The same try of a run has the same names.
fn mark(table: &Table) -> String {
    digest::text(&format!("{} {}", table.content()["table-uuid"], table.content()["current-snapshot-id"]))
        [..8]
        .to_string()
}

/// The name with the mark before its ending.
fn marked(name: &str, mark: &str) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, "parquet"));
    format!("{stem}-{mark}.{ending}")
}
