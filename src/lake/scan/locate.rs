//! From a path, a glob or a hive-partitioned directory to the list of its Parquet files.
//!
//! | entry below a directory | is |
//! |---|---|
//! | name starts with `_` or `.` | hidden: not data |
//! | directory `key=value` | a partition column |
//! | other directory | searched |
//! | `*.parquet`, `*.parq`, `*.pq` | data |
//! | a file that begins and ends as Parquet does | data, unless its name says that it is a leftover |
//! | anything else | refused by name |
//!
//! A glob sees what the directory above would see: what is hidden there is not data here either. Files that
//! belong to a table of a format of its own are refused, by whatever name they were reached (`format`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::lake::delta;
use crate::lake::iceberg;
use crate::lake::input;
use crate::lake::location::{Location, partition, path_partitions};
use crate::lake::scan::format::{self, Format, hidden, hidden_after, names};
use crate::lake::table::{InTable, Pin, TableFile};

/// A file and the values of the partition columns in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub path: PathBuf,
    /// Column name -> value; `None` is hive's null.
    pub partitions: BTreeMap<String, Option<String>>,
    /// What it is to the lakehouse table to which it belongs.
    pub table: Option<InTable>,
}

impl Located {
    fn at(path: PathBuf, partitions: BTreeMap<String, Option<String>>) -> Located {
        Located { path, partitions, table: None }
    }
}

/// Name endings of Parquet files.
const PARQUET: [&str; 3] = ["parquet", "parq", "pq"];
/// Name endings of what is left over or half-made, whatever it holds.
const LEFTOVERS: [&str; 12] = [
    "tmp",
    "temp",
    "bak",
    "old",
    "orig",
    "part",
    "partial",
    "inprogress",
    "pending",
    "crdownload",
    "swp",
    "crc",
];

/// The data files that `place` means, sorted by path; none in a directory without data. Missing: 66; a
/// directory with foreign files, or files of a table with a format of its own: 65.
///
/// A Delta table is read by its log and an Iceberg table by its metadata, at the version that is pinned.
pub fn locate(place: &Path, pin: &Pin) -> Result<Vec<Located>> {
    let location = Location::from(place);
    let is_delta = match &location {
        Location::Path(path) => format::format_of(path) == Some(Format::Delta),
        Location::Object(_) => !input::list(&location.join("_delta_log"), None)?.is_empty(),
        Location::Table(_) => false,
    };
    let iceberg = if is_delta { None } else { iceberg::metadata_of(&location)? };
    if is_delta || iceberg.is_some() {
        let file = |f: TableFile| Located {
            path: f.place.shown().to_path_buf(),
            partitions: f.partitions,
            table: Some(f.table),
        };
        let files =
            iceberg.map_or_else(|| delta::files(&location, pin), |table| iceberg::files(&table, pin))?;
        return Ok(files.into_iter().map(file).collect());
    }
    if pin.is_set() {
        return Err(Error::config("a version can be pinned of a table only, and no table is here")
            .with("key", "target.version")
            .value(place.display()));
    }
    if let Location::Object(uri) = &location {
        return objects_at(&location, uri);
    }
    let text = place.to_string_lossy();
    let mut found = match std::fs::metadata(place) {
        Ok(meta) if meta.is_dir() => below(place)?,
        Ok(_) => {
            format::refuse_table(place.parent().unwrap_or(Path::new("")))?;
            check_file(place, None)?;
            vec![Located::at(place.to_path_buf(), BTreeMap::new())]
        }
        Err(_) if text.contains(['*', '?', '[']) => matches(&text)?,
        Err(e) => return Err(Error::io(&e, "cannot open the accounts", place)),
    };
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

/// An object, or all Parquet files below a key; what is hidden there is no data.
fn objects_at(place: &Location, uri: &str) -> Result<Vec<Located>> {
    if uri.contains(['*', '?', '[']) {
        return Err(
            Error::config("globs are for paths; name an object, or what stands above several").value(uri)
        );
    }
    if input::stat(place)?.is_some() {
        return Ok(vec![Located::at(place.shown().to_path_buf(), BTreeMap::new())]);
    }
    let (mut found, mut any) = (Vec::new(), false);
    for (name, _) in input::list(place, None)? {
        any = true;
        let path = Path::new(&name);
        if name.starts_with("metadata/") && name.ends_with(".metadata.json") {
            return Err(format::refusal(place.shown(), Format::Iceberg));
        }
        if hidden_after(path, 0) || name.ends_with('/') {
            continue;
        }
        let whole = place.join(&name).shown().to_path_buf();
        if !extension(path).is_some_and(|e| PARQUET.contains(&e.as_str())) {
            return Err(Error::data("a foreign file lies among the Parquet files")
                .file(&whole)
                .hint("move it away, or hide it with a leading _ or ."));
        }
        let partitions = path.parent().map(path_partitions).unwrap_or_default();
        found.push(Located::at(whole, partitions));
    }
    match any {
        true => Ok(found),
        false => Err(Error::new(Kind::Missing, "nothing is there").file(place.shown())),
    }
}

/// The data files of a directory.
fn below(place: &Path) -> Result<Vec<Located>> {
    format::refuse_table(place)?;
    let root = place.canonicalize().map_err(|e| Error::io(&e, "cannot resolve", place))?;
    let mut found = Vec::new();
    walk(place, &root, &BTreeMap::new(), &mut found)?;
    Ok(found)
}

/// The data files that a glob matches, and those of the directories that it matches.
fn matches(glob: &str) -> Result<Vec<Located>> {
    let paths = glob::glob(glob).map_err(|e| Error::config(format!("not a valid glob: {e}")).value(glob))?;
    let fixed = fixed_part(glob);
    let depth = names(&fixed).count();
    let (mut found, mut folders, mut skipped) = (Vec::new(), BTreeSet::new(), 0);
    format::refuse_table(&fixed)?;
    for entry in paths {
        crate::process::cancel::check()?;
        let path = entry.map_err(|e| Error::io(e.error(), "cannot list", e.path()))?;
        if hidden_after(&path, depth) {
            skipped += 1;
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if !folders.contains(&folder) {
            let led_into = names(&folder).count().saturating_sub(depth);
            let format = |f: &Path| format::format_of(f).map(|format| format::refusal(f, format));
            folder.ancestors().take(led_into).find_map(format).map_or(Ok(()), Err)?;
            folders.insert(folder.clone());
        }
        if path.is_dir() {
            let partitions = path_partitions(&path);
            let with_above = |f: Located| Located {
                partitions: partitions.clone().into_iter().chain(f.partitions).collect(),
                ..f
            };
            found.extend(below(&path)?.into_iter().map(with_above));
        } else {
            check_file(&path, None)?;
            found.push(Located::at(path, path_partitions(&folder)));
        }
    }
    match (found.is_empty(), skipped) {
        (false, _) => Ok(found),
        (true, 0) => Err(Error::new(Kind::Missing, "no file matches the glob").value(glob)),
        (true, _) => {
            Err(Error::new(Kind::Missing, "the glob matches hidden files alone, which are not data")
                .value(glob)
                .with("hidden", skipped.to_string()))
        }
    }
}

/// The folders of a glob before the first one that holds a wildcard.
fn fixed_part(glob: &str) -> PathBuf {
    let wild = |c: &std::path::Component| c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    Path::new(glob).components().take_while(|c| !wild(c)).collect()
}

fn walk(
    folder: &Path,
    root: &Path,
    partitions: &BTreeMap<String, Option<String>>,
    found: &mut Vec<Located>,
) -> Result<()> {
    crate::process::cancel::check()?;
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(&e, "cannot list", folder))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(&e, "cannot list", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if hidden(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(|e| Error::io(&e, "cannot open", &path))?;
        let is_folder = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
        let named = extension(&path).is_some_and(|e| PARQUET.contains(&e.as_str()));
        if is_folder && named {
            return Err(Error::data("a directory has the name of a Parquet file")
                .file(&path)
                .hint("name it itself, or match it by a glob"));
        }
        if is_folder {
            if kind.is_symlink() {
                inside(&path, root)?;
            }
            if let Some(format) = format::format_of(&path) {
                return Err(format::refusal(&path, format));
            }
            let mut below = partitions.clone();
            if let Some((key, value)) = partition(&path) {
                below.insert(key, value);
            }
            walk(&path, root, &below, found)?;
        } else if named || is_marker(&path, &name) || is_parquet(&path, kind)? {
            check_file(&path, kind.is_symlink().then_some(root))?;
            if named || !is_marker(&path, &name) {
                found.push(Located::at(path, partitions.clone()));
            }
        } else {
            return Err(Error::data("a foreign file lies among the Parquet files")
                .file(&path)
                .hint("move it away, or hide it with a leading _ or ."));
        }
    }
    Ok(())
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|e| e.to_string_lossy().to_lowercase())
}

/// An empty file with which some object stores' file systems mark a folder.
fn is_marker(path: &Path, name: &str) -> bool {
    name.ends_with("_$folder$") && std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == 0)
}

/// Whether a file without Parquet's name is one: by its first and last four bytes, and unless its name says
/// that it is a leftover.
fn is_parquet(path: &Path, kind: std::fs::FileType) -> Result<bool> {
    let leftover = path.to_string_lossy().ends_with('~')
        || extension(path).is_some_and(|e| LEFTOVERS.contains(&e.as_str()));
    let regular = kind.is_file() || (kind.is_symlink() && path.is_file());
    if leftover || !regular {
        return Ok(false);
    }
    let mut file = File::open(path).map_err(|e| Error::io(&e, "cannot open", path))?;
    let (mut first, mut last) = ([0u8; 4], [0u8; 4]);
    let mut read = || -> std::io::Result<()> {
        file.read_exact(&mut first)?;
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut last)
    };
    Ok(read().is_ok() && &first == b"PAR1" && &last == b"PAR1")
}

/// A regular file that does not lead out of `root`; anything else would hang or leak.
fn check_file(path: &Path, root: Option<&Path>) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(&e, "cannot open", path))?;
    if !meta.is_file() {
        return Err(Error::data("not a regular file").file(path));
    }
    root.map_or(Ok(()), |root| inside(path, root))
}

fn inside(path: &Path, root: &Path) -> Result<()> {
    let real = path.canonicalize().map_err(|e| Error::io(&e, "cannot resolve", path))?;
    match real.starts_with(root) {
        true => Ok(()),
        false => Err(Error::data("a symlink leads out of the accounts directory").file(path)),
    }
}

/// Escapes a partition value as Hive does: what a path cannot hold becomes %XX.
pub fn escape(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        if c.is_control() || "\"#%'*/:=?\\{[]^~<>|&$`!;+ ".contains(c) || (out.is_empty() && c == '.') {
            let mut bytes = [0; 4];
            for b in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{b:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_value_survives_its_path() {
        for value in ["plain", "..", "a/b", "a=b", "%2F", "with space", "a:b", "🦀", "ü", "."] {
            let escaped = escape(value);
            assert!(!escaped.contains('/') && !escaped.starts_with('.'), "{value} -> {escaped}");
            assert_eq!(crate::lake::location::unescape(&escaped), value);
        }
    }
}
