//! The one way to read what lies at a [`Location`]: looked at, listed, read as a whole or in pieces.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::slice::from_ref;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Error, Kind, Result};
use crate::lake::location::{FileId, Location, Version};
use crate::lake::objects;

/// Rows of a batch: small enough that a batch of all features stays in the L2 cache while every teacher
/// scores it.
pub const BATCH_ROWS: usize = 8192;
/// What a footer and its length are sought in first; a larger footer takes another request.
const TAIL: u64 = 64 << 10;

/// What stands at a place now; none where nothing does.
pub fn stat(place: &Location) -> Result<Option<FileId>> {
    match place {
        Location::Path(path) => match std::fs::metadata(path) {
            Ok(meta) => {
                Ok(Some(FileId { bytes: meta.len(), version: Version::Modified(meta.modified().ok()) }))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(Error::io(&e, "cannot look at", path)),
        },
        Location::Object(uri) => objects::stat(uri),
        Location::Table(_) => Err(no_file(place)),
    }
}

/// The files below a place, at any depth, by their names below it and in the order of these; those behind `after`
/// alone. None where nothing is.
pub fn list(place: &Location, after: Option<&str>) -> Result<Vec<(String, FileId)>> {
    let root = match place {
        Location::Path(root) => root,
        Location::Object(uri) => return objects::list(uri, after),
        Location::Table(_) => return Err(no_file(place)),
    };
    let (mut found, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = match std::fs::read_dir(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            entries => entries.map_err(|e| Error::io(&e, "cannot list", &path))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(&e, "cannot list", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.path().is_dir() {
                folders.push(name);
            } else if after.is_none_or(|after| name.as_str() > after)
                && let Some(id) = stat(&Location::Path(entry.path()))?
            {
                found.push((name, id));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// All of a file; missing: 66.
pub fn read(place: &Location) -> Result<Bytes> {
    match place {
        Location::Path(path) => {
            std::fs::read(path).map(Bytes::from).map_err(|e| Error::io(&e, "cannot read", path))
        }
        Location::Object(uri) => objects::read(uri),
        Location::Table(_) => Err(no_file(place)),
    }
}

fn no_file(place: &Location) -> Error {
    Error::config("a table in a catalog stands here, and a file is wanted").value(place)
}

/// A Parquet file that is read in pieces.
#[derive(Debug)]
pub enum Input {
    File(File),
    Object(Object),
}

/// An object, and the pieces of it that are here.
#[derive(Debug)]
pub struct Object {
    uri: String,
    id: FileId,
    pieces: Vec<(u64, Bytes)>,
}

impl Input {
    /// Opens what stands at a place, which is `known` from a list or looked up. Missing: 66.
    pub fn open(place: &Location, known: Option<&FileId>) -> Result<(Input, FileId)> {
        match place {
            Location::Path(path) => {
                let io = |e: io::Error| Error::io(&e, "cannot open", path);
                let file = File::open(path).map_err(io)?;
                let meta = file.metadata().map_err(io)?;
                let id = FileId { bytes: meta.len(), version: Version::Modified(meta.modified().ok()) };
                Ok((Input::File(file), id))
            }
            Location::Object(uri) => {
                let id = match known {
                    Some(id) => id.clone(),
                    None => objects::stat(uri)?
                        .ok_or_else(|| Error::new(Kind::Missing, "nothing is there").file(place.shown()))?,
                };
                Ok((Input::Object(Object { uri: uri.clone(), id: id.clone(), pieces: Vec::new() }), id))
            }
            Location::Table(_) => Err(no_file(place)),
        }
    }

    /// Fetches the end of the file, where a footer stands.
    pub fn fetch_tail(&mut self) -> Result<()> {
        match self {
            Input::Object(object) => {
                let tail = object.id.bytes.saturating_sub(TAIL)..object.id.bytes;
                object.fetch(from_ref(&tail))
            }
            Input::File(_) => Ok(()),
        }
    }

    /// Fetches what is about to be read, neighbours with one request. A file of this machine needs no such thing.
    pub fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        match self {
            Input::Object(object) => object.fetch(ranges),
            Input::File(_) => Ok(()),
        }
    }
}

impl Object {
    fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        let fetched = objects::ranges(&self.uri, &self.id, ranges)?;
        self.pieces.extend(ranges.iter().map(|r| r.start).zip(fetched));
        Ok(())
    }

    /// The bytes from `start` on, as far as they are here; at least `least` of them.
    fn piece(&self, start: u64, least: usize) -> ParquetResult<Bytes> {
        let here = |(from, bytes): &(u64, Bytes)| {
            let skip = usize::try_from(start.checked_sub(*from)?).ok()?;
            (skip <= bytes.len() && bytes.len() - skip >= least).then(|| bytes.slice(skip..))
        };
        if let Some(bytes) = self.pieces.iter().find_map(here) {
            return Ok(bytes);
        }
        let end = start.saturating_add(least as u64);
        if end > self.id.bytes {
            return Err(ParquetError::EOF(format!("{end} is beyond the end of the file")));
        }
        let fetched = objects::ranges(&self.uri, &self.id, from_ref(&(start..end)));
        let fetched = fetched.map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(fetched.into_iter().next().unwrap_or_default())
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        match self {
            Input::File(file) => file.metadata().map_or(0, |m| m.len()),
            Input::Object(object) => object.id.bytes,
        }
    }
}

impl ChunkReader for Input {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match self {
            Input::File(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                Ok(Box::new(io::BufReader::new(file)))
            }
            Input::Object(object) => Ok(Box::new(Cursor::new(object.piece(start, 1)?))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Input::File(file) => file.get_bytes(start, length),
            Input::Object(object) => Ok(object.piece(start, length)?.slice(..length)),
        }
    }
}
