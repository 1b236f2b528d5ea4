//! `calculator.json`: the relevance calculator as it is kept for later targets.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::lake::store::digest;
use crate::relevance::training::calculator::{Calculator, FORMAT, Member};
use crate::relevance::training::calculator_check::validate;
use crate::teacher::Teacher;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Refuses what is too large to be a calculator, before anybody reads it. No such file: 66.
pub fn check_size(path: &Path) -> Result<()> {
    let meta =
        std::fs::metadata(path).map_err(|e| Error::io(&e, "cannot read the relevance calculator", path))?;
    match meta.is_file() && meta.len() <= LARGEST {
        true => Ok(()),
        false => Err(Error::data(format!(
            "not a relevance calculator: it is no regular file of at most {LARGEST} bytes"
        ))
        .file(path)
        .value(format!("{} bytes", meta.len()))),
    }
}

/// Reads a calculator from outside. No such file: 66; damaged, or of another format: 65, with the key where
/// it is.
pub fn read(path: &Path) -> Result<Calculator> {
    let failed = |e: std::io::Error| Error::io(&e, "cannot read the relevance calculator", path);
    let damaged = |what: String| Error::data(format!("not a relevance calculator: {what}")).file(path);
    check_size(path)?;
    let mut bytes = Vec::new();
    File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if version.format != FORMAT {
        return Err(damaged(format!("this program reads format {FORMAT}"))
            .with("key", "format")
            .value(version.format));
    }
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let calculator: Calculator = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| damaged(e.inner().to_string()).with("key", e.path().to_string()))?;
    validate(&calculator).map_err(|e| e.file(path))?;
    Ok(calculator)
}

/// The teachers as a calculator knows them: digests of everything that training depends on.
pub fn members(teachers: &[Teacher]) -> Result<Vec<Member>> {
    teachers.par_iter().with_max_len(1).map(member).collect()
}

/// One of [`members`].
pub fn member(teacher: &Teacher) -> Result<Member> {
    let bundle = &teacher.bundle;
    let files = bundle
        .files()?
        .iter()
        .map(|f| digest::named(f, &bundle.folder.join(f)))
        .collect::<Result<Vec<_>>>()?;
    let mut text: Vec<String> = files.iter().map(|f| format!("{} {}", f.sha256, f.path)).collect();
    // The pipeline may map a teacher's classes onto the target's in another way.
    text.push(format!("{:?}", teacher.onto));
    Ok(Member { name: teacher.name().to_string(), digest: digest::text(&text.join("\n")) })
}

/// The digest by which a bundle's model is known in a sketch.
pub fn model_digest(teacher: &Teacher) -> Result<String> {
    Ok(digest::named("model", &teacher.bundle.model_path())?.sha256)
}
