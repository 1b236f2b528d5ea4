//! Another store with failpoints before and after each of its steps. Only tests have it: it is no part of the
//! released program.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Store;

/// When a failpoint is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Before,
    /// Half of the bytes of a `write` are written.
    Half,
    /// The step took effect; an error now is an answer that was lost.
    After,
}

/// A failpoint: the place in a run, named by the step and the path that the step is about (of two, the one
/// that it makes).
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Steps before this one.
    pub number: usize,
    pub when: When,
    pub step: &'static str,
    pub path: &'a Path,
}

/// What happens at a failpoint: nothing, or an error that the caller of the step gets.
pub type Plan = Arc<dyn Fn(&Point) -> Option<io::Error> + Send + Sync>;

/// A store that passes failpoints.
pub struct Faulty<S> {
    inner: S,
    points: Points,
}

#[derive(Clone)]
struct Points {
    plan: Plan,
    steps: Arc<AtomicUsize>,
}

impl<S: Store> Faulty<S> {
    pub fn new(inner: S, plan: Plan) -> Faulty<S> {
        Faulty { inner, points: Points { plan, steps: Arc::default() } }
    }
}

impl Points {
    fn step<T>(&self, step: &'static str, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        self.at(number, When::Before, step, path)?;
        let done = act()?;
        self.at(number, When::After, step, path)?;
        Ok(done)
    }

    fn at(&self, number: usize, when: When, step: &'static str, path: &Path) -> io::Result<()> {
        (self.plan)(&Point { number, when, step, path }).map_or(Ok(()), Err)
    }
}

impl<S: Store> Store for Faulty<S> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.points.step("create_dir", path, || self.inner.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        let inner = self.points.step("create", path, || self.inner.create(path))?;
        Ok(Box::new(Writer { inner, path: path.to_path_buf(), points: self.points.clone() }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.points.step("link", to, || self.inner.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.points.step("rename", to, || self.inner.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.points.step("rename_new", to, || self.inner.rename_new(from, to))
    }

    fn commit(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.points.step("commit", to, || self.inner.commit(from, to))
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.points.step("exchange", b, || self.inner.exchange(a, b))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.points.step("sync", path, || self.inner.sync(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.points.step("remove", path, || self.inner.remove(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        self.points.step("open", path, || self.inner.open(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        self.points.step("list", path, || self.inner.list(path))
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }
}

struct Writer {
    inner: Box<dyn Write + Send>,
    path: std::path::PathBuf,
    points: Points,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let number = self.points.steps.fetch_add(1, Ordering::Relaxed);
        self.points.at(number, When::Before, "write", &self.path)?;
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        self.inner.write_all(half)?;
        self.points.at(number, When::Half, "write", &self.path)?;
        self.inner.write_all(rest)?;
        self.points.at(number, When::After, "write", &self.path)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
