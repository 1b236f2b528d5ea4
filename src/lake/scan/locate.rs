//! From a path, a glob or a hive-partitioned directory to the list of its Parquet files.
//!
//! | entry below a directory | is |
//! |---|---|
//! | name starts with `_` or `.` | hidden: not data |
//! | directory `key=value` | a partition column |
//! | other directory | searched |
//! | `*.parquet`, `*.parq`, `*.pq` | data |
//! | anything else | refused by name |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// A file and the values of the partition columns in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub path: PathBuf,
    /// Column name -> value; `None` is hive's null.
    pub partitions: BTreeMap<String, Option<String>>,
}

const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The data files that `place` means, sorted by path; none in a directory without data. Missing: 66; a
/// directory with foreign files: 65.
pub fn locate(place: &Path) -> Result<Vec<Located>> {
    let text = place.to_string_lossy();
    if text.contains("://") {
        return Err(Error::config(
            "table URIs are not read by this build; name a Parquet file, a glob or a directory",
        )
        .value(text));
    }
    let mut found = Vec::new();
    match std::fs::metadata(place) {
        Ok(meta) if meta.is_dir() => {
            for (marker, format) in [("_delta_log", "Delta"), ("metadata", "Iceberg")] {
                if place.join(marker).is_dir() {
                    return Err(Error::data(format!(
                        "this is a {format} table, whose directory also holds files that are no longer data"
                    ))
                    .file(place)
                    .hint("name a plain Parquet directory"));
                }
            }
            let root = place.canonicalize().map_err(|e| Error::io(&e, "cannot resolve", place))?;
            walk(place, &root, &BTreeMap::new(), &mut found)?;
        }
        Ok(_) => {
            check_file(place, None)?;
            found.push(Located { path: place.to_path_buf(), partitions: BTreeMap::new() });
        }
        Err(_) if text.contains(['*', '?', '[']) => {
            let matches = glob::glob(&text)
                .map_err(|e| Error::config(format!("not a valid glob: {e}")).value(&text))?;
            for entry in matches {
                let path = entry.map_err(|e| Error::io(e.error(), "cannot list", e.path()))?;
                if !hidden(&path) {
                    check_file(&path, None)?;
                    let partitions = path.parent().map(path_partitions).unwrap_or_default();
                    found.push(Located { path, partitions });
                }
            }
            if found.is_empty() {
                return Err(Error::new(Kind::Missing, "no file matches the glob").value(&text));
            }
        }
        Err(e) => return Err(Error::io(&e, "cannot open the accounts", place)),
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(
    folder: &Path,
    root: &Path,
    partitions: &BTreeMap<String, Option<String>>,
    found: &mut Vec<Located>,
) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(&e, "cannot list", folder))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io(&e, "cannot list", folder))?.path();
        if hidden(&path) {
            continue;
        }
        let data = path
            .extension()
            .is_some_and(|e| ["parquet", "parq", "pq"].contains(&e.to_string_lossy().as_ref()));
        if path.is_dir() && data {
            return Err(Error::data("a directory has the name of a Parquet file").file(&path));
        }
        if path.is_dir() {
            inside(&path, root)?;
            let mut below = partitions.clone();
            if let Some((key, value)) = partition(&path) {
                below.insert(key, value);
            }
            walk(&path, root, &below, found)?;
        } else if data {
            check_file(&path, Some(root))?;
            found.push(Located { path, partitions: partitions.clone() });
        } else {
            return Err(Error::data("a foreign file lies among the Parquet files")
                .file(&path)
                .hint("move it away, or hide it with a leading _ or ."));
        }
    }
    Ok(())
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(['_', '.']))
}

fn partition(folder: &Path) -> Option<(String, Option<String>)> {
    let name = folder.file_name()?.to_str()?;
    let (key, value) = name.split_once('=')?;
    let value = unescape(value);
    Some((unescape(key), (value != HIVE_NULL).then_some(value)))
}

fn path_partitions(folder: &Path) -> BTreeMap<String, Option<String>> {
    folder.ancestors().filter_map(partition).collect()
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

fn unescape(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| value.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok()))
            .flatten();
        out.push(hex.unwrap_or(bytes[i]));
        i += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_value_survives_its_path() {
        for value in ["plain", "..", "a/b", "a=b", "%2F", "with space", "a:b", "🦀", "ü", "."] {
            let escaped = escape(value);
            assert!(!escaped.contains('/') && !escaped.starts_with('.'), "{value} -> {escaped}");
            assert_eq!(unescape(&escaped), value);
        }
    }
}
