//! The contract of every store, and what is particular to those of the tests.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::lake::store::faulty::{Faulty, Point, When};
use crate::lake::store::ram::Ram;
use crate::lake::store::{Real, Store};

fn write(store: &dyn Store, path: &Path, text: &str) {
    store.create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
}

fn text(store: &dyn Store, path: &Path) -> String {
    let mut text = String::new();
    store.open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("a text");
    text
}

fn refused<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

/// What every store does, below the directory `root`.
fn contract(store: &dyn Store, root: &Path) {
    let at = |path: &str| root.join(path);
    // directories
    store.create_dir(&at("a")).expect("a directory");
    assert_eq!(refused(store.create_dir(&at("a"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(refused(store.create_dir(&at("b/c"))), Some(ErrorKind::NotFound));
    // files
    write(store, &at("a/x"), "first");
    write(store, &at("a/x"), "2nd");
    assert_eq!(text(store, &at("a/x")), "2nd");
    assert_eq!(refused(store.create(&at("b/x"))), Some(ErrorKind::NotFound));
    assert_eq!(refused(store.open(&at("a/y"))), Some(ErrorKind::NotFound));
    store.sync(&at("a/x")).and_then(|()| store.sync(&at("a"))).expect("durable");
    assert_eq!(refused(store.sync(&at("a/y"))), Some(ErrorKind::NotFound));
    // links
    store.link(&at("a/x"), &at("a/y")).expect("a link");
    assert_eq!(refused(store.link(&at("a/x"), &at("a/y"))), Some(ErrorKind::AlreadyExists));
    store.remove(&at("a/x")).expect("removed");
    assert_eq!((store.exists(&at("a/x")), text(store, &at("a/y"))), (false, "2nd".to_string()));
    // moves
    write(store, &at("a/z"), "third");
    store.rename(&at("a/z"), &at("a/y")).expect("over a file");
    assert_eq!((store.exists(&at("a/z")), text(store, &at("a/y"))), (false, "third".to_string()));
    assert_eq!(refused(store.rename(&at("a/z"), &at("a/y"))), Some(ErrorKind::NotFound));
    store.create_dir(&at("b")).expect("a directory");
    write(store, &at("b/y"), "other");
    assert_eq!(refused(store.rename_new(&at("a"), &at("b"))), Some(ErrorKind::AlreadyExists));
    store.exchange(&at("a"), &at("b")).expect("exchanged");
    assert_eq!(
        (text(store, &at("a/y")), text(store, &at("b/y"))),
        ("other".to_string(), "third".to_string())
    );
    assert_eq!(refused(store.exchange(&at("a"), &at("c"))), Some(ErrorKind::NotFound));
    store.rename_new(&at("a"), &at("c")).expect("moved");
    assert_eq!((store.exists(&at("a")), text(store, &at("c/y"))), (false, "other".to_string()));
    // the step that one of several takes
    write(store, &at("c/w"), "late");
    assert_eq!(refused(store.commit(&at("c/w"), &at("c/y"))), Some(ErrorKind::AlreadyExists));
    store.commit(&at("c/w"), &at("c/x")).expect("free");
    assert_eq!((store.exists(&at("c/w")), text(store, &at("c/x"))), (false, "late".to_string()));
    store.remove(&at("c/x")).expect("removed");
    // lists
    store.create_dir(&at("c/below")).expect("a directory");
    write(store, &at("c/below/x"), "");
    assert_eq!(store.list(&at("c")).expect("names"), [("below".to_string(), true), ("y".to_string(), false)]);
    assert_eq!(refused(store.list(&at("a"))), Some(ErrorKind::NotFound));
    // removal
    for _ in 0..2 {
        store.remove(&at("c")).and_then(|()| store.remove(&at("b"))).expect("removed, or nothing there");
        assert_eq!(store.list(root).expect("names"), []);
    }
}

/// A directory on the real file system that is removed with its owner.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("coldstart-store-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory for the test");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn all_stores_keep_one_contract() {
    let folder = Temporary::new();
    contract(&Real, &folder.0);
    contract(&Ram::default(), Path::new("/"));
    contract(&Faulty::new(Ram::default(), Arc::new(|_| None)), Path::new("/"));
    contract(&Faulty::new(Real, Arc::new(|_| None)), &folder.0);
}

#[test]
fn a_crash_takes_what_was_not_synced() {
    let ram = Ram::default();
    let path = Path::new("/x");
    write(&ram, path, "durable");
    ram.sync(path).and_then(|()| ram.sync(Path::new("/"))).expect("durable");
    ram.create_dir(Path::new("/lost")).expect("a directory");
    write(&ram, Path::new("/torn"), "123456");
    ram.rename(path, Path::new("/y")).expect("moved");
    assert_eq!(ram.pending(), 3);
    let (nothing, half, all) = (ram.fork(), ram.fork(), ram.fork());
    nothing.crash(0);
    assert_eq!(nothing.files(), [("/x".to_string(), b"durable".to_vec())].into());
    half.crash(2);
    assert_eq!(
        half.files(),
        [("/torn".to_string(), b"123".to_vec()), ("/x".to_string(), b"durable".to_vec())].into()
    );
    assert!(half.exists(Path::new("/lost")));
    all.crash(3);
    assert_eq!(
        all.files(),
        [("/torn".to_string(), b"123".to_vec()), ("/y".to_string(), b"durable".to_vec())].into()
    );
}

#[test]
fn a_move_between_directories_is_durable_as_a_whole() {
    for synced in ["/a", "/b"] {
        let ram = Ram::default();
        ["/a", "/b"].iter().for_each(|f| ram.create_dir(Path::new(f)).expect("a directory"));
        ram.sync(Path::new("/")).expect("durable");
        write(&ram, Path::new("/a/x"), "");
        ram.rename(Path::new("/a/x"), Path::new("/b/x"))
            .and_then(|()| ram.sync(Path::new(synced)))
            .expect("moved");
        ram.crash(0);
        assert_eq!(ram.files().into_keys().collect::<Vec<_>>(), ["/b/x"], "after a sync of {synced}");
    }
}

#[test]
fn a_fault_comes_before_a_step_half_way_or_as_a_lost_answer() {
    let failing = |when: When| {
        let plan =
            move |p: &Point| (p.step == "write" && p.when == when).then(|| io::Error::from_raw_os_error(28));
        Faulty::new(Ram::default(), Arc::new(plan))
    };
    for (when, left) in [(When::Before, ""), (When::Half, "123"), (When::After, "123456")] {
        let store = failing(when);
        let mut file = store.create(Path::new("/x")).expect("a file");
        assert_eq!(refused(file.write_all(b"123456")), Some(ErrorKind::StorageFull));
        assert_eq!(text(&store, Path::new("/x")), left, "{when:?}");
    }
}
