//! Durable effects: whatever a run changes on disk, it changes through a [`Store`].
//!
//! [`Real`] is the file system. The tests have two more, held to the same contract: one in memory that can
//! lose what was not synced, and one that lets any other fail at a chosen step, before or after the step took
//! effect.

pub mod digest;
#[cfg(test)]
pub mod faulty;
pub mod files;
pub mod mount;
#[cfg(test)]
pub mod ram;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A file system, as far as a run needs one. What a step has done is visible at once and durable after
/// [`Store::sync`]: a file's content when the file was synced, its name when the directory was.
pub trait Store: Sync {
    /// Creates one directory; `AlreadyExists` where something is, `NotFound` without the one above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// An empty file in the place of what the name held.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>>;

    /// A second name for a file, or a copy where the file system has no hard links; `AlreadyExists` where
    /// something is.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file, over another one if there is one. Atomic.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file or directory to a place that must be free (`AlreadyExists`). Atomic.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// As [`Store::rename_new`], of a file, and never by a look and a step after it: of those who try at once one
    /// wins. `Unsupported` where the file system has no such step.
    fn commit(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Two files or directories trade places. Atomic; `NotFound` unless both exist, `Unsupported` where the
    /// file system has no such step.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;

    /// Makes a file's content, or a directory's entries, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Says that a file will be synced before long, so that the disk may begin.
    fn begin_sync(&self, _path: &Path) {}

    /// Removes a file, or a directory with all it holds; nothing there is fine. Not atomic.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>>;

    /// The names in a directory in their order, and whether each is a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>>;

    /// Whether anything has this name.
    fn exists(&self, path: &Path) -> bool;
}

/// Whether a file of this name is being written, or was when its process was killed.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Whether an error says that the file system has no such operation; NFS, 9p and FUSE call it an invalid one.
fn lacking(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// The file system.
pub struct Real;

impl Store for Real {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(File::create(path)?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            Err(e)
                if lacking(&e)
                    || matches!(
                        e.kind(),
                        ErrorKind::PermissionDenied | ErrorKind::TooManyLinks | ErrorKind::CrossesDevices
                    ) =>
            {
                // Opened as a new file: a link that was made after all shares its content with `from` and
                // must not be emptied.
                io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(|_| ())
            }
            linked => linked,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
            // A directory is renamed over an empty one at most: what holds something is never replaced.
            Err(e) if lacking(&e) => match fs::symlink_metadata(to) {
                Ok(_) => Err(ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(from, to).map_err(|e| match e.kind() {
                    ErrorKind::DirectoryNotEmpty => ErrorKind::AlreadyExists.into(),
                    _ => e,
                }),
            },
            renamed => renamed,
        }
    }

    fn commit(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
            Err(e) if lacking(&e) => match fs::hard_link(from, to) {
                Ok(()) => fs::remove_file(from),
                Err(e) if lacking(&e) || e.kind() == ErrorKind::PermissionDenied => {
                    Err(io::Error::new(ErrorKind::Unsupported, "a name cannot be taken in one step here"))
                }
                Err(e) => Err(e),
            },
            renamed => renamed,
        }
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(|e| match io::Error::from(e) {
            e if lacking(&e) => {
                io::Error::new(ErrorKind::Unsupported, "directories cannot trade places here")
            }
            e => e,
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        match file.sync_all() {
            // Some file systems take no request for a directory: its entries are theirs to keep.
            Err(e) if lacking(&e) && file.metadata()?.is_dir() => Ok(()),
            synced => synced,
        }
    }

    fn begin_sync(&self, path: &Path) {
        // a wish and no promise: whether it went well is for the sync to say
        #[cfg(target_os = "linux")]
        if let Ok(file) = File::open(path) {
            // SAFETY: the descriptor is open as long as `file` lives; the call touches no memory
            unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        removed.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let name =
            |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir());
        let mut names = fs::read_dir(path)?.map(|entry| entry.map(name)).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }
}
