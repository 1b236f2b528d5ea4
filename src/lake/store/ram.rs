//! A file system in memory that knows what of it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lake::store::Store;

/// Clones are the same file system.
#[derive(Clone)]
pub struct Ram(Arc<Mutex<Disk>>);

/// Files and directories by number; the root is 0.
#[derive(Clone)]
struct Disk {
    nodes: Vec<Node>,
    /// Changes of directories that are not durable yet, in their order.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Node {
    File { now: Vec<u8>, durable: Vec<u8> },
    Folder { now: BTreeMap<String, usize>, durable: BTreeMap<String, usize> },
}

/// Entries (directory, name, what it names from now on) that become durable together: a move changes two.
type Change = Vec<(usize, String, Option<usize>)>;

impl Default for Ram {
    fn default() -> Ram {
        let root = Node::Folder { now: BTreeMap::new(), durable: BTreeMap::new() };
        Ram(Arc::new(Mutex::new(Disk { nodes: vec![root], pending: Vec::new() })))
    }
}

impl Ram {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another file system in the same state.
    pub fn fork(&self) -> Ram {
        Ram(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// Changes of directories that a loss of power may undo.
    pub fn pending(&self) -> usize {
        self.disk().pending.len()
    }

    /// The power is lost. Of the changes that were not synced the first `kept` had reached the disk all the
    /// same; a file that was not synced keeps half of what was added to it.
    pub fn crash(&self, kept: usize) {
        let disk = &mut *self.disk();
        let pending = std::mem::take(&mut disk.pending);
        pending.into_iter().take(kept).for_each(|change| disk.settle(change));
        for node in &mut disk.nodes {
            match node {
                Node::Folder { now, durable } => now.clone_from(durable),
                Node::File { now, durable } => {
                    now.truncate(durable.len() + now.len().saturating_sub(durable.len()) / 2);
                    durable.clone_from(now);
                }
            }
        }
    }

    /// Every file's path and content.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let (disk, mut found) = (self.disk(), BTreeMap::new());
        let mut folders = vec![(0, String::new())];
        while let Some((folder, path)) = folders.pop() {
            let Node::Folder { now, .. } = &disk.nodes[folder] else { continue };
            for (name, node) in now {
                match &disk.nodes[*node] {
                    Node::Folder { .. } => folders.push((*node, format!("{path}/{name}"))),
                    Node::File { now, .. } => drop(found.insert(format!("{path}/{name}"), now.clone())),
                }
            }
        }
        found
    }
}

impl Disk {
    fn folder(&self, node: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.nodes[node] {
            Node::Folder { now, .. } => Ok(now),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        path.components().filter(|c| *c != Component::RootDir).try_fold(0, |node, name| {
            self.folder(node)?
                .get(&*name.as_os_str().to_string_lossy())
                .copied()
                .ok_or_else(|| ErrorKind::NotFound.into())
        })
    }

    /// The directory above a path, and the last name.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let above = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.folder(above).map(|_| (above, name))
    }

    fn free(&self, path: &Path) -> io::Result<(usize, String)> {
        match self.find(path) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => self.place(path),
        }
    }

    fn change(&mut self, change: Change) {
        for (folder, name, to) in &change {
            if let Node::Folder { now, .. } = &mut self.nodes[*folder] {
                set(now, name, *to);
            }
        }
        self.pending.push(change);
    }

    fn settle(&mut self, change: Change) {
        for (folder, name, to) in change {
            if let Node::Folder { durable, .. } = &mut self.nodes[folder] {
                set(durable, &name, to);
            }
        }
    }

    /// A directory's pending changes become durable, and of other directories only what they cannot do
    /// without: the other half of a move, and what happened to the same names before it.
    fn sync_folder(&mut self, folder: usize) {
        let mut names: BTreeSet<(usize, String)> = BTreeSet::new();
        let (mut settled, mut left) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.iter().any(|(f, name, _)| *f == folder || names.contains(&(*f, name.clone()))) {
                names.extend(change.iter().map(|(f, name, _)| (*f, name.clone())));
                settled.push(change);
            } else {
                left.push(change);
            }
        }
        settled.into_iter().rev().for_each(|change| self.settle(change));
        self.pending = left.into_iter().rev().collect();
    }

    fn remove(&mut self, above: usize, name: &str, node: usize) {
        if let Node::Folder { now, .. } = &self.nodes[node] {
            now.clone().into_iter().for_each(|(name, below)| self.remove(node, &name, below));
        }
        self.change(vec![(above, name.to_string(), None)]);
    }
}

fn set(entries: &mut BTreeMap<String, usize>, name: &str, to: Option<usize>) {
    match to {
        Some(node) => drop(entries.insert(name.to_string(), node)),
        None => drop(entries.remove(name)),
    }
}

impl Store for Ram {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let (above, name) = disk.free(path)?;
        disk.nodes.push(Node::Folder { now: BTreeMap::new(), durable: BTreeMap::new() });
        let node = disk.nodes.len() - 1;
        disk.change(vec![(above, name, Some(node))]);
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        let mut disk = self.disk();
        let node = match disk.find(path) {
            Ok(node) => node,
            Err(_) => {
                let (above, name) = disk.place(path)?;
                disk.nodes.push(Node::File { now: Vec::new(), durable: Vec::new() });
                let node = disk.nodes.len() - 1;
                disk.change(vec![(above, name, Some(node))]);
                node
            }
        };
        match &mut disk.nodes[node] {
            Node::File { now, .. } => now.clear(),
            Node::Folder { .. } => return Err(ErrorKind::IsADirectory.into()),
        }
        Ok(Box::new(Writer { ram: self.clone(), node }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = disk.find(from)?;
        let (above, name) = disk.free(to)?;
        disk.change(vec![(above, name, Some(node))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = disk.find(from)?;
        if let Ok(there) = disk.find(to)
            && disk.folder(there).is_ok()
        {
            return Err(ErrorKind::IsADirectory.into());
        }
        let ((above, name), (new_above, new_name)) = (disk.place(from)?, disk.place(to)?);
        disk.change(vec![(above, name, None), (new_above, new_name, Some(node))]);
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = disk.find(from)?;
        let ((above, name), (new_above, new_name)) = (disk.place(from)?, disk.free(to)?);
        disk.change(vec![(above, name, None), (new_above, new_name, Some(node))]);
        Ok(())
    }

    fn commit(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_new(from, to)
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let (left, right) = (disk.find(a)?, disk.find(b)?);
        let ((above_a, name_a), (above_b, name_b)) = (disk.place(a)?, disk.place(b)?);
        disk.change(vec![(above_a, name_a, Some(right)), (above_b, name_b, Some(left))]);
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = disk.find(path)?;
        match &mut disk.nodes[node] {
            Node::File { now, durable } => durable.clone_from(now),
            Node::Folder { .. } => disk.sync_folder(node),
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if let Ok(node) = disk.find(path) {
            let (above, name) = disk.place(path)?;
            disk.remove(above, &name, node);
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let disk = self.disk();
        match &disk.nodes[disk.find(path)?] {
            Node::File { now, .. } => Ok(Box::new(Cursor::new(now.clone()))),
            Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let disk = self.disk();
        let entries = disk.folder(disk.find(path)?)?;
        Ok(entries
            .iter()
            .map(|(name, node)| (name.clone(), matches!(disk.nodes[*node], Node::Folder { .. })))
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk().find(path).is_ok()
    }
}

struct Writer {
    ram: Ram,
    node: usize,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Node::File { now, .. } = &mut self.ram.disk().nodes[self.node] {
            now.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
