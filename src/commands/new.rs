//! `coldstart new`: a commented pipeline file from a folder of bundles and a target, both of which it has looked at.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::commands::schema;
use crate::error::{Error, Kind, Result};
use crate::lake::scan::{Accounts, ids, repeated};
use crate::lake::store::Real;
use crate::lake::store::files::write_atomic;
use crate::teacher::bundle::Bundle;

/// Folders below the one that is given are searched so deep.
const DEPTH: usize = 3;

/// What is asked for.
pub struct Wanted<'a> {
    /// The folder that holds the bundles, and the target unless that is named.
    pub folder: &'a Path,
    pub target: Option<&'a Path>,
    pub id: Option<&'a str>,
    pub out: Option<&'a Path>,
}

/// Writes the pipeline file, which must not be there yet (73), and says what to run next.
pub fn new(wanted: &Wanted) -> Result<Value> {
    let out = wanted.out.map_or_else(|| wanted.folder.join("pipeline.toml"), Path::to_path_buf);
    if out.exists() {
        return Err(Error::new(Kind::CannotCreate, "a file is there already")
            .file(&out)
            .hint("name another with -o, or remove it"));
    }
    let mut found = Found::default();
    found.search(wanted.folder, DEPTH)?;
    found.bundles.sort_by(|a, b| a.name.cmp(&b.name));
    if found.bundles.len() < 2 {
        return Err(Error::new(
            Kind::Missing,
            "a pipeline needs at least two bundles, folders with a teacher.toml",
        )
        .file(wanted.folder)
        .value(found.bundles.len())
        .hint("coldstart teacher add MODEL makes a bundle from a model file"));
    }
    let target = match wanted.target {
        Some(target) => target.to_path_buf(),
        None => found.target(wanted.folder)?,
    };
    let accounts = Accounts::open(&target)?;
    let id = match wanted.id {
        Some(id) => {
            let field = accounts.field(id)?;
            ids::refuse_type(field).map_err(|e| e.file(accounts.place()))?;
            field.name().clone()
        }
        None => find_id(&accounts, &found.bundles)?,
    };
    let place = Place::of(&out);
    let text = write_pipeline(&place, &found.bundles, &target, &accounts, &id);
    write_atomic(
        &Real,
        &out.with_file_name(schema::BESIDE_PIPELINE),
        schema::schema(schema::File::Pipeline)?.as_bytes(),
    )?;
    write_atomic(&Real, &out, text.as_bytes())?;
    Ok(json!({
        "status": "created",
        "pipeline": out.display().to_string(),
        "teachers": found.bundles.iter().map(|b| &b.name).collect::<Vec<_>>(),
        "accounts": accounts.stored_rows(),
        "id": id,
        "next": format!("coldstart check {0}; coldstart run {0} --date YYYY-MM-DD", out.display()),
    }))
}

/// What lies below a folder.
#[derive(Default)]
struct Found {
    bundles: Vec<Bundle>,
    /// Parquet files, and folders that hold some, outside the bundles.
    tables: Vec<PathBuf>,
}

impl Found {
    fn search(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io(&e, "cannot list", folder))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        let parquet = |p: &Path| p.extension().is_some_and(|e| e == "parquet");
        for path in paths {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(['.', '_']) {
                continue;
            }
            if path.join("teacher.toml").is_file() {
                self.bundles.push(Bundle::read(&path)?);
            } else if path.is_dir() {
                let inside = std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path());
                let mut inside = inside.collect::<Vec<PathBuf>>().into_iter();
                let hive = |p: &PathBuf| p.is_dir() && p.to_string_lossy().contains('=');
                match inside.any(|p| parquet(&p) || hive(&p)) {
                    true => self.tables.push(path),
                    false if depth > 1 => self.search(&path, depth - 1)?,
                    false => {}
                }
            } else if parquet(&path) {
                self.tables.push(path);
            }
        }
        Ok(())
    }

    /// The one table that holds what the bundles ask for.
    fn target(&self, folder: &Path) -> Result<PathBuf> {
        let fits = |place: &&PathBuf| {
            Accounts::open(place).is_ok_and(|accounts| {
                let has = |name: &str| accounts.schema().field_with_name(name).is_ok();
                self.bundles
                    .iter()
                    .all(|b| b.features.iter().filter(|f| f.missing.is_none()).all(|f| has(&f.name)))
            })
        };
        let mut fitting: Vec<&PathBuf> = self.tables.iter().filter(fits).collect();
        // where some hold the label of a history and others do not, the target is among the others
        let label = |b: &Bundle| b.history.as_ref().and_then(|h| h.label.clone());
        let labels: Vec<String> = self.bundles.iter().filter_map(label).collect();
        let is_labelled = |place: &PathBuf| {
            Accounts::open(place).is_ok_and(|a| labels.iter().any(|l| a.schema().field_with_name(l).is_ok()))
        };
        if fitting.len() > 1 && !fitting.iter().all(|place| is_labelled(place)) {
            fitting.retain(|place| !is_labelled(place));
        }
        let list =
            |of: &[&PathBuf]| of.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        match fitting.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::new(
                Kind::Missing,
                "no Parquet file or folder here holds every feature of the bundles",
            )
            .file(folder)
            .with("found", list(&self.tables.iter().collect::<Vec<_>>()))
            .hint("name the target with --target")),
            many => Err(Error::new(Kind::Usage, "several tables hold every feature of the bundles")
                .file(folder)
                .with("found", list(many))
                .hint("name the target with --target")),
        }
    }
}

/// A column of whole numbers or text that no bundle takes, each value once: names that end in `id` first.
fn find_id(accounts: &Accounts, bundles: &[Bundle]) -> Result<String> {
    let feature = |name: &str| bundles.iter().any(|b| b.features.iter().any(|f| f.name == name));
    let fields =
        accounts.schema().fields().iter().filter(|f| ids::can_be_id(f.data_type()) && !feature(f.name()));
    let mut names: Vec<&String> = fields.map(|f| f.name()).collect();
    names.sort_by_key(|name| !name.to_lowercase().ends_with("id"));
    let unique =
        |name: &&&String| repeated::find(accounts, name).is_ok_and(|found| found.later_rows.is_empty());
    names.iter().find(unique).map(|name| name.to_string()).ok_or_else(|| {
        Error::data(
            "no column can be the account's id: whole numbers or text, each value once, not a feature",
        )
        .file(accounts.place())
        .with("looked at", names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", "))
        .hint("name it with --id; where ids stand twice and the first row counts, set target.dedupe = \"first\"")
    })
}

/// Where the pipeline file will stand, to write paths relative to it.
struct Place(PathBuf);

impl Place {
    fn of(out: &Path) -> Place {
        let above = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Place(above.canonicalize().unwrap_or_else(|_| above.to_path_buf()))
    }

    /// The path from the pipeline file, or the whole path where it lies elsewhere; as a TOML string.
    fn toml(&self, path: &Path) -> String {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let short = whole.strip_prefix(&self.0).unwrap_or(&whole);
        toml::Value::String(short.display().to_string()).to_string()
    }
}

fn write_pipeline(place: &Place, bundles: &[Bundle], target: &Path, accounts: &Accounts, id: &str) -> String {
    let text = |s: &str| toml::Value::String(s.to_string()).to_string();
    let list = |of: &[String]| format!("[{}]", of.iter().map(|c| text(c)).collect::<Vec<_>>().join(", "));
    let classes = &bundles[0].model.classes;
    let name: String = target
        .file_stem()
        .map(|n| n.to_string_lossy().to_lowercase())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let name = if name.trim_matches('-').is_empty() { "accounts" } else { name.trim_matches('-') };
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = writeln!(
        out,
        "#:schema ./{}\n# Written by `coldstart new`. Every setting with its default: docs/pipeline.md.",
        schema::BESIDE_PIPELINE
    );
    let _ = writeln!(out, "name = {}                  # names the runs; a-z, 0-9 and -", text(name));
    let _ =
        writeln!(out, "classes = {}               # the order of every p_<class> column\n", list(classes));
    let _ = writeln!(out, "[target]");
    let _ = writeln!(
        out,
        "accounts = {}   # {} rows; paths are relative to this file",
        place.toml(target),
        accounts.stored_rows()
    );
    let _ = writeln!(out, "id = {}", text(id));
    let label = bundles
        .iter()
        .filter_map(|b| b.history.as_ref()?.label.as_ref())
        .find(|l| accounts.schema().field_with_name(l).is_ok());
    if let Some(label) = label {
        let _ = writeln!(out, "# the column {label:?} is a label of a teacher's history: it is never read");
    }
    let _ = writeln!(out, "# where = \"status = 'open'\"             # which rows are the target");
    let last = classes.last().cloned().unwrap_or_default();
    let _ = writeln!(
        out,
        "# class_shares = {{ {} = [0.05, 0.15] }}  # what you know of the base rate: worth more than any other setting",
        text(&last)
    );
    let _ = writeln!(
        out,
        "# labels = \"few.csv\"                    # twenty or more labelled accounts: the id and `label`; CSV or Parquet\n"
    );
    for bundle in bundles {
        let history = match bundle.history_path().is_some() || bundle.profile_path().is_some() {
            true => "with a history",
            false => "without a history: it can be weighed by distance alone",
        };
        let _ = writeln!(
            out,
            "# {}: {} rows, {history}",
            if bundle.scenario.is_empty() { &bundle.name } else { &bundle.scenario },
            bundle.training.rows
        );
        let absent = bundle.features.iter().filter(|f| accounts.schema().field_with_name(&f.name).is_err());
        for feature in absent {
            let stands = feature
                .missing
                .as_ref()
                .map_or("the run will refuse it".to_string(), |_| "its `missing` stands for it".to_string());
            let _ = writeln!(out, "# the target lacks {:?}: {stands}", feature.name);
        }
        let _ = writeln!(out, "[[teachers]]\nbundle = {}", place.toml(&bundle.folder));
        let own = &bundle.model.classes;
        if own.iter().any(|c| !classes.contains(c)) {
            let pairs: Vec<String> =
                own.iter().zip(classes).map(|(a, b)| format!("{} = {}", text(a), text(b))).collect();
            let _ = writeln!(
                out,
                "classes = {{ {} }}   # CHECK: its classes have other names; paired in their order",
                pairs.join(", ")
            );
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "[output]\npath = \"out\"                          # classification/, soft_labels/, relevance/, student/ ... appear below it"
    );
    out
}
