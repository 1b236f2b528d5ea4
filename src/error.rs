//! What can go wrong, and the exit code that says so.
//!
//! | code | kind | retry |
//! |---|---|---|
//! | 2 | usage | no |
//! | 65 | data refused | no |
//! | 66 | a named input does not exist | no |
//! | 70 | a bug | no |
//! | 73 | output cannot be created | no |
//! | 74 | I/O error that will not heal | no |
//! | 75 | try again | **yes** |
//! | 78 | configuration refused | no |
//! | 99 | nothing to do (only on request) | skip |
//! | 130, 143 | SIGINT, SIGTERM honoured | yes |

use std::fmt;
use std::path::Path;

/// Result with the crate's own error.
pub type Result<T> = std::result::Result<T, Error>;

/// The kinds of failure; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Usage,
    Data,
    /// The target holds no account.
    Empty,
    Missing,
    Bug,
    CannotCreate,
    Io,
    TryAgain,
    /// More memory was needed than `--max-memory` allows.
    Memory,
    Config,
    NothingToDo,
    Interrupted,
    Terminated,
}

impl Kind {
    /// The process's exit code; the numbers are sysexits where one exists.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Data | Kind::Empty => 65,
            Kind::Missing => 66,
            Kind::Bug => 70,
            Kind::CannotCreate => 73,
            Kind::Io => 74,
            Kind::TryAgain | Kind::Memory => 75,
            Kind::Config => 78,
            Kind::NothingToDo => 99,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }
}

/// A failure: what was expected and found, where, and what to do next.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    context: Vec<(&'static str, String)>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), context: Vec::new() }
    }

    /// Input data or a model file is refused (65).
    pub fn data(message: impl Into<String>) -> Self {
        Error::new(Kind::Data, message)
    }

    /// The pipeline file or an override is refused (78).
    pub fn config(message: impl Into<String>) -> Self {
        Error::new(Kind::Config, message)
    }

    /// An invariant of ours does not hold (70).
    pub fn bug(message: impl Into<String>) -> Self {
        Error::new(Kind::Bug, message)
    }

    /// An operating-system error on `path`, mapped to the exit code that tells whether a retry can help.
    pub fn io(source: &std::io::Error, doing: &str, path: &Path) -> Self {
        use std::io::ErrorKind as E;
        let kind = match source.kind() {
            E::NotFound => Kind::Missing,
            E::PermissionDenied | E::ReadOnlyFilesystem | E::NotADirectory => Kind::CannotCreate,
            E::StorageFull
            | E::QuotaExceeded
            | E::Interrupted
            | E::WouldBlock
            | E::TimedOut
            | E::ResourceBusy
            | E::StaleNetworkFileHandle => Kind::TryAgain,
            _ => Kind::Io,
        };
        Error::new(kind, format!("{doing}: {source}")).file(path)
    }

    /// Adds a named detail; the first of a name stays, since the place nearest to the fault knows best.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if !self.context.iter().any(|(n, _)| *n == name) {
            self.context.push((name, value.into()));
        }
        self
    }

    pub fn file(self, path: &Path) -> Self {
        self.with("file", path.display().to_string())
    }

    pub fn column(self, name: impl Into<String>) -> Self {
        self.with("column", name)
    }

    pub fn value(self, value: impl fmt::Display) -> Self {
        self.with("value", value.to_string())
    }

    /// What the user can do about it.
    pub fn hint(self, text: impl Into<String>) -> Self {
        self.with("hint", text)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details in the order in which they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for (name, value) in &self.context {
            write!(f, "; {name}: {value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Names that are less like each other than this are other names, not slips of the pen (Jaro-Winkler).
const LIKE: f64 = 0.75;
/// Characters that a list of names may take in a message.
const LONGEST_LIST: usize = 300;

/// Of `names` the one most like `wanted`, whatever their case, if one is like it at all; for messages.
pub fn nearest<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &wanted.to_lowercase());
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|name| likeness(name) >= LIKE)
}

/// Which column may have been meant: the nearest, or all that there are.
pub fn which_column<'a>(names: impl Iterator<Item = &'a str> + Clone, wanted: &str) -> String {
    if let Some(near) = nearest(names.clone(), wanted) {
        return format!("the nearest column is {near:?}");
    }
    let mut list = String::new();
    for name in names {
        if list.len() + name.len() > LONGEST_LIST {
            list.push_str(", ...");
            break;
        }
        list.push_str(if list.is_empty() { "" } else { ", " });
        list.push_str(name);
    }
    format!("the columns are: {list}")
}
