//! The catalogs of a pipeline (`[catalog.NAME]`), and the names of tables in them: `iceberg://NAME/NAMESPACE.TABLE`.
//!
//! A place is a text everywhere, in a bundle as in a plan, and knows nothing of the pipeline. What its catalog is
//! stands here, where the pipeline file puts it when it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Error, Result, which_column};
use crate::process::secrets::hide;

/// How a catalog is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Iceberg's REST protocol.
    Rest,
    /// The table `iceberg_tables` of a SQLite file, as pyiceberg's SqlCatalog keeps it.
    Sql,
    /// AWS Glue; refused, since it is not asked yet.
    Glue,
}

/// A catalog of Iceberg tables.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `https://host/path` of a REST catalog, `sqlite:///path` of a SQL catalog.
    pub uri: String,
    /// Which of a REST server's warehouses.
    pub warehouse: Option<String>,
    /// A bearer token for a REST server: `"${NAME}"`.
    pub token: Option<String>,
    /// `id:secret`, for which a REST server gives a token: `"${NAME}"`.
    pub credential: Option<String>,
    /// Where the token is asked for; the server's own `v1/oauth/tokens` without it.
    pub oauth2_server_uri: Option<String>,
    /// What the token is asked for; `catalog` without it.
    pub scope: Option<String>,
}

/// A token is never told, whatever prints the pipeline.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} catalog at {}", self.kind, self.uri)
    }
}

static KNOWN: Mutex<BTreeMap<String, Settings>> = Mutex::new(BTreeMap::new());

/// From now on places name this catalog; the path of its file is relative to `root`.
pub fn know(name: &str, settings: &Settings, root: &Path) {
    let mut settings = settings.clone();
    if let Some(path) = sqlite_path(&settings.uri) {
        settings.uri = format!("sqlite:///{}", root.join(path).display());
    }
    for (key, secret) in [("token", &settings.token), ("credential", &settings.credential)] {
        // of a credential the secret alone, too: it goes to the server in a form of its own
        for part in secret.iter().flat_map(|s| [Some(s.as_str()), s.split_once(':').map(|(_, part)| part)]) {
            part.into_iter().for_each(|part| hide(&format!("catalog.{name}.{key}"), part));
        }
    }
    if let Ok(mut known) = KNOWN.lock() {
        known.insert(name.to_string(), settings);
    }
}

/// The settings of a catalog that a place names; unknown: 78.
pub fn settings(name: &str) -> Result<Settings> {
    let known = KNOWN.lock().map_err(|_| Error::bug("a catalog's settings are lost"))?;
    known.get(name).cloned().ok_or_else(|| {
        let error = Error::config("the pipeline names no catalog of this name").value(name);
        match known.is_empty() {
            true => error.hint(format!("[catalog.{name}] with type and uri")),
            false => {
                error.hint(which_column(known.keys().map(String::as_str), name).replace("column", "catalog"))
            }
        }
    })
}

/// A table in a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub catalog: String,
    pub namespace: Vec<String>,
    pub table: String,
}

impl Name {
    /// Reads `iceberg://CATALOG/NAMESPACE.TABLE`; another text: 78.
    pub fn parse(uri: &str) -> Result<Name> {
        let plain = |s: &str| !s.is_empty() && !s.contains(['/', '\u{1f}', '\0']);
        let parts = uri.strip_prefix("iceberg://").and_then(|rest| rest.split_once('/'));
        let parts = parts.and_then(|(catalog, name)| Some((catalog, name.rsplit_once('.')?)));
        match parts {
            Some((catalog, (namespace, table)))
                if plain(catalog) && plain(table) && namespace.split('.').all(plain) =>
            {
                let namespace = namespace.split('.').map(str::to_string).collect();
                Ok(Name { catalog: catalog.to_string(), namespace, table: table.to_string() })
            }
            _ => {
                Err(Error::config("a table in a catalog is named iceberg://CATALOG/NAMESPACE.TABLE")
                    .value(uri))
            }
        }
    }
}

/// Refuses (78) a catalog that cannot be asked, by what is wrong with it.
pub fn check(name: &str, settings: &Settings) -> Result<()> {
    let refuse = |key: &str, value: &str, why: &str| {
        Err(Error::config(why).with("key", format!("catalog.{name}.{key}")).value(value))
    };
    let uri = settings.uri.as_str();
    let of_rest = [
        ("warehouse", &settings.warehouse),
        ("token", &settings.token),
        ("credential", &settings.credential),
        ("oauth2_server_uri", &settings.oauth2_server_uri),
        ("scope", &settings.scope),
    ];
    match settings.kind {
        Kind::Glue => refuse(
            "type",
            "glue",
            "Glue catalogs are not asked: \"rest\" and \"sql\" are, and Glue has a REST endpoint only with AWS's own signatures",
        ),
        Kind::Rest if !(uri.starts_with("https://") || uri.starts_with("http://")) => {
            refuse("uri", uri, "a REST catalog has a URI that begins with https:// or http://")
        }
        Kind::Rest if settings.token.is_some() && settings.credential.is_some() => {
            refuse("token", "", "a token or a credential, not both")
        }
        Kind::Sql if sqlite_path(uri).is_none() => {
            refuse("uri", uri, "a SQL catalog is a SQLite file, sqlite:///path; no other database is asked")
        }
        Kind::Sql => match of_rest.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => refuse(key, "", "only a REST catalog has this key"),
            None => Ok(()),
        },
        Kind::Rest => Ok(()),
    }
}

/// The file of a SQL catalog as SQLAlchemy writes it: three slashes before a relative path, four before an
/// absolute one.
pub fn sqlite_path(uri: &str) -> Option<&str> {
    uri.strip_prefix("sqlite:///").filter(|path| !path.is_empty() && !path.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_a_catalog_has_three_names() {
        let name = Name::parse("iceberg://lake/a.b.couriers").unwrap();
        assert_eq!((name.catalog.as_str(), name.table.as_str()), ("lake", "couriers"));
        assert_eq!(name.namespace, ["a", "b"]);
        for uri in [
            "iceberg://lake",
            "iceberg://lake/t",
            "iceberg:///a.t",
            "iceberg://lake/a..t",
            "iceberg://lake/a.",
            "s3://a/b.c",
        ] {
            assert!(Name::parse(uri).is_err(), "{uri}");
        }
    }
}
