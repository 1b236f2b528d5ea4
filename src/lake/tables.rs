//! The tables of an output: how a date of each is looked at, and how it appears, whatever their format.
//!
//! | format | where | a date appears by |
//! |---|---|---|
//! | `parquet` | a directory | one rename or one exchange of its partition ([`crate::lake::publish`]) |
//! | `parquet` | an object store, if that is asked for | its objects, one after another |
//! | `delta` | a directory or an object store | one commit of the table's log |
//!
//! The student is a bundle of files and no table: it is published as `parquet` is in every format, in an object
//! store with `teacher.toml` last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::lake::delta;
use crate::lake::input;
use crate::lake::location::Location;
use crate::lake::publish;
use crate::lake::scan::Accounts;
use crate::lake::store::Store;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::table::{Dates, OfRun, Pin};
use crate::lake::write;

/// What is published as files in every format.
const BUNDLE: &str = "student";
/// The file of a bundle without which it is none.
const LAST: &str = "teacher.toml";

/// How tables are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Parquet,
    Delta,
}

/// The tables of one output.
#[derive(Debug, Clone)]
pub struct Tables {
    pub output: Location,
    pub format: Format,
}

/// Whose a publication is.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    pub pipeline: &'a str,
    pub date: &'a str,
    pub key: &'a str,
    /// What the date's files must carry in their names to be replaced; without it whatever stands there is.
    pub mark: Option<&'a str>,
    /// What stands there was published from the same inputs.
    pub again: bool,
}

/// The files of each table's date when the run began; a date that has others when it is published was
/// published by another run meanwhile.
pub type Seen = BTreeMap<String, BTreeSet<String>>;

/// How a date of a table stands.
enum Kept<'a> {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Objects below a URI.
    Objects(Location),
    Delta(Location, &'a str),
}

impl Tables {
    /// Where a table stands.
    pub fn table(&self, table: &str) -> Location {
        self.output.join(table)
    }

    /// Where the files of a table's date stand; of a Delta table those that its log removed may stand there too.
    pub fn partition(&self, table: &str, date: &str) -> Location {
        self.table(table).join(&format!("ds={date}"))
    }

    /// What a user opens: the partition, or the Delta table that holds it.
    pub fn shown(&self, table: &str, date: &str) -> Location {
        match self.format == Format::Delta && table != BUNDLE {
            true => self.table(table),
            false => self.partition(table, date),
        }
    }

    fn kept<'a>(&self, table: &str, date: &'a str) -> Kept<'a> {
        match (&self.output, self.format) {
            (_, Format::Delta) if table != BUNDLE => Kept::Delta(self.table(table), date),
            (Location::Path(output), _) => Kept::Directory(publish::partition(output, table, date)),
            (Location::Object(_), _) => Kept::Objects(self.partition(table, date)),
        }
    }

    /// Refuses (73) a table's place that is no directory, before any work is done.
    pub fn check_place(&self, table: &str) -> Result<()> {
        self.output.path().map_or(Ok(()), |output| publish::check_place(output, table))
    }

    /// Refuses (73) names of folders that the output's file system does not take.
    pub fn check_names<'a>(&self, classes: impl Iterator<Item = &'a String>) -> Result<()> {
        self.output.path().map_or(Ok(()), |output| publish::check_names(output, classes))
    }

    /// Refuses (65) ids that the tables cannot hold.
    pub fn check_id(&self, id: &arrow::datatypes::Field) -> Result<()> {
        match self.format {
            Format::Parquet => Ok(()),
            Format::Delta => delta::check_column(id),
        }
    }

    /// Refuses (73) an output whose file system cannot exchange directories, where one stands in the place of a
    /// date; `probe` is a folder there for the try.
    pub fn check_exchange<'a>(
        &self,
        store: &dyn Store,
        mut tables: impl Iterator<Item = &'a str>,
        date: &str,
        probe: &Path,
    ) -> Result<()> {
        let stands = |table| matches!(self.kept(table, date), Kept::Directory(place) if store.exists(&place));
        if tables.any(stands) { publish::check_exchange(store, probe) } else { Ok(()) }
    }

    /// Whether the date holds the files with these digests, and nothing else. Of a Delta table's files, which
    /// are never written again, size and place are looked at.
    pub fn stands(&self, store: &dyn Store, table: &str, date: &str, files: &[FileDigest]) -> bool {
        match self.kept(table, date) {
            Kept::Directory(partition) => publish::stands(store, &partition, files),
            Kept::Objects(place) => {
                let Ok(found) = input::list(&place, None) else { return false };
                let same = |f: &FileDigest| {
                    let bytes = input::read(&place.join(&f.path));
                    bytes.is_ok_and(|b| digest::read(&f.path, b.as_ref()).is_ok_and(|d| d == *f))
                };
                found.len() == files.len() && files.iter().all(same)
            }
            Kept::Delta(root, date) => {
                let Ok(mut found) = delta::dates(&root) else { return false };
                let below = |f: &FileDigest| format!("ds={date}/{}", f.path);
                let there = |f: &FileDigest| {
                    let id = input::stat(&root.join(&below(f)));
                    id.is_ok_and(|id| id.is_some_and(|id| id.bytes == f.bytes))
                };
                let ours: BTreeSet<String> = files.iter().map(below).collect();
                found.remove(date).unwrap_or_default() == ours && files.par_iter().all(there)
            }
        }
    }

    /// Data of the date that is none of `files`, though all of these stand: somebody else put it there.
    pub fn stranger(
        &self,
        store: &dyn Store,
        table: &str,
        date: &str,
        files: &[FileDigest],
    ) -> Result<Option<Location>> {
        match self.kept(table, date) {
            Kept::Directory(place) => {
                let file = publish::stranger(store, &place, files);
                Ok(file.map(|file| Location::Path(place.join(file))))
            }
            Kept::Objects(_) => Ok(None),
            Kept::Delta(root, date) => {
                let ours: BTreeSet<String> = files.iter().map(|f| format!("ds={date}/{}", f.path)).collect();
                let found = delta::dates(&root)?.remove(date).unwrap_or_default();
                let other = found.difference(&ours).next().filter(|_| ours.is_subset(&found));
                Ok(other.map(|file| root.join(file)))
            }
        }
    }

    /// A file of the date that some other run published: its name does not carry `mark`.
    pub fn foreign(&self, store: &dyn Store, table: &str, date: &str, mark: &str) -> Result<Option<String>> {
        match self.kept(table, date) {
            Kept::Directory(partition) => Ok(publish::foreign(store, &partition, mark)),
            Kept::Objects(place) => {
                let found = input::list(&place, None)?.into_iter().map(|(name, _)| name);
                // the files of a bundle have their own names
                Ok(found.into_iter().find(|name| name.ends_with(".parquet") && !name.contains(mark)))
            }
            Kept::Delta(root, date) => {
                let found = delta::dates(&root)?.remove(date).unwrap_or_default();
                Ok(found.into_iter().find(|path| !path.contains(mark)))
            }
        }
    }

    /// The Parquet files of each date of a table, sorted by name; a table that is not there has none.
    pub fn dates(&self, table: &str) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let root = self.table(table);
        let found = match self.kept(table, "") {
            Kept::Delta(root, _) => delta::dates(&root)?,
            _ => {
                let mut dates = Dates::new();
                for (name, _) in input::list(&root, None)? {
                    let date = name.split('/').next().and_then(|folder| folder.strip_prefix("ds="));
                    if let Some(date) = date.filter(|_| name.ends_with(".parquet")).map(str::to_string) {
                        dates.entry(date).or_default().insert(name);
                    }
                }
                dates
            }
        };
        let places = |names: BTreeSet<String>| {
            names.iter().map(|name| root.join(name).shown().to_path_buf()).collect::<Vec<_>>()
        };
        Ok(found.into_iter().map(|(date, names)| (date, places(names))).collect())
    }

    /// The dates of a table that are published.
    pub fn published(&self, store: &dyn Store, table: &str) -> Result<BTreeSet<String>> {
        match self.kept(table, "") {
            Kept::Directory(_) => {
                let root = self.table(table);
                let names = store.list(root.shown()).unwrap_or_default();
                Ok(names
                    .iter()
                    .filter_map(|(name, _)| name.strip_prefix("ds="))
                    .map(str::to_string)
                    .collect())
            }
            _ => Ok(self.dates(table)?.into_keys().collect()),
        }
    }

    /// The Parquet files of a published date, sorted by name. Nothing published: 66.
    pub fn parts(&self, table: &str, date: &str) -> Result<Vec<PathBuf>> {
        let place = self.partition(table, date);
        let names: Vec<String> = match self.kept(table, date) {
            Kept::Delta(..) => return self.dates(table)?.remove(date).ok_or_else(|| nothing(&place)),
            Kept::Directory(folder) if !folder.is_dir() => return Err(nothing(&place)),
            _ => input::list(&place, None)?.into_iter().map(|(name, _)| name).collect(),
        };
        let parts = names.iter().filter(|f| f.ends_with(".parquet"));
        Ok(parts.map(|f| place.join(f).shown().to_path_buf()).collect())
    }

    /// A published date of a table, with its partition columns. Nothing published: 66.
    pub fn open(&self, table: &str, date: &str) -> Result<Accounts> {
        match self.kept(table, date) {
            Kept::Delta(root, date) => {
                self.parts(table, date)?;
                Accounts::open_where(root.shown(), &Pin::default(), Some(&format!("ds = '{date}'")))
            }
            Kept::Directory(folder) if !folder.is_dir() => Err(nothing(&Location::Path(folder))),
            _ => Accounts::open(self.partition(table, date).shown()),
        }
    }

    /// The date's files of each table as they are now.
    pub fn look<'a>(&self, tables: impl Iterator<Item = &'a str>, date: &str) -> Result<Seen> {
        let of = |table: &str| match self.kept(table, date) {
            Kept::Delta(root, date) => {
                Ok((table.to_string(), delta::dates(&root)?.remove(date).unwrap_or_default()))
            }
            _ => Ok((table.to_string(), BTreeSet::new())),
        };
        tables.map(of).collect()
    }

    /// Publishes the files below `source` as the table's date and returns them; `staging` is a directory of the
    /// run for it alone. A run that was overtaken since its look gives way (75).
    pub fn publish(
        &self,
        store: &dyn Store,
        table: &str,
        (source, staging): (&Path, &Path),
        who: &Publisher,
        seen: &Seen,
    ) -> Result<Vec<FileDigest>> {
        let (root, date) = match self.kept(table, who.date) {
            Kept::Directory(place) => {
                return publish::publish(store, source, staging, &place, who.mark, who.again);
            }
            Kept::Objects(place) => return publish_objects(store, source, &place),
            Kept::Delta(root, date) => (root, date),
        };
        let none = BTreeSet::new();
        let seen = seen.get(table).unwrap_or(&none);
        if let Some(mark) = who.mark
            && seen.iter().any(|path| !path.contains(mark))
        {
            return Err(
                Error::new(Kind::TryAgain, "another run published this date meanwhile").file(root.shown())
            );
        }
        let run = OfRun { pipeline: who.pipeline, table, date, key: who.key, seen };
        let names = digest::list(store, source)?;
        let files = names.par_iter().map(|name| {
            let digest = digest::file(store, source, name)?;
            write::put_file(store, &source.join(name), &digest, &root.join(&run.path(name)))?;
            Ok(digest)
        });
        let files: Vec<FileDigest> = files.collect::<Result<_>>()?;
        delta::publish(store, &root, &run, source, &files)?;
        Ok(files)
    }
}

fn nothing(place: &Location) -> Error {
    Error::new(Kind::Missing, "nothing was published for this date").file(place.shown())
}

/// Uploads the files of a date. Nothing makes several objects appear at once: of a bundle, a reader finds none
/// while it changes, unless it began before.
fn publish_objects(store: &dyn Store, source: &Path, place: &Location) -> Result<Vec<FileDigest>> {
    let mut names = digest::list(store, source)?;
    names.sort_by_key(|name| name == LAST);
    let mut files = names.iter().map(|name| digest::file(store, source, name)).collect::<Result<Vec<_>>>()?;
    write::remove(store, &place.join(LAST))?;
    for file in &files {
        write::put_file(store, &source.join(&file.path), file, &place.join(&file.path))?;
    }
    for (old, _) in input::list(place, None)?.into_iter().filter(|(name, _)| !names.contains(name)) {
        write::remove(store, &place.join(&old))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
