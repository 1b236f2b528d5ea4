//! A small pipeline in a directory of its own, and the program run on it as a scheduler would run it.
//!
//! The target is two Parquet files of couriers, the teachers are the committed bundles `bazaar` (LightGBM),
//! `wallet` (XGBoost) and `studio` (a student of ours) with small histories. None of them needs ONNX Runtime.

mod columns;
mod ran;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::accounts::{Model, RISK, RISK_CLASSES};
use crate::tables;
pub use columns::{floats, named_columns, parquet, read, renamed, table, texts, with, without};
pub use ran::{Ran, count};

/// The logical date of every run.
pub const DATE: &str = "2026-01-01";
/// Accounts of the target.
pub const ROWS: usize = 360;
/// A secret in the environment of every run, which nothing that a run writes may hold.
pub const CANARY: &str = "canary-5f2c9e1b";
/// Private memory, in KiB, beyond which an allocation of the program fails.
const MEMORY: u32 = 512 << 10;

/// Bytes beyond which a file is not read into the tests' memory.
const HUGE: u64 = 16 << 20;

const PIPELINE: &str = r#"name = "couriers"
classes = ["legit", "fraud"]

[target]
accounts = "lake/target"
id = "account_id"

[[teachers]]
bundle = "teachers/bazaar"

[[teachers]]
bundle = "teachers/wallet"

[[teachers]]
bundle = "teachers/studio"

[student]
family = "logistic"
min_agreement = 0.5
max_kl = 1.0

[output]
path = "out"
"#;

/// A file of the repository.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// The Python that `make setup` installs, or the one that `COLDSTART_PYTHON` names.
pub fn python() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("COLDSTART_PYTHON").map_or_else(installed, PathBuf::from);
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    python
}

/// The program with failpoints, which `cargo test` builds beside this one.
pub fn failing() -> PathBuf {
    example("failing")
}

fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_coldstart")).with_file_name("examples").join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --release --examples`", program.display());
    program
}

/// A directory that is removed with its owner.
pub struct Workdir {
    root: PathBuf,
}

impl Drop for Workdir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Workdir {
    /// Nothing but the directories that a process has around it.
    pub fn empty() -> Workdir {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("workdir-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for folder in ["cwd", "home", "tmp"] {
            fs::create_dir_all(root.join(folder)).expect("a directory for the test");
        }
        Workdir { root }
    }

    /// The pipeline of the module's description.
    pub fn new() -> Workdir {
        let work = Workdir::empty();
        work.write_text("pipeline.toml", PIPELINE);
        for (path, bytes) in lake() {
            work.write_bytes(path, bytes);
        }
        work
    }

    /// The demo: its lake of 20,000 accounts, its four teachers, its pipeline.
    pub fn demo() -> Workdir {
        let work = Workdir::empty();
        let mut lake = Command::new(example("lake"));
        lake.arg(work.path("lake")).arg("--bundles").arg(fixture("teachers"));
        assert!(lake.status().is_ok_and(|status| status.success()), "the lake is not made");
        let demo = fs::read_to_string(fixture("../pipelines/demo.toml")).expect("the demo's pipeline");
        work.write_text("pipeline.toml", &demo.replace("../target/demo/", ""));
        work
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file lies in a directory"))
            .expect("a directory for the file");
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    pub fn write_text(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Replaces the one place where `from` stands in a text file.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.bytes(path)).expect("a text file");
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in {path}");
        self.write_text(path, &text.replace(from, to));
    }

    pub fn table(&self, path: &str) -> RecordBatch {
        read(&self.path(path))
    }

    /// All Parquet files of a folder, in the order of their names.
    pub fn parts(&self, folder: &str) -> RecordBatch {
        let entries = fs::read_dir(self.path(folder)).expect("a folder of parts").flatten();
        let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "parquet"));
        files.sort();
        let parts: Vec<RecordBatch> = files.iter().map(|f| read(f)).collect();
        concat_batches(&parts.first().expect("a part").schema(), &parts).expect("one schema")
    }

    pub fn write_table(&self, path: &str, batch: &RecordBatch) {
        self.write_bytes(path, &parquet(batch, 64));
    }

    /// Rewrites a Parquet file.
    pub fn change(&self, path: &str, change: impl FnOnce(RecordBatch) -> RecordBatch) {
        self.write_table(path, &change(self.table(path)));
    }

    /// The target as one table.
    pub fn target(&self) -> RecordBatch {
        let parts = [PART_0, PART_1].map(|p| self.table(p));
        concat_batches(&parts[0].schema(), &parts).expect("the target's files have one schema")
    }

    /// Replaces the target by files with these rows.
    pub fn write_target(&self, parts: &[RecordBatch], row_group: usize) {
        fs::remove_dir_all(self.path("lake/target")).expect("a target");
        for (i, part) in parts.iter().enumerate() {
            self.write_bytes(&format!("lake/target/part-{i}.parquet"), &parquet(part, row_group));
        }
    }

    /// `coldstart ARGUMENTS` in this directory, ready to be started: no environment but what is named here, a
    /// canary among it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_coldstart")), arguments)
    }

    /// As [`command`](Workdir::command) for the program with failpoints, which this one meets: `ACTION WHEN
    /// STEP PATH`.
    pub fn failing(&self, failpoint: &str, arguments: &[&str]) -> Command {
        let mut command = self.command_of(&failing(), arguments);
        command
            .env("COLDSTART_FAILPOINT", failpoint)
            .env("COLDSTART_FAILPOINT_PAUSED", self.path("tmp/paused"));
        command
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -d {MEMORY}; exec \"$0\" \"$@\"")]).arg(program).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"));
        command
            .env("AWS_SECRET_ACCESS_KEY", CANARY)
            .envs(std::env::var_os("ORT_DYLIB_PATH").map(|p| ("ORT_DYLIB_PATH", p)));
        command
            .current_dir(self.path("cwd"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn coldstart(&self, arguments: &[&str]) -> Ran {
        Ran::start(self.command(arguments)).finish()
    }

    /// `coldstart run` of this pipeline at [`DATE`].
    pub fn run(&self, more: &[&str]) -> Ran {
        self.coldstart(&[&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"], more].concat())
    }

    /// Makes the output directory hold these files and no others.
    pub fn restore_output(&self, files: &BTreeMap<String, Vec<u8>>) {
        let _ = fs::remove_dir_all(self.path("out"));
        files.iter().for_each(|(path, bytes)| self.write_bytes(&format!("out/{path}"), bytes));
    }

    /// Every file below `path` with its content, hidden entries too; of a huge file its length stands for it.
    pub fn files(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(path);
        let mut found = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_type().expect("a type") {
                    t if t.is_dir() => folders.push(path),
                    t if t.is_file() => {
                        let name =
                            path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
                        let content = if bytes < HUGE {
                            fs::read(&path).unwrap_or_default()
                        } else {
                            bytes.to_le_bytes().to_vec()
                        };
                        found.insert(name, content);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// The published tables' files, and the record of what was published.
    pub fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files("out");
        files.retain(|path, _| !path.starts_with("_runs/") || path.ends_with("published.json"));
        files
    }

    /// A published table in the order of its files' names.
    pub fn published_table(&self, table: &str) -> RecordBatch {
        let files: Vec<PathBuf> = self
            .files(&format!("out/{table}"))
            .into_keys()
            .map(|f| self.path(&format!("out/{table}/{f}")))
            .collect();
        let parts: Vec<RecordBatch> =
            files.iter().filter(|f| f.extension().is_some_and(|e| e == "parquet")).map(|f| read(f)).collect();
        concat_batches(&parts.first().expect("a published file").schema(), &parts).expect("one schema")
    }

    /// What a published table says of each account: the columns that start with `p_`, to the last bit.
    pub fn probabilities(&self, table: &str, id: &str) -> BTreeMap<String, Vec<u64>> {
        let batch = self.published_table(table);
        let ids = texts(&batch, id);
        let fields = batch.schema();
        let names: Vec<&String> =
            fields.fields().iter().map(|f| f.name()).filter(|n| n.starts_with("p_")).collect();
        let columns: Vec<Vec<f64>> = names.iter().map(|n| floats(&batch, n)).collect();
        let mut found = BTreeMap::new();
        for (i, id) in ids.into_iter().enumerate() {
            let id = id.expect("an id");
            assert!(
                found.insert(id.clone(), columns.iter().map(|c| c[i].to_bits()).collect()).is_none(),
                "{id} stands twice in {table}"
            );
        }
        found
    }
}

pub const PART_0: &str = "lake/target/part-0.parquet";
pub const PART_1: &str = "lake/target/part-1.parquet";

/// The files of a new [`Workdir`] beside its pipeline file, made once.
fn lake() -> &'static BTreeMap<String, Vec<u8>> {
    static LAKE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    LAKE.get_or_init(|| {
        let mut files = BTreeMap::new();
        for scenario in RISK.iter().filter(|s| ["bazaar", "wallet", "studio", "courier"].contains(&s.name)) {
            let model = Model::new(scenario, RISK_CLASSES, 7);
            if scenario.teaches {
                let history = tables::history(&model, 7, 400).expect("a history");
                files.insert(format!("teachers/{}/history.parquet", scenario.name), parquet(&history, 1000));
                for entry in fs::read_dir(fixture("teachers").join(scenario.name))
                    .expect("a committed bundle")
                    .flatten()
                {
                    let name = format!("teachers/{}/{}", scenario.name, entry.file_name().to_string_lossy());
                    files.insert(name, fs::read(entry.path()).expect("a file of a bundle"));
                }
            } else if scenario.target_share > 0.0 {
                for (part, path) in [PART_0, PART_1].iter().enumerate() {
                    let (accounts, _) =
                        tables::target(&model, 7, part, part * ROWS / 2..(part + 1) * ROWS / 2)
                            .expect("a target");
                    files.insert(path.to_string(), parquet(&accounts, 64));
                }
            }
        }
        files
    })
}
