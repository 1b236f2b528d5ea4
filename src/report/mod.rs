//! The page that people read: one HTML file made from the published tables and the records of a run alone.
//!
//! `gather` reads them into a [`data::Report`], `html` draws it. Every run leaves the page in its run directory; `coldstart report` makes it again, with
//! the labels that have arrived since, or writes it elsewhere.

pub mod data;
mod gather;
mod html;
mod plot;
mod rows;
pub mod table;
mod verdict;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use gather::EVALUATION;
use gather::Source;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::job::remote;
use crate::lake::store::files::write_atomic;
use crate::lake::store::{Real, Store};
use crate::process::secrets::redact;

/// The page's name in a run directory.
pub const PAGE: &str = "report.html";

/// Writes the page of a date into its run directory, or to `out`; where it lies.
pub fn write(store: &dyn Store, pipeline: &Pipeline, date: &str, out: Option<&Path>) -> Result<PathBuf> {
    let source = Source::open(pipeline, date)?;
    let page = html::render(&source.report()?)
        .map_err(|e| Error::bug(format!("the page cannot be drawn: {e:#}")))?;
    let path = out.map_or_else(|| source.root().join(PAGE), Path::to_path_buf);
    if path.is_dir() {
        return Err(
            Error::new(crate::error::Kind::CannotCreate, "the place of the page is a directory").file(&path)
        );
    }
    write_atomic(store, &path, redact(&page).as_bytes())?;
    let kept = if out.is_none() { remote::keep_file(pipeline, date, PAGE)? } else { None };
    Ok(kept.map_or(path, |place| place.shown().to_path_buf()))
}

/// `coldstart report`: the result line.
pub fn command(pipeline: &Pipeline, date: &str, out: Option<&Path>) -> Result<Value> {
    let path = write(&Real, pipeline, date, out)?;
    Ok(
        json!({"status": "reported", "pipeline": pipeline.name, "date": date, "report": path.display().to_string()}),
    )
}
