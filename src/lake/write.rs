//! The ways to put a file to a [`Location`]: whole and durable, or not at all.

use std::io::{ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::lake::input;
use crate::lake::location::Location;
use crate::lake::objects;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{cannot_create, create_dir, sync, temporary};
use crate::lake::store::{Store, mount};

/// Writes a file where none is, in one step that one of several writers wins; false for the others. An answer
/// can be lost: after an error, or a false, the caller looks whose file stands there.
///
/// `desk` is a directory of the run, which removes what it left there when it was killed; the file is made
/// there, or beside its place where that is another file system.
pub fn write_new(store: &dyn Store, place: &Location, bytes: Bytes, desk: &Path) -> Result<bool> {
    let Location::Path(path) = place else { return objects::write_new(&place.to_string(), bytes) };
    let folder = above(path);
    create_dir(store, folder)?;
    create_dir(store, desk)?;
    let from = |made: &Path| -> Result<std::io::Result<()>> {
        let written = store.create(made).and_then(|mut file| file.write_all(&bytes));
        written.map_err(|e| cannot_create(&e, path)).and_then(|()| sync(store, made))?;
        Ok(store.commit(made, path))
    };
    let put = |made: &Path| {
        let put = from(made);
        if !matches!(put, Ok(Ok(()))) {
            let _ = store.remove(made);
        }
        put
    };
    let name = path.file_name().unwrap_or_default();
    let put = match put(&desk.join(name))? {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => put(&temporary(path))?,
        put => put,
    };
    let won = match put {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            return Err(Error::new(Kind::CannotCreate, e.to_string())
                .file(path)
                .with("file system", mount::file_system(folder))
                .hint(
                    "a Delta table must lie where a name is taken in one step, as on the file systems of Linux",
                ));
        }
        Err(e) => return Err(cannot_create(&e, path)),
    };
    sync(store, folder).map(|()| won)
}

/// Writes a file under a name that nobody else uses and nobody knows yet.
pub fn write_unique(store: &dyn Store, place: &Location, bytes: Bytes) -> Result<()> {
    let Location::Path(path) = place else { return objects::write(&place.to_string(), bytes) };
    create_dir(store, above(path))?;
    let written = store.create(path).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|e| cannot_create(&e, path))?;
    sync(store, path)?;
    sync(store, above(path))
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

/// Uploads the files below `source`, and removes others. Nothing makes several objects appear at once: a reader who
/// begins with the one named `last` finds none while they change.
pub fn put_objects(
    store: &dyn Store,
    source: &Path,
    place: &Location,
    last: &str,
) -> Result<Vec<FileDigest>> {
    let mut names = digest::list(store, source)?;
    names.sort_by_key(|name| name == last);
    let mut files = names.iter().map(|name| digest::file(store, source, name)).collect::<Result<Vec<_>>>()?;
    remove(store, &place.join(last))?;
    for file in &files {
        put_file(store, &source.join(&file.path), file, &place.join(&file.path))?;
    }
    for (old, _) in input::list(place, None)?.into_iter().filter(|(name, _)| !names.contains(name)) {
        remove(store, &place.join(&old))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Removes a file; none there is fine.
pub fn remove(store: &dyn Store, place: &Location) -> Result<()> {
    match place {
        Location::Path(path) => store.remove(path).map_err(|e| Error::io(&e, "cannot remove", path)),
        Location::Object(uri) => objects::remove(uri),
        Location::Table(uri) => Err(Error::bug("a table is no file").value(uri)),
    }
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
