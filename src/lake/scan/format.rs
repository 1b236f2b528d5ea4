//! Which folders belong to a table of a format of its own, or to a writer that has not committed yet.
//!
//! The files of such a table say nothing about which of their rows count: that stands in a log, in
//! metadata or in the names of folders. Read as plain Parquet, they give rows that were deleted or never
//! committed. [`table_of`] is the one place that knows them; a reader for a format starts there.
//!
//! | beside or above the files | format |
//! |---|---|
//! | `_delta_log/` | Delta |
//! | `metadata/` with a `*.metadata.json` or a `version-hint.text` | Iceberg |
//! | `.hoodie/` | Hudi |
//! | `_spark_metadata/` | sink of Spark Structured Streaming |
//! | `snapshot/` and `manifest/` and `schema/` | Paimon |
//! | a folder `delta_N_N`, `delete_delta_N_N` or `base_N`, N of seven digits | transactional Hive |
//! | a folder with the name of a writer's workplace, `_temporary` say | not committed |

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A table of a format of its own, or what a writer left before its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Delta,
    Iceberg,
    Hudi,
    SparkSink,
    Paimon,
    HiveTransactional,
    Uncommitted,
}

/// Folders in which writers work before they commit, and logs that hold no rows of a table.
const WORKPLACES: [&str; 8] = [
    "_temporary",
    ".staging",
    ".hive-staging",
    ".spark-staging",
    "_delta_log",
    "_change_data",
    ".hoodie",
    "_spark_metadata",
];

/// The format of the table whose root `folder` is, by what stands in it and by its own name.
pub fn format_of(folder: &Path) -> Option<Format> {
    let has = |name: &str| folder.join(name).is_dir();
    let name = folder.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    if WORKPLACES.iter().any(|w| name == *w || (w.ends_with("-staging") && name.starts_with(w))) {
        Some(Format::Uncommitted)
    } else if is_hive_transaction(&name) {
        Some(Format::HiveTransactional)
    } else if has("_delta_log") {
        Some(Format::Delta)
    } else if has("metadata") && holds_iceberg_metadata(&folder.join("metadata")) {
        Some(Format::Iceberg)
    } else if has(".hoodie") {
        Some(Format::Hudi)
    } else if has("_spark_metadata") {
        Some(Format::SparkSink)
    } else if has("snapshot") && has("manifest") && has("schema") {
        Some(Format::Paimon)
    } else {
        None
    }
}

/// The table to which `folder` belongs: the nearest folder, itself or above it, that is the root of one.
/// Symlinks are followed, so that a table is known from whatever name leads into it.
pub fn table_of(folder: &Path) -> Option<(PathBuf, Format)> {
    let of = |f: &Path| f.ancestors().find_map(|a| format_of(a).map(|format| (a.to_path_buf(), format)));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    of(&absolute).or_else(|| of(&folder.canonicalize().ok()?))
}

/// Refuses (65) a folder that belongs to a table of a format of its own.
pub fn refuse_table(folder: &Path) -> Result<()> {
    table_of(folder).map_or(Ok(()), |(root, format)| Err(refusal(&root, format)))
}

/// Why the table at `root` is not read, and what to do.
pub fn refusal(root: &Path, format: Format) -> Error {
    let (what, hint) = match format {
        Format::Delta => ("the files of a Delta table", BUILD_OR_EXPORT),
        Format::Iceberg => ("the files of an Iceberg table", NAME_METADATA),
        Format::Hudi => ("the files of a Hudi table", EXPORT),
        Format::Paimon => ("the files of a Paimon table", EXPORT),
        Format::SparkSink => ("the files of a Spark Structured Streaming sink", EXPORT),
        Format::HiveTransactional => ("the files of a transactional Hive table", EXPORT),
        Format::Uncommitted => {
            ("a folder in which a writer works before it commits", "name the folder into which it commits")
        }
    };
    let why = match format {
        Format::Uncommitted => "its files may be half-made, or never count",
        _ => "which of their rows count stands in the table's own log, so they are not read as plain Parquet",
    };
    Error::data(format!("these are {what}: {why}")).file(root).hint(hint)
}

const BUILD_OR_EXPORT: &str = "`make lakehouse` builds the program that reads the table; this one does not: write the rows \
                               that count to a Parquet directory outside the table";
const NAME_METADATA: &str = "name the table in its catalog, iceberg://CATALOG/NAMESPACE.TABLE, or the metadata file that the catalog \
                             has, metadata/....metadata.json; the program that `make lakehouse` builds reads the table by either";
const EXPORT: &str = "write the rows that count to a Parquet directory outside the table, with an engine that \
                      reads the format, and name that directory";

fn holds_iceberg_metadata(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.contains(".metadata.json") || name == "version-hint.text"
    })
}

/// `base_0000001`, `delta_0000001_0000002`, `delta_0000001_0000001_0000`, `delete_delta_...`; with `_v0000003`
/// behind where a compaction made it.
fn is_hive_transaction(name: &str) -> bool {
    let (rest, least) = match name.strip_prefix("base_") {
        Some(rest) => (rest, 1),
        None => match name.strip_prefix("delete_delta_").or_else(|| name.strip_prefix("delta_")) {
            Some(rest) => (rest, 2),
            None => return false,
        },
    };
    let digits = |s: &&str| s.len() >= 7 && s.bytes().all(|b| b.is_ascii_digit());
    rest.split('_').take_while(digits).count() >= least
}

/// Whether a name is hidden: it is no data, whatever it holds.
pub fn hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

/// Whether a part of `path` after its first `fixed` names is hidden.
pub fn hidden_after(path: &Path, fixed: usize) -> bool {
    names(path).skip(fixed).any(|name| hidden(&name))
}

/// The names of which a path consists.
pub fn names(path: &Path) -> impl Iterator<Item = String> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_of_hive_are_known_by_their_folders() {
        for name in [
            "base_0000007",
            "delta_0000001_0000001_0000",
            "delete_delta_0000002_0000003",
            "base_0000005_v0000042",
        ] {
            assert!(is_hive_transaction(name), "{name}");
        }
        for name in ["base_1", "delta_force", "delta_2026_09", "base_line", "ds=2026-09-01"] {
            assert!(!is_hive_transaction(name), "{name}");
        }
    }
}
