//! The ways to put a file to a [`Location`]: whole and durable, or not at all.

use std::io::{ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::lake::location::Location;
use crate::lake::objects;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{cannot_create, create_dir, sync, temporary};
use crate::lake::store::{Store, mount};

/// Writes a file where none is, in one step that one of several writers wins; false for the others. An answer
/// can be lost: after an error, or a false, the caller looks whose file stands there.
pub fn write_new(store: &dyn Store, place: &Location, bytes: Bytes) -> Result<bool> {
    let Location::Path(path) = place else { return objects::write_new(&place.to_string(), bytes) };
    let folder = above(path);
    create_dir(store, folder)?;
    let beside = temporary(path);
    let taken = |e: std::io::Error| match e.kind() {
        ErrorKind::AlreadyExists => Ok(false),
        ErrorKind::Unsupported => Err(Error::new(Kind::CannotCreate, e.to_string())
            .file(path)
            .with("file system", mount::file_system(folder))
            .hint(
                "a Delta table must lie where a name is taken in one step, as on the file systems of Linux",
            )),
        _ => Err(cannot_create(&e, path)),
    };
    let written = store.create(&beside).and_then(|mut file| file.write_all(&bytes));
    let put = written
        .map_err(|e| cannot_create(&e, path))
        .and_then(|()| sync(store, &beside))
        .and_then(|()| store.commit(&beside, path).map_or_else(taken, |()| Ok(true)));
    if !matches!(put, Ok(true)) {
        let _ = store.remove(&beside);
    }
    put.and_then(|won| sync(store, folder).map(|()| won))
}

/// Puts a file of the run directory, of which the digest is known, to its place in a table. What an earlier
/// try of the same run left there is kept if it is whole.
pub fn put_file(store: &dyn Store, from: &Path, known: &FileDigest, place: &Location) -> Result<()> {
    let Location::Path(path) = place else { return objects::upload(from, &place.to_string()) };
    let folder = above(path);
    create_dir(store, folder)?;
    if store
        .open(path)
        .and_then(|file| digest::read(&known.path, file))
        .ok()
        .is_none_or(|d| (d.bytes, &d.sha256) != (known.bytes, &known.sha256))
    {
        store.remove(path).and_then(|()| store.link(from, path)).map_err(|e| cannot_create(&e, path))?;
    }
    // once a sync has failed, the next one may succeed without the lost bytes: the stage has to write it anew
    sync(store, path).inspect_err(|_| drop(store.remove(from)))?;
    sync(store, folder)
}

/// Removes a file; none there is fine.
pub fn remove(store: &dyn Store, place: &Location) -> Result<()> {
    match place {
        Location::Path(path) => store.remove(path).map_err(|e| Error::io(&e, "cannot remove", path)),
        Location::Object(uri) => objects::remove(uri),
    }
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
