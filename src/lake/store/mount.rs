//! What kind of file system a path lies on, for messages, and how long a name it takes.

use std::path::{Path, PathBuf};

/// The nearest folder above `path`, or itself, that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let found = absolute.ancestors().find_map(|a| a.canonicalize().ok());
    found.unwrap_or_else(|| PathBuf::from("/"))
}

/// The type of the file system below `path` as the system names it, `nfs4` or `fuse.sshfs` say.
pub fn file_system(path: &Path) -> String {
    let folder = existing(path);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // number, parent, device, root, mount point, options ... - type, source, options
    let of_line = |line: &str| -> Option<(usize, String)> {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        folder.starts_with(&point).then(|| Some((depth, right.split(' ').next()?.to_string())))?
    };
    let nearest = mounts.lines().filter_map(of_line).max_by_key(|(depth, _)| *depth);
    nearest.map_or_else(|| "unknown".to_string(), |(_, kind)| kind)
}

/// The most bytes that a name may have on the file system below `path`.
pub fn longest_name(path: &Path) -> usize {
    let longest = rustix::fs::statvfs(existing(path)).map_or(255, |s| s.f_namemax);
    usize::try_from(longest).unwrap_or(255).clamp(1, 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_place_that_is_not_there_yet_is_that_above_it() {
        assert_ne!(file_system(Path::new("/proc/self/not/there")), "unknown");
        assert_eq!(file_system(Path::new("/proc/self/not/there")), "proc");
        assert!(longest_name(Path::new("/not/there")) >= 14);
    }
}
