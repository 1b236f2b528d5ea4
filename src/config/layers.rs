//! From texts to one table: the defaults, the file over them, overrides over the file; unknown keys refused,
//! `${NAME}` expanded.

use toml::{Table, Value};

use crate::config::defaults;
use crate::error::{Error, Result, nearest};
use crate::process::secrets::{hide, names_a_secret};

/// Keys that have no default, as dotted paths.
const WITHOUT_DEFAULT: &[&str] = &[
    "name",
    "classes",
    "secrets",
    "target.accounts",
    "target.id",
    "target.where",
    "target.class_shares",
    "target.labels",
    "target.version",
    "target.as_of",
    "relevance.calculator",
    "fuse.costs",
    "fuse.abstain.cost",
    "fuse.abstain.min_support",
    "fuse.abstain.max_disagreement",
    "teachers.bundle",
    "teachers.classes",
    "output.path",
    "output.catalog",
    "output.namespace",
    "catalog",
];

/// Tables whose keys are names that the user gives.
const FREE: &[&str] = &["target.class_shares", "teachers.classes", "fuse.costs", "catalog"];

/// The table that a pipeline file of this text means.
pub fn merge(
    text: &str,
    overrides: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Value> {
    let mut user: Table = text
        .parse()
        .map_err(|e: toml::de::Error| Error::config(format!("not valid TOML: {}", e.message())))?;
    for pair in overrides {
        set(&mut user, pair)?;
    }
    let defaults = defaults::table()?;
    let mut known: Vec<String> = WITHOUT_DEFAULT.iter().map(|s| s.to_string()).collect();
    list_keys(&defaults, "", &mut known);
    refuse_unknown(&user, "", &known)?;
    let marked: Vec<String> = match user.get("secrets") {
        Some(Value::Array(names)) => names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect(),
        _ => Vec::new(),
    };
    expand(&mut user, "", &|name| {
        let found = environment(name)?;
        if names_a_secret(name) || marked.iter().any(|m| m == name) {
            hide(name, &found);
        }
        Some(found)
    })?;
    Ok(Value::Table(overlay(defaults, user)))
}

/// Applies `key.path=value`; the value is TOML, and what is not TOML is a string.
fn set(table: &mut Table, pair: &str) -> Result<()> {
    let refuse =
        |why: &str| Error::new(crate::error::Kind::Usage, why).with("argument", format!("--set {pair}"));
    let (path, text) = pair.split_once('=').ok_or_else(|| refuse("--set takes key.path=value"))?;
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let (parents, last) = path.trim().rsplit_once('.').map_or((None, path.trim()), |(p, l)| (Some(p), l));
    let mut place = table;
    for name in parents.into_iter().flat_map(|p| p.split('.')) {
        let next = place.entry(name).or_insert_with(|| Value::Table(Table::new()));
        place = next.as_table_mut().ok_or_else(|| refuse("--set reaches into a key that is not a table"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

fn list_keys(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => list_keys(inner, &format!("{prefix}{key}."), out),
            _ => out.push(format!("{prefix}{key}")),
        }
    }
}

/// Every key of the user's file must be known; the error names the nearest known one.
fn refuse_unknown(table: &Table, prefix: &str, known: &[String]) -> Result<()> {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        if FREE.contains(&path.as_str()) {
            continue;
        }
        let inside = format!("{path}.");
        let is_table = known.iter().any(|k| k.starts_with(&inside));
        match value {
            Value::Table(inner) if is_table => refuse_unknown(inner, &inside, known)?,
            Value::Array(items) if is_table => {
                for item in items {
                    let inner = item.as_table().ok_or_else(|| {
                        Error::config("a table is expected here").with("key", path.clone()).value(item)
                    })?;
                    refuse_unknown(inner, &inside, known)?;
                }
            }
            _ if known.contains(&path) => {}
            _ => {
                let nearest = nearest(known.iter().map(String::as_str), &path);
                let error = Error::config("unknown key").with("key", path);
                return Err(match nearest {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

/// Replaces `${NAME}` in every string by the environment variable.
fn expand(table: &mut Table, prefix: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    fn walk(value: &mut Value, path: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        match value {
            Value::String(text) => {
                let mut out = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${") {
                    let (name, tail) = after
                        .split_once('}')
                        .ok_or_else(|| Error::config("${ without }").with("key", path))?;
                    let found = environment(name).ok_or_else(|| {
                        Error::config("environment variable is not set").with("key", path).value(name)
                    })?;
                    out.push_str(before);
                    out.push_str(&found);
                    rest = tail;
                }
                out.push_str(rest);
                *text = out;
            }
            Value::Array(items) => items.iter_mut().try_for_each(|v| walk(v, path, environment))?,
            Value::Table(inner) => expand(inner, &format!("{path}."), environment)?,
            _ => {}
        }
        Ok(())
    }
    table.iter_mut().try_for_each(|(key, value)| walk(value, &format!("{prefix}{key}"), environment))
}

fn overlay(mut base: Table, top: Table) -> Table {
    for (key, value) in top {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                *below = overlay(std::mem::take(below), above)
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    base
}
