//! The bundle's folder: made beside its place, proved there, and moved to its place when it is whole.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use crate::commands::add::draft::Draft;
use crate::commands::add::history::History;
use crate::commands::add::request::Request;
use crate::commands::schema;
use crate::error::{Error, Kind, Result};
use crate::features::kind::Kind as FeatureKind;
use crate::lake::scan::Accounts;
use crate::teacher::agree::lists::toml_values;
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec};

/// The history's name in the bundle.
pub const HISTORY: &str = "history.parquet";

/// A folder that is removed unless it is published.
pub struct Folder {
    path: PathBuf,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Folder {
    /// Makes a folder beside the place of the bundle, which must be free.
    pub fn create(request: &Request) -> Result<Folder> {
        let out = &request.out;
        if out.read_dir().map_or(out.exists(), |mut entries| entries.next().is_some()) {
            return Err(Error::new(Kind::CannotCreate, "the bundle's place is not free")
                .file(out)
                .hint("name a folder that does not exist yet, or remove it"));
        }
        let name = out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = out.with_file_name(format!(".{name}.adding-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| Error::io(&e, "cannot make the bundle's folder", &path))?;
        Ok(Folder { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all files of the bundle.
    pub fn fill(&self, draft: &Draft, history: Option<&History>, bundle: &Bundle) -> Result<()> {
        self.write(&draft.file, &draft.bytes)?;
        for (name, from) in &draft.outside {
            let inside = Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if !inside {
                return Err(Error::data("the model keeps constants outside of its folder").value(name));
            }
            let to = self.path.join(name);
            to.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .map_err(|e| Error::io(&e, "cannot make a folder", &to))?;
            fs::copy(from, &to).map_err(|e| Error::io(&e, "cannot copy the model's constants", from))?;
        }
        if let Some(history) = history {
            self.history(&history.accounts)?;
        }
        self.describe(bundle)
    }

    /// Copies the history; several files become one.
    fn history(&self, accounts: &Accounts) -> Result<()> {
        let to = self.path.join(HISTORY);
        let files: Vec<&Path> = accounts.files().collect();
        if let [file] = files.as_slice() {
            let copied = fs::copy(file, &to);
            return copied.map(|_| ()).map_err(|e| Error::io(&e, "cannot copy the history", file));
        }
        let columns: Vec<String> = accounts.schema().fields().iter().map(|f| f.name().clone()).collect();
        let refuse = |e: ParquetError| Error::data(format!("the history cannot be written: {e}")).file(&to);
        let mut writer = None;
        for unit in accounts.units() {
            accounts.read(unit, &columns, |batch, _| {
                if writer.is_none() {
                    let file =
                        fs::File::create(&to).map_err(|e| Error::io(&e, "cannot write the history", &to))?;
                    writer = Some(ArrowWriter::try_new(file, batch.schema(), None).map_err(refuse)?);
                }
                writer.as_mut().map_or(Ok(()), |w| w.write(&batch).map_err(refuse))
            })?;
        }
        match writer {
            Some(writer) => writer.close().map(|_| ()).map_err(refuse),
            None => Err(Error::data("the table has no row").file(accounts.place())),
        }
    }

    /// Writes `teacher.toml`.
    pub fn describe(&self, bundle: &Bundle) -> Result<()> {
        self.write(schema::IN_BUNDLE, schema::schema(schema::File::Bundle)?.as_bytes())?;
        self.write("teacher.toml", text(bundle).map_err(|e| Error::bug(e.to_string()))?.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(|e| Error::io(&e, "cannot write the bundle", &path))
    }

    /// Moves the folder to its place.
    pub fn publish(self, out: &Path) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::io(&e, "cannot move the bundle to its place", out).value(self.path.display())
        };
        if out.exists() {
            fs::remove_dir(out).map_err(failed)?;
        }
        fs::rename(&self.path, out).map_err(failed)
    }
}

/// A string, or a list of strings, as TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", "))
}

/// The description, for people to read and change.
fn text(bundle: &Bundle) -> std::result::Result<String, std::fmt::Error> {
    let mut out = format!("#:schema ./{}\n", schema::IN_BUNDLE);
    writeln!(out, "name = {}", quoted(&bundle.name))?;
    writeln!(out, "scenario = {}\n", quoted(&bundle.scenario))?;
    let model = &bundle.model;
    writeln!(out, "[model]\nfile = {}", quoted(&model.file))?;
    writeln!(out, "format = {}", quoted(&format!("{:?}", model.format).to_lowercase()))?;
    writeln!(out, "classes = {}                # in the order of the model's outputs", list(&model.classes))?;
    if let Some(missing) = model.missing {
        writeln!(out, "missing = {missing:?}               # the value that the library takes for missing")?;
    }
    if let Some(history) = &bundle.history {
        writeln!(out, "\n[history]")?;
        let keys =
            [("accounts", &history.accounts), ("label", &history.label), ("held_out", &history.held_out)];
        for (key, value) in keys {
            if let Some(value) = value {
                writeln!(out, "{key} = {}", quoted(value))?;
            }
        }
    }
    writeln!(
        out,
        "\n[training]\nrows = {}               # labelled rows that trained the model",
        bundle.training.rows
    )?;
    if let Some(until) = &bundle.training.until {
        writeln!(out, "until = {}", quoted(until))?;
    }
    bundle.features.iter().try_for_each(|feature| feature_text(&mut out, feature))?;
    Ok(out)
}

fn feature_text(out: &mut String, feature: &FeatureSpec) -> std::fmt::Result {
    writeln!(out, "\n[[features]]\nname = {}", quoted(&feature.name))?;
    if let Some(input) = &feature.input {
        writeln!(out, "input = {}                # what the model calls it", quoted(input))?;
    }
    let kind = if feature.kind == FeatureKind::Number { "number" } else { "category" };
    writeln!(out, "kind = \"{kind}\"")?;
    match feature.encode {
        Some(Encode::Code) => writeln!(out, "encode = \"code\"")?,
        Some(Encode::OneHot) => writeln!(out, "encode = \"one_hot\"")?,
        Some(Encode::Text) => writeln!(out, "encode = \"text\"")?,
        None => {}
    }
    if !feature.values.is_empty() {
        writeln!(out, "values = {}", toml_values(&feature.values))?;
    }
    Ok(())
}
