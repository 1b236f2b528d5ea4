//! A teacher bundle: a directory with `teacher.toml`, the model file and, mostly, its labelled history.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lake::location::Location;
use crate::lake::scan::locate::locate;
use crate::lake::table::Pin;
use crate::models::{Told, onnx_proto};
use crate::relevance::training::pooled::NAME as POOLED;
pub use crate::teacher::spec::{Encode, FeatureSpec, Format, MissingValue, ModelFile};

/// The largest model file that is read, in bytes.
pub const LARGEST_MODEL: u64 = 1 << 30;
/// The largest `teacher.toml`, in bytes.
const LARGEST_TOML: u64 = 64 << 20;
const MOST_CLASSES: usize = 10_000;
/// What a constant that is kept in a file of its own says of it in an ONNX model.
const OUTSIDE: &[u8] = b"location";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The teacher's name in every output, of a-z, 0-9, `-` and `_`.
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,100}$"))]
    pub name: String,
    /// A line for people.
    #[serde(default)]
    pub scenario: String,
    pub model: ModelFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    pub training: Training,
    /// What the model takes, in the order of its inputs.
    #[schemars(length(min = 1))]
    pub features: Vec<FeatureSpec>,
    #[serde(skip)]
    pub folder: PathBuf,
    /// For each input of the model the place of its column among those that the features make, where they are in
    /// another order.
    #[serde(skip)]
    pub order: Option<Vec<usize>>,
    /// The program that wrote an ONNX model, as the model says.
    #[serde(skip)]
    pub producer: String,
    /// Files beside the model that hold some of its constants, relative to the folder.
    #[serde(skip)]
    pub outside: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The labelled accounts of the teacher's own scenario: a Parquet file, or a directory of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<String>,
    /// Its column of labels; the values, as text, are the names in `model.classes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its boolean column of rows that did not train the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<String>,
    /// In place of `accounts`, where rows may not leave their owner: what `coldstart profile` wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Labelled rows that trained the model.
    pub rows: u64,
    /// The last day of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Bundle {
    /// Reads and checks `teacher.toml`. A missing bundle is 66, everything wrong in it 65.
    pub fn read(folder: &Path) -> Result<Bundle> {
        Bundle::open(folder)?.inside()
    }

    /// As [`Bundle::read`], without the history, which need not be there.
    pub fn read_model(folder: &Path) -> Result<Bundle> {
        Bundle { history: None, ..Bundle::open(folder)? }.inside()
    }

    fn open(folder: &Path) -> Result<Bundle> {
        let path = folder.join("teacher.toml");
        let meta =
            std::fs::metadata(&path).map_err(|e| Error::io(&e, "cannot open the teacher's bundle", &path))?;
        if !meta.is_file() || meta.len() > LARGEST_TOML {
            return Err(Error::data("not a teacher.toml").file(&path).value(format!("{} bytes", meta.len())));
        }
        let bytes =
            std::fs::read(&path).map_err(|e| Error::io(&e, "cannot read the teacher's bundle", &path))?;
        let bundle = Bundle::parse(&bytes).map_err(|e| e.file(&path))?;
        Ok(Bundle { folder: folder.to_path_buf(), ..bundle })
    }

    fn inside(mut self) -> Result<Bundle> {
        let refuse = |e: Error| e.file(&self.folder.join("teacher.toml"));
        if let Some(accounts) = self.history.iter().find_map(|h| h.accounts.as_ref()) {
            stays_inside(&self.folder, accounts, true).map_err(refuse)?;
        }
        for file in self.files()? {
            stays_inside(&self.folder, &file, false).map_err(refuse)?;
        }
        if self.model.format == Format::Onnx {
            self.outside = self.find_outside().map_err(|e| e.file(&self.model_path()))?;
        }
        Ok(self)
    }

    /// The files in which an ONNX model keeps constants.
    fn find_outside(&self) -> Result<Vec<String>> {
        let bytes = read_limited(&self.model_path())?;
        // the word stands in every model that has such a file; most have none, and are not decoded for it
        if !bytes.windows(OUTSIDE.len()).any(|w| w == OUTSIDE) {
            return Ok(Vec::new());
        }
        let model = onnx_proto::read(&bytes)?;
        let beside = Path::new(&self.model.file).parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for (location, tensor) in model.outside() {
            let file = beside.join(location).to_string_lossy().into_owned();
            stays_inside(&self.folder, if location.is_empty() { "" } else { &file }, false).map_err(|e| {
                Error::data("the model keeps constants in another file (external data) that is not in the bundle")
                    .with("tensor", tensor.chars().take(200).collect::<String>())
                    .with("location", location.chars().take(200).collect::<String>())
                    .with("because", e.message())
                    .hint("put that file beside the model, or save the model as one file: onnx.save(model, path, save_as_external_data=False)")
            })?;
            files.push(file);
        }
        Ok(files)
    }

    /// The constants that the model keeps outside, by the names of their files in it.
    pub fn read_outside(&self) -> Result<BTreeMap<String, Arc<[u8]>>> {
        let beside = Path::new(&self.model.file).parent().unwrap_or(Path::new(""));
        let read = |file: &String| {
            let name = Path::new(file).strip_prefix(beside).unwrap_or(Path::new(file));
            Ok((name.to_string_lossy().into_owned(), read_limited(&self.folder.join(file))?.into()))
        };
        self.outside.iter().map(read).collect()
    }

    /// What the description says of a model whose file may be silent about it.
    pub fn told(&self) -> Told {
        Told { objective: self.model.objective.clone(), rounds: self.model.rounds }
    }

    /// A `teacher.toml` without a look at the files that it names.
    pub fn parse(bytes: &[u8]) -> Result<Bundle> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::data("teacher.toml is not UTF-8 text"))?;
        let de = toml::Deserializer::parse(text)
            .map_err(|e| Error::data(format!("not valid TOML: {}", e.message())))?;
        let bundle: Bundle = serde_path_to_error::deserialize(de)
            .map_err(|e| Error::data(e.inner().message().to_string()).with("key", e.path().to_string()))?;
        bundle.check()?;
        Ok(bundle)
    }

    pub fn model_path(&self) -> PathBuf {
        self.folder.join(&self.model.file)
    }

    /// Where the labelled accounts lie, if they may be seen.
    pub fn history_path(&self) -> Option<PathBuf> {
        let accounts = self.history.as_ref()?.accounts.as_ref()?;
        let place = Location::parse(accounts, &self.folder);
        Some(place.map_or_else(|_| self.folder.join(accounts), |place| place.shown().to_path_buf()))
    }

    /// Where the sketch lies that stands for accounts that may not be seen.
    pub fn profile_path(&self) -> Option<PathBuf> {
        self.history.as_ref()?.profile.as_ref().map(|p| self.folder.join(p))
    }

    /// Columns of the float32 matrix that the features make.
    pub fn matrix_width(&self) -> usize {
        self.features.iter().map(|f| if f.encode == Some(Encode::OneHot) { f.values.len() } else { 1 }).sum()
    }

    /// Every file that decides what the teacher says, relative to its folder; of a history that is a
    /// directory, the data files in it.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = vec!["teacher.toml".to_string(), self.model.file.clone()];
        files.extend(self.outside.iter().cloned());
        if let Some(history) = &self.history {
            match (&history.accounts, self.history_path()) {
                (Some(_), Some(path)) if path.is_dir() || is_object(&path) => {
                    let elsewhere = matches!(Location::from(path.as_path()), Location::Table(_));
                    let inside = |f: &Path| match elsewhere || is_object(f) {
                        true => Some(f.to_string_lossy().into_owned()),
                        false => Some(f.strip_prefix(&self.folder).ok()?.to_string_lossy().into_owned()),
                    };
                    let found = locate(&path, &Pin::default())?;
                    files.extend(found.iter().filter_map(|found| inside(&found.path)));
                }
                (Some(accounts), _) => files.push(accounts.clone()),
                _ => {}
            }
            files.extend(history.profile.clone());
        }
        Ok(files)
    }

    fn check(&self) -> Result<()> {
        let refuse =
            |key: &'static str, value: &str, why: &str| Err(Error::data(why).with("key", key).value(value));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(plain) {
            return refuse("name", &self.name, "a teacher's name is 1 to 100 of a-z, 0-9, - and _");
        }
        if self.name == POOLED {
            return refuse("name", &self.name, "this name is that of the teacher that the job trains itself");
        }
        let classes = &self.model.classes;
        let mut seen = hashbrown::HashSet::new();
        if !(2..=MOST_CLASSES).contains(&classes.len()) || !classes.iter().all(|c| seen.insert(c)) {
            let named: String = format!("{classes:?}").chars().take(200).collect();
            return refuse(
                "model.classes",
                &named,
                "a model needs 2 to 10,000 classes with names of their own",
            );
        }
        if self.features.is_empty() || self.matrix_width() > 100_000 {
            return refuse(
                "features",
                &self.matrix_width().to_string(),
                "between 1 and 100,000 model inputs are needed",
            );
        }
        let mut names = hashbrown::HashSet::new();
        for feature in &self.features {
            if !names.insert(feature.name.as_str()) {
                return refuse("features.name", &feature.name, "this feature stands twice");
            }
            feature.check(self.model.format)?;
        }
        self.model.check()?;
        match &self.history {
            Some(h) if h.accounts.is_some() && h.label.is_none() => {
                refuse("history.label", "", "a history needs the name of its label column")
            }
            Some(h) if h.accounts.is_some() == h.profile.is_some() => {
                refuse("history", "", "a history is either `accounts` or a `profile`")
            }
            _ => Ok(()),
        }
    }
}

/// A bundle's paths name regular files inside it, symlinks resolved, or, where that is fine, directories.
fn stays_inside(folder: &Path, file: &str, directory: bool) -> Result<()> {
    let refuse = |why: &str| Error::data(why).with("path", file.chars().take(200).collect::<String>());
    let path = Path::new(file);
    if file.is_empty()
        || file.len() > 1000
        || file.contains('\0')
        || !path.components().all(|c| matches!(c, Component::Normal(_)))
    {
        return Err(refuse("a bundle's path must lead to a file inside the bundle"));
    }
    let full = folder.join(path);
    let (Ok(real), Ok(root)) = (full.canonicalize(), folder.canonicalize()) else {
        return Err(Error::data("a file that the bundle names is missing").file(&full));
    };
    match real.starts_with(&root) {
        true if real.is_file() || (directory && real.is_dir()) => Ok(()),
        true => Err(refuse("not a regular file").file(&full)),
        false => Err(refuse("a symlink leads out of the bundle")),
    }
}

/// A model file's bytes, of bounded size.
pub fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(&e, "cannot open the model", path))?;
    if meta.is_dir() {
        return Err(Error::data("this is a directory, a model is a file").file(path));
    }
    if !meta.is_file() || meta.len() > LARGEST_MODEL {
        return Err(Error::data("the model is no regular file, or larger than 1 GiB")
            .file(path)
            .value(format!("{} bytes", meta.len())));
    }
    std::fs::read(path).map_err(|e| Error::io(&e, "cannot read the model", path))
}

fn is_object(path: &Path) -> bool {
    !matches!(Location::from(path), Location::Path(_))
}
