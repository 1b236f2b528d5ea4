//! Whole files of a store: written beside their place, synced, renamed into it; read back; directories made
//! durable.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::lake::store::Store;
use crate::lake::store::digest;

/// Writes JSON as [`write_atomic`] does.
pub fn write_json<T: Serialize>(store: &dyn Store, path: &Path, value: &T) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| Error::bug(format!("cannot write JSON: {e}")))?;
    text.push('\n');
    write_atomic(store, path, text.as_bytes())
}

/// Writes bytes beside `path`, synced, and renames them into place.
pub fn write_atomic(store: &dyn Store, path: &Path, bytes: &[u8]) -> Result<()> {
    replace(store, path, |beside| {
        let written = store.create(beside).and_then(|mut file| file.write_all(bytes));
        written.map_err(|e| cannot_create(&e, path))
    })
}

/// `write` fills a file beside `path`, which is then synced and renamed into place; the directory is synced
/// too.
pub fn replace(store: &dyn Store, path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = temporary(path);
    let written = write(&beside).and_then(|()| sync(store, &beside)).and_then(|()| put(store, &beside, path));
    written.inspect_err(|_| drop(store.remove(&beside)))?;
    sync(store, above(path))
}

/// A name beside `path` for a file that is being written, which no other process uses, on whatever machine it
/// runs; what a killed process leaves under such a name is not taken for a file.
pub fn temporary(path: &Path) -> PathBuf {
    static PROCESS: OnceLock<String> = OnceLock::new();
    let process = PROCESS.get_or_init(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
        digest::text(&format!("{host} {} {since}", std::process::id()))[..12].to_string()
    });
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    above(path).join(format!(".{name}.{process}.tmp"))
}

/// Renames a written file into its place. The answer to a rename can be lost on its way: what counts is what
/// stands there.
pub fn put(store: &dyn Store, beside: &Path, path: &Path) -> Result<()> {
    let renamed = store.rename(beside, path);
    renamed
        .or_else(|e| if store.exists(beside) { Err(e) } else { Ok(()) })
        .map_err(|e| cannot_create(&e, path))
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads what [`write_json`] wrote.
pub fn read_json<T: DeserializeOwned>(store: &dyn Store, path: &Path) -> Result<T> {
    let text = read(store, path).map_err(|e| Error::io(&e, "cannot read", path))?;
    serde_json::from_slice(&text).map_err(|e| Error::data(format!("damaged: {e}")).file(path))
}

/// All of a file.
pub fn read(store: &dyn Store, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates a directory and those above it that are missing, each durable in the one above it.
pub fn create_dir(store: &dyn Store, path: &Path) -> Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !store.exists(p)).collect();
    for folder in missing.into_iter().rev() {
        match store.create_dir(folder) {
            // another run was faster
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            created => created.map_err(|e| cannot_create(&e, folder))?,
        }
        sync(store, above(folder))?;
    }
    Ok(())
}

/// Makes a file or directory durable. A failure ends the run and nothing tries again: after it, nobody knows
/// what reached the disk.
pub fn sync(store: &dyn Store, path: &Path) -> Result<()> {
    store.sync(path).map_err(|e| cannot_create(&e, path))
}

/// Removes a file or a directory with all it holds; nothing there is fine.
pub fn remove(store: &dyn Store, path: &Path) -> Result<()> {
    let removed = if store.exists(path) { store.remove(path) } else { Ok(()) };
    removed.map_err(|e| Error::io(&e, "cannot remove", path))
}

/// A failure to create output: a path that cannot be made is 73, never "missing input".
pub fn cannot_create(e: &std::io::Error, path: &Path) -> Error {
    match Error::io(e, "cannot write", path) {
        error if error.kind() == Kind::Missing || e.kind() == std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::CannotCreate, format!("cannot write: {e}")).file(path)
        }
        error => error,
    }
}
