//! What a pipeline file may say: each refusal names the key and the value.

use std::collections::BTreeMap;

use crate::config::{Abstain, Pipeline};
use crate::error::{Error, Result};
use crate::lake::catalog;
use crate::lake::location::Location;
use crate::lake::scan::locate::escape;
use crate::lake::tables::Format;

/// What to do for what the feature `lakehouse` adds.
const BUILD: &str = "`make lakehouse` builds the program that does";
/// The most bytes that a folder's name may have on common file systems.
const LONGEST_NAME: usize = 255;

/// What DuckDB, polars, pyarrow or pandas make of a partition's value that is no text to them; none where all
/// of them give the text back. Tried on each of them.
fn taken_for(value: &str) -> Option<&'static str> {
    let text = value.trim();
    let lower = text.to_lowercase();
    let unsigned = lower.trim_start_matches(['-', '+']);
    let digits = |s: &str| !s.is_empty() && s.chars().all(char::is_alphanumeric);
    let groups: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|g| !g.is_empty()).collect();
    let of_time = text.chars().all(|c| c.is_ascii_digit() || "-/.: TZ+,".contains(c));
    if text == "__HIVE_DEFAULT_PARTITION__" {
        Some("null")
    } else if text.parse::<f64>().is_ok()
        || (!text.is_empty() && text.chars().all(char::is_numeric))
        || ["0x", "0b", "0o"].iter().any(|p| unsigned.strip_prefix(p).is_some_and(digits))
    {
        Some("a number")
    } else if ["true", "false"].contains(&lower.as_str()) {
        Some("true or false")
    } else if lower == "epoch"
        || (of_time && (groups.len() >= 3 || (groups.len() == 2 && text.contains(':'))))
    {
        Some("a date or a time")
    } else {
        None
    }
}

impl Pipeline {
    /// All of it; called once, when the file is read.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &'static str, value: &dyn std::fmt::Display, wanted: &str| {
            Err(Error::config(wanted).with("key", key).value(value))
        };
        let plain = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if !plain(&self.name) || self.name.len() > 100 {
            return bad("name", &self.name, "a name is 1 to 100 of a-z, 0-9, - and _");
        }
        if self.classes.len() < 2 || self.classes.len() > 1000 {
            return bad("classes", &self.classes.len(), "between 2 and 1000 classes are needed");
        }
        for (i, class) in self.classes.iter().enumerate() {
            if class.is_empty() || class.contains('\0') {
                return bad("classes", &format!("{class:?}"), "a class needs a name without NUL");
            }
            if self.classes[..i].contains(class) {
                return bad("classes", class, "this class stands twice");
            }
        }
        if self.teachers.len() < 2 {
            return Err(Error::config(format!(
                "at least two teachers are needed, the pipeline names {}",
                self.teachers.len()
            ))
            .with("key", "teachers"));
        }
        self.check_shares()?;
        self.check_abstain()?;
        let share = |key: &'static str, v: f64, low: f64, high: f64| match (low..=high).contains(&v) {
            true => Ok(()),
            false => {
                Err(Error::config(format!("must lie between {low} and {high}")).with("key", key).value(v))
            }
        };
        share("target.known_fall", self.target.known_fall, 0.0, 1.0)?;
        share("student.held_out_share", self.student.held_out_share, 0.01, 0.5)?;
        share("student.min_agreement", self.student.min_agreement, 0.0, 1.0)?;
        share("student.max_kl", self.student.max_kl, 0.0, f64::MAX)?;
        share("student.max_training_rows", self.student.max_training_rows as f64, 100.0, 1e9)?;
        let [low, high] = self.gates.volume;
        if !(0.0 <= low && low <= high) {
            return bad(
                "gates.volume",
                &format!("[{low}, {high}]"),
                "a least and a greatest multiple are needed, [LEAST, MOST]",
            );
        }
        share("gates.shares", self.gates.shares, 0.0, f64::MAX)?;
        for key in &self.output.partition_by {
            if !["class", "decision"].contains(&key.as_str()) {
                return bad(
                    "output.partition_by",
                    key,
                    "the table can be partitioned by \"class\" and \"decision\"",
                );
            }
        }
        self.check_class_folders()?;
        if !["parquet", "delta", "iceberg"].contains(&self.output.format.as_str()) {
            return bad(
                "output.format",
                &self.output.format,
                "tables are written as \"parquet\", \"delta\" or \"iceberg\"",
            );
        }
        self.check_catalogs()?;
        self.target.pin()?;
        for (key, text) in [("target.accounts", &self.target.accounts), ("output.path", &self.output.path)] {
            let place = Location::parse(text, &self.root).map_err(|e| e.with("key", key))?;
            if let Location::Table(_) = place {
                self.check_place(key, text)?;
            }
        }
        self.check_output()
    }

    /// A catalog is one that can be asked, and Iceberg tables have one and a namespace.
    fn check_catalogs(&self) -> Result<()> {
        let plain =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        for (name, settings) in &self.catalogs {
            if !plain(name) {
                return Err(Error::config("the name of a catalog is of letters, digits, - and _")
                    .with("key", "catalog")
                    .value(name));
            }
            catalog::check(name, settings)?;
        }
        let (catalog, namespace) = (&self.output.catalog, &self.output.namespace);
        for (key, value) in [("output.catalog", catalog), ("output.namespace", namespace)] {
            match (self.output.format == "iceberg", value) {
                (true, None) => {
                    return Err(
                        Error::config("Iceberg tables are in a catalog and a namespace").with("key", key)
                    );
                }
                (false, Some(value)) => {
                    return Err(Error::config("only output.format = \"iceberg\" has this key")
                        .with("key", key)
                        .value(value));
                }
                _ => {}
            }
        }
        if let Some(name) = catalog.as_ref().filter(|name| !self.catalogs.contains_key(*name)) {
            return Err(unknown_catalog("output.catalog", name));
        }
        match namespace.as_ref().filter(|n| !n.split('.').all(plain)) {
            Some(name) => {
                Err(Error::config("a namespace is of letters, digits, -, _ and dots between its levels")
                    .with("key", "output.namespace")
                    .value(name))
            }
            None => Ok(()),
        }
    }

    /// A table in a catalog is an input, and its catalog one of the pipeline's.
    fn check_place(&self, key: &'static str, text: &str) -> Result<()> {
        if key == "output.path" {
            return Err(Error::config(
                "the output is a directory or an object store, also where its tables are in a catalog",
            )
            .with("key", key)
            .value(text));
        }
        let name = catalog::Name::parse(text)?.catalog;
        if self.catalogs.contains_key(&name) { Ok(()) } else { Err(unknown_catalog(key, &name)) }
    }

    fn check_output(&self) -> Result<()> {
        let tables = self.tables();
        let refuse = |key: &str, value: &dyn std::fmt::Display, why: &str, hint: &str| {
            Err(Error::config(why).with("key", key).value(value).hint(hint))
        };
        let (here, format) = (cfg!(feature = "lakehouse"), &self.output.format);
        match &tables.output {
            Location::Object(uri) if !here => {
                refuse("output.path", uri, "this program writes to directories", BUILD)
            }
            Location::Path(_) if !here && tables.format != Format::Parquet => {
                refuse("output.format", format, "this program writes \"parquet\"", BUILD)
            }
            Location::Object(uri) if tables.format == Format::Parquet && !self.output.not_atomic => refuse(
                "output.path",
                uri,
                "in an object store nothing makes the Parquet files of a date appear together",
                "output.format = \"delta\" publishes a date in one step; output.not_atomic = true writes \
                 Parquet all the same, and a reader may meet files of two runs",
            ),
            _ => Ok(()),
        }
    }

    /// A class that is a folder's name is what readers make of it: each must give the very text back.
    fn check_class_folders(&self) -> Result<()> {
        let refuse = |class: &String, why: String| {
            Err(Error::config(why).with("key", "output.partition_by").value(class).hint(
                "leave \"class\" out of output.partition_by: the table then holds it as a column of text",
            ))
        };
        let mut seen: BTreeMap<String, &String> = BTreeMap::new();
        for class in self.class_folders() {
            let folder = format!("class={}", escape(class));
            if let Some(what) = taken_for(class) {
                return refuse(class, format!("in a path, readers take this class for {what}"));
            }
            if folder.len() > LONGEST_NAME {
                let why = format!(
                    "as a folder's name this class takes {} bytes of at most {LONGEST_NAME}",
                    folder.len()
                );
                return refuse(class, why);
            }
            if let Some(twin) = seen.insert(class.to_lowercase(), class) {
                return refuse(class, format!("some file systems do not tell this class from {twin:?}"));
            }
        }
        Ok(())
    }

    fn check_abstain(&self) -> Result<()> {
        let known = |class: &String, key: String| match self.classes.contains(class) {
            true => Ok(()),
            false => Err(Error::config("fuse.costs names a class that is not in classes")
                .with("key", key)
                .value(class)),
        };
        for (is, costs) in self.fuse.costs.iter().flatten() {
            known(is, "fuse.costs".to_string())?;
            for (decided, cost) in costs {
                let key = format!("fuse.costs.{is}");
                known(decided, key.clone())?;
                if !(0.0..f64::INFINITY).contains(cost) {
                    return Err(Error::config("a cost is a finite number and not negative")
                        .with("key", format!("{key}.{decided}"))
                        .value(cost));
                }
            }
        }
        let Abstain { cost, min_support, max_disagreement } = &self.fuse.abstain;
        let limits = [
            ("fuse.abstain.cost", cost, 0.0),
            ("fuse.abstain.min_support", min_support, f64::MIN),
            ("fuse.abstain.max_disagreement", max_disagreement, 0.0),
        ];
        for (key, value, least) in limits {
            if let Some(value) = value.filter(|v| !(least..f64::INFINITY).contains(v)) {
                let wanted = if least == 0.0 {
                    "a finite number, not negative, is expected"
                } else {
                    "a finite number is expected"
                };
                return Err(Error::config(wanted).with("key", key).value(value));
            }
        }
        Ok(())
    }

    fn check_shares(&self) -> Result<()> {
        let Some(shares) = &self.target.class_shares else { return Ok(()) };
        let mut least = 0.0;
        for (class, share) in shares {
            let (low, high) = share.range();
            if !self.classes.contains(class) {
                return Err(Error::config("class_shares names a class that is not in classes")
                    .with("key", "target.class_shares")
                    .value(class));
            }
            if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
                return Err(Error::config("a share lies between 0 and 1, a range goes from low to high")
                    .with("key", format!("target.class_shares.{class}"))
                    .value(format!("[{low}, {high}]")));
            }
            least += low;
        }
        let all = shares.len() == self.classes.len();
        let most: f64 = shares.values().map(|s| s.range().1).sum();
        if least > 1.0 + 1e-3 || (all && most < 1.0 - 1e-3) {
            return Err(Error::config("the class shares cannot sum to 1")
                .with("key", "target.class_shares")
                .value(least));
        }
        Ok(())
    }
}

fn unknown_catalog(key: &'static str, name: &str) -> Error {
    Error::config("the pipeline names no catalog of this name")
        .with("key", key)
        .value(name)
        .hint(format!("[catalog.{name}] with type and uri"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_readers_take_for_others_are_known() {
        let taken = [
            "01",
            "1",
            "1e3",
            "1.5",
            "-1",
            "+1",
            "NaN",
            "inf",
            "-inf",
            "Infinity",
            "true",
            "FALSE",
            "2026-01-01",
            "2026-1-1",
            "12:30",
            "12:30:00",
            "2026-01-01T00:00:00Z",
            "0x1F",
            "1.",
            ".5",
            "0b1",
            "31.12.2026",
            "٣",
            "99999999999999999999",
            "-0",
            "__HIVE_DEFAULT_PARTITION__",
        ];
        for name in taken {
            assert!(taken_for(name).is_some(), "{name}");
        }
        let text = [
            "no",
            "yes",
            "18-25",
            "50%",
            "1st",
            "a b",
            "null",
            "N/A",
            "é",
            "a/b",
            "1,000 or more",
            "1_000",
            "1-2",
            "e1",
            "class 3",
            "2026-W01",
            "_x",
            "true negative",
        ];
        for name in text {
            assert_eq!(taken_for(name), None, "{name}");
        }
    }
}
