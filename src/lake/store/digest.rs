//! SHA-256 digests of files and of what names a run.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::lake::input;
use crate::lake::location::{FileId, Location};
use crate::lake::store::{Store, is_temporary};

/// A file's content as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Relative to the directory that the record is about.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Reads `root/name` and digests it.
pub fn file(store: &dyn Store, root: &Path, name: &str) -> Result<FileDigest> {
    let path = root.join(name);
    store.open(&path).and_then(|input| read(name, input)).map_err(|e| Error::io(&e, "cannot read", &path))
}

/// Reads the file at `path` and digests it under a name that survives a move. An object is not read for that:
/// its ETag stands for its digest.
pub fn named(name: &str, path: &Path) -> Result<FileDigest> {
    if let place @ Location::Object(_) = Location::from(path) {
        let missing = || Error::new(Kind::Missing, "nothing is there").file(path);
        let FileId { bytes, version } = input::stat(&place)?.ok_or_else(missing)?;
        return Ok(FileDigest { path: name.to_string(), bytes, sha256: format!("{version:?}") });
    }
    File::open(path).and_then(|input| read(name, input)).map_err(|e| Error::io(&e, "cannot read", path))
}

/// Digests what `input` gives, under a name.
pub fn read(name: &str, mut input: impl Read) -> io::Result<FileDigest> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 18]);
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(FileDigest { path: name.to_string(), bytes, sha256: hex(&hash.finalize()) })
}

/// The digest of some bytes.
pub fn bytes(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The digest of a text.
pub fn text(content: &str) -> String {
    hex(&Sha256::digest(content.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every file below `root` that is not being written, sorted by its relative path.
pub fn list(store: &dyn Store, root: &Path) -> Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        let path = if folder.is_empty() { root.to_path_buf() } else { root.join(&folder) };
        for (name, is_folder) in store.list(&path).map_err(|e| Error::io(&e, "cannot list", &path))? {
            let temporary = is_temporary(&name);
            let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if is_folder {
                folders.push(below);
            } else if !temporary {
                files.push(below);
            }
        }
    }
    files.sort();
    Ok(files)
}
