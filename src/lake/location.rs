//! Where something lies: a path of this machine or the URI of an object store, parsed once; and what tells a file
//! there from another one in its place.
//!
//! | written | is |
//! |---|---|
//! | `file:///absolute/path` | a path |
//! | `s3://`, `s3a://`, `gs://`, `az://`, `abfs://`, `abfss://` | objects of a store |
//! | `iceberg://CATALOG/NAMESPACE.TABLE` | a table that a catalog of the pipeline knows |
//! | any other text without `://` | a path, relative to the file that names it |

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::lake::catalog;

/// The schemes of object stores.
const STORES: [&str; 6] = ["s3", "s3a", "gs", "az", "abfs", "abfss"];

/// The scheme of a table in a catalog.
const CATALOG: &str = "iceberg";

/// What hive writes for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A path, an object (or all objects below a key) of a store, or a table in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    Path(PathBuf),
    /// `scheme://container/key` as the user writes it (nothing is percent-encoded), without a slash at its end.
    Object(String),
    /// `iceberg://catalog/namespace.table`: where its files lie, the catalog says.
    Table(String),
}

impl Location {
    /// Reads what a pipeline file or a bundle says; relative paths are relative to `root`. Refused: 78.
    pub fn parse(text: &str, root: &Path) -> Result<Location> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Location::Path(root.join(text)));
        };
        let refuse = |why: &str| Err(Error::config(why).value(text));
        match scheme {
            "file" if rest.starts_with('/') => Ok(Location::Path(PathBuf::from(unescape(rest)))),
            "file" => refuse("a file URI has an absolute path: file:///path"),
            scheme if STORES.contains(&scheme) => match rest.trim_end_matches('/') {
                "" => refuse("the URI names no bucket or container"),
                rest => Ok(Location::Object(format!("{scheme}://{rest}"))),
            },
            CATALOG => catalog::Name::parse(text).map(|_| Location::Table(text.to_string())),
            _ => refuse("locations are paths or s3, gs, az, abfss, iceberg and file URIs"),
        }
    }

    /// What lies below, or this place itself for an empty name.
    pub fn join(&self, below: &str) -> Location {
        match self {
            _ if below.is_empty() => self.clone(),
            Location::Path(path) => Location::Path(path.join(below)),
            Location::Object(uri) => Location::Object(format!("{uri}/{below}")),
            Location::Table(uri) => Location::Table(format!("{uri}/{below}")),
        }
    }

    /// The path, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Location::Path(path) => Some(path),
            Location::Object(_) | Location::Table(_) => None,
        }
    }

    /// For messages: the path, or the URI in its place.
    pub fn shown(&self) -> &Path {
        match self {
            Location::Path(path) => path,
            Location::Object(uri) | Location::Table(uri) => Path::new(uri),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown().display())
    }
}

/// A path, or a URI in the place of one, as [`Location::shown`] gives it.
impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        let scheme = path.to_str().and_then(|text| Some((text.split_once("://")?.0, text)));
        match scheme {
            Some((scheme, text)) if STORES.contains(&scheme) => Location::Object(text.to_string()),
            Some((CATALOG, text)) => Location::Table(text.to_string()),
            _ => Location::Path(path.to_path_buf()),
        }
    }
}

/// Size and version of a file: another one in its place differs in one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId {
    pub bytes: u64,
    pub version: Version,
}

/// What changes when a file is replaced by one of the same size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    Modified(Option<SystemTime>),
    ETag(String),
}

/// The partition column and its value in the name of a folder; of hive's null none.
pub fn partition(folder: &Path) -> Option<(String, Option<String>)> {
    let name = folder.file_name()?.to_str()?;
    let (key, value) = name.split_once('=')?;
    let value = unescape(value);
    Some((unescape(key), (value != HIVE_NULL).then_some(value)))
}

/// The partition values in the names of folders.
pub fn path_partitions(folder: &Path) -> BTreeMap<String, Option<String>> {
    folder.ancestors().filter_map(partition).collect()
}

/// Resolves %XX; what is not that stays.
pub fn unescape(value: &str) -> String {
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
    use crate::error::Kind;

    #[test]
    fn a_text_is_a_path_or_a_uri_and_anything_else_is_refused() {
        let parse = |text: &str| Location::parse(text, Path::new("/base"));
        assert_eq!(parse("lake/a").unwrap(), Location::Path("/base/lake/a".into()));
        assert_eq!(parse("file:///lake/a%20b").unwrap(), Location::Path("/lake/a b".into()));
        assert_eq!(parse("s3://lake/a/").unwrap(), Location::Object("s3://lake/a".into()));
        for text in ["file://host", "s3://", "ftp://x/y"] {
            assert_eq!(parse(text).unwrap_err().kind(), Kind::Config, "{text}");
        }
        let table = parse("s3://lake/t").unwrap();
        assert_eq!(Location::from(table.join("part").shown()), Location::Object("s3://lake/t/part".into()));
    }
}
