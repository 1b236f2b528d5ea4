//! SHA-256 digests of files and of what names a run.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A file's content as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Relative to the directory that the record is about.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Reads `root/name` and digests it.
pub fn file(root: &Path, name: &str) -> Result<FileDigest> {
    named(name, &root.join(name))
}

/// Reads the file at `path` and digests it under a name that survives a move.
pub fn named(name: &str, path: &Path) -> Result<FileDigest> {
    let failed = |e: std::io::Error| Error::io(&e, "cannot read", path);
    let mut input = File::open(path).map_err(failed)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 18]);
    loop {
        let n = input.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok(FileDigest { path: name.to_string(), bytes, sha256: hex(&hash.finalize()) })
}

/// The digest of a text.
pub fn text(content: &str) -> String {
    hex(&Sha256::digest(content.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every file below `root`, sorted by its relative path.
pub fn list(root: &Path) -> Result<Vec<String>> {
    fn walk(root: &Path, folder: &Path, out: &mut Vec<String>) -> Result<()> {
        let failed = |e: std::io::Error| Error::io(&e, "cannot list", folder);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                walk(root, &path, out)?;
            } else {
                out.push(path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(root, root, &mut out)?;
    out.sort();
    Ok(out)
}
