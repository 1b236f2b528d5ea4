//! The tables of an output: how a date of each is looked at, and how it appears, whatever their format.
//!
//! | format | where | a date appears by |
//! |---|---|---|
//! | `parquet` | a directory | one rename or one exchange of its partition ([`crate::lake::publish`]) |
//! | `parquet` | an object store, if that is asked for | its objects, one after another |
//! | `delta` | a directory or an object store | one commit of the table's log |
//! | `iceberg` | a table of a catalog, whose files lie in either | one snapshot |
//!
//! The student is a bundle of files and no table: it is published as `parquet` is in every format, in an object
//! store with `teacher.toml` last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::lake::delta;
use crate::lake::iceberg;
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
    Iceberg,
}

/// The tables of one output.
#[derive(Debug, Clone)]
pub struct Tables {
    pub output: Location,
    pub format: Format,
    /// Of Iceberg tables the catalog and the namespace: `iceberg://CATALOG/NAMESPACE`.
    pub space: String,
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
    /// A date of a table that knows its files: of a Delta table, or one in a catalog.
    Table(Location, &'a str),
}

/// Where the files of a table stand that knows them, and those of each date, or of one date, by their names below
/// that; none of a table that is not there.
fn known(table: &Location, date: Option<&str>) -> Result<(Location, Dates)> {
    match table {
        Location::Table(_) => iceberg::dates(table, date),
        _ => Ok((table.clone(), delta::dates(table)?)),
    }
}

/// The files of one date, and where they stand.
fn known_of(table: &Location, date: &str) -> Result<(Location, BTreeSet<String>)> {
    known(table, Some(date)).map(|(root, mut dates)| (root, dates.remove(date).unwrap_or_default()))
}

/// The place of a file by its name below `root`, or of one that lies elsewhere by its whole name.
fn below(root: &Location, name: &str) -> Location {
    match name.starts_with('/') || name.contains(":/") {
        true => Location::parse(name, Path::new("/")).unwrap_or_else(|_| root.join(name)),
        false => root.join(name),
    }
}

impl Tables {
    /// Where a table stands.
    pub fn table(&self, table: &str) -> Location {
        match self.format == Format::Iceberg && table != BUNDLE {
            true => Location::Table(format!("{}.{table}", self.space)),
            false => self.output.join(table),
        }
    }

    /// Where the files of a table's date stand; of a Delta table those that its log removed may stand there too,
    /// and of one in a catalog only the catalog knows.
    pub fn partition(&self, table: &str, date: &str) -> Location {
        self.table(table).join(&format!("ds={date}"))
    }

    /// What a user opens: the partition, or the Delta or Iceberg table that holds it.
    pub fn shown(&self, table: &str, date: &str) -> Location {
        match self.format != Format::Parquet && table != BUNDLE {
            true => self.table(table),
            false => self.partition(table, date),
        }
    }

    fn kept<'a>(&self, table: &str, date: &'a str) -> Kept<'a> {
        match (&self.output, self.format) {
            (_, Format::Delta | Format::Iceberg) if table != BUNDLE => Kept::Table(self.table(table), date),
            (Location::Path(output), _) => Kept::Directory(publish::partition(output, table, date)),
            (Location::Object(_) | Location::Table(_), _) => Kept::Objects(self.partition(table, date)),
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
            Format::Iceberg => iceberg::check_column(id),
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

    /// Whether the date holds the files with these digests, and nothing else. Of the files of a Delta or Iceberg
    /// table, which are never written again, size and place are looked at.
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
            Kept::Table(table, date) => {
                let Ok((root, found)) = known_of(&table, date) else { return false };
                let below = |f: &FileDigest| format!("ds={date}/{}", f.path);
                let there = |f: &FileDigest| {
                    let id = input::stat(&root.join(&below(f)));
                    id.is_ok_and(|id| id.is_some_and(|id| id.bytes == f.bytes))
                };
                let ours: BTreeSet<String> = files.iter().map(below).collect();
                found == ours && files.par_iter().all(there)
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
            Kept::Table(table, date) => {
                let ours: BTreeSet<String> = files.iter().map(|f| format!("ds={date}/{}", f.path)).collect();
                let (root, found) = known_of(&table, date)?;
                let other = found.difference(&ours).next().filter(|_| ours.is_subset(&found));
                Ok(other.map(|file| below(&root, file)))
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
            Kept::Table(table, date) => {
                let (_, found) = known_of(&table, date)?;
                Ok(found.into_iter().find(|path| !path.contains(mark)))
            }
        }
    }

    /// The Parquet files of each date of a table, sorted by name; a table that is not there has none.
    pub fn dates(&self, table: &str) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let root = self.table(table);
        let (root, found) = match self.kept(table, "") {
            Kept::Table(table, _) => known(&table, None)?,
            _ => {
                let mut dates = Dates::new();
                for (name, _) in input::list(&root, None)? {
                    let date = name.split('/').next().and_then(|folder| folder.strip_prefix("ds="));
                    if let Some(date) = date.filter(|_| name.ends_with(".parquet")).map(str::to_string) {
                        dates.entry(date).or_default().insert(name);
                    }
                }
                (root, dates)
            }
        };
        let places = |names: BTreeSet<String>| {
            names.iter().map(|name| below(&root, name).shown().to_path_buf()).collect::<Vec<_>>()
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
            Kept::Table(table, date) => {
                let (root, found) = known_of(&table, date)?;
                let parts = found.iter().map(|name| below(&root, name).shown().to_path_buf());
                return if found.is_empty() { Err(nothing(&place)) } else { Ok(parts.collect()) };
            }
            Kept::Directory(folder) if !folder.is_dir() => return Err(nothing(&place)),
            _ => input::list(&place, None)?.into_iter().map(|(name, _)| name).collect(),
        };
        let parts = names.iter().filter(|f| f.ends_with(".parquet"));
        Ok(parts.map(|f| place.join(f).shown().to_path_buf()).collect())
    }

    /// A published date of a table, with its partition columns. Nothing published: 66.
    pub fn open(&self, table: &str, date: &str) -> Result<Accounts> {
        match self.kept(table, date) {
            Kept::Table(root, date) => {
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
            Kept::Table(root, date) => Ok((table.to_string(), known_of(&root, date)?.1)),
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
            Kept::Objects(place) => return write::put_objects(store, source, &place, LAST),
            Kept::Table(root, date) => (root, date),
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
        if self.format == Format::Iceberg {
            return iceberg::publish(store, (&root, &self.output.join(table)), &run, (source, staging));
        }
        let names = digest::list(store, source)?;
        let files = names.par_iter().map(|name| {
            let digest = digest::file(store, source, name)?;
            write::put_file(store, &source.join(name), &digest, &root.join(&run.path(name)))?;
            Ok(digest)
        });
        let files: Vec<FileDigest> = files.collect::<Result<_>>()?;
        delta::publish(store, &root, &run, (source, staging), &files)?;
        Ok(files)
    }
}

fn nothing(place: &Location) -> Error {
    Error::new(Kind::Missing, "nothing was published for this date").file(place.shown())
}
