//! In place of `objects` where the feature `lakehouse` is off: every URI is refused (78) with the command that
//! builds the binary that has it.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lake::location::FileId;

fn absent<T>(uri: &str) -> Result<T> {
    Err(Error::config("this program reads and writes paths, not object stores")
        .value(uri)
        .hint("`make lakehouse` builds the binary that does"))
}

pub fn stat(uri: &str) -> Result<Option<FileId>> {
    absent(uri)
}

pub fn list(uri: &str, _: Option<&str>) -> Result<Vec<(String, FileId)>> {
    absent(uri)
}

pub fn read(uri: &str) -> Result<Bytes> {
    absent(uri)
}

pub fn ranges(uri: &str, _: &FileId, _: &[Range<u64>]) -> Result<Vec<Bytes>> {
    absent(uri)
}

pub fn write(uri: &str, _: Bytes) -> Result<()> {
    absent(uri)
}

pub fn write_new(uri: &str, _: Bytes) -> Result<bool> {
    absent(uri)
}

pub fn write_over(uri: &str, _: &FileId, _: Bytes) -> Result<bool> {
    absent(uri)
}

pub fn upload(_: &Path, uri: &str) -> Result<()> {
    absent(uri)
}

pub fn remove(uri: &str) -> Result<()> {
    absent(uri)
}

pub fn check_locking(uri: &str) -> Result<()> {
    absent(uri)
}
