//! What delta_kernel asks of its host, over [`crate::lake::input`] and arrow: files listed and read, JSON and
//! Parquet of the log decoded. It writes nothing.

use std::io::Cursor;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::json::ReaderBuilder;
use bytes::Bytes;
use delta_kernel::engine::arrow_conversion::TryFromArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::engine::arrow_expression::ArrowEvaluationHandler;
use delta_kernel::engine::arrow_utils::{
    RowIndexBuilder, build_json_reorder_indices, fixup_json_read, fixup_parquet_read, json_arrow_schema,
    ordering_needs_row_indexes, parquet_read_plan,
};
use delta_kernel::engine::reader_options;
use delta_kernel::schema::{SchemaRef, StructType};
use delta_kernel::{
    Engine, EngineData, EvaluationHandler, FileDataReadResultIterator, FileMeta, FileSize, FileSlice,
    FilteredEngineData, JsonHandler, KernelError, KernelResult, KernelResultIterator,
    KernelResultIteratorStatic, ParquetFooter, ParquetHandler, PredicateRef, StorageHandler,
};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use rayon::prelude::*;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::lake::input;
use crate::lake::location::{FileId, Location, Version, unescape};

/// The engine; it holds nothing.
pub struct LogEngine(Arc<ArrowEvaluationHandler>);

impl Default for LogEngine {
    fn default() -> LogEngine {
        LogEngine(Arc::new(ArrowEvaluationHandler))
    }
}

struct Files;

impl Engine for LogEngine {
    fn evaluation_handler(&self) -> Arc<dyn EvaluationHandler> {
        self.0.clone()
    }

    fn storage_handler(&self) -> Arc<dyn StorageHandler> {
        Arc::new(Files)
    }

    fn json_handler(&self) -> Arc<dyn JsonHandler> {
        Arc::new(Files)
    }

    fn parquet_handler(&self) -> Arc<dyn ParquetHandler> {
        Arc::new(Files)
    }
}

/// A table's URL, as the kernel names it. Relative paths are made absolute.
pub fn url(root: &Location) -> Result<Url> {
    let refuse = |e: String| Error::data(format!("cannot name this place as a URL: {e}")).file(root.shown());
    match root {
        Location::Path(path) => {
            let absolute = std::path::absolute(path).map_err(|e| Error::io(&e, "cannot resolve", path))?;
            Url::from_directory_path(&absolute).map_err(|()| refuse("not an absolute path".to_string()))
        }
        Location::Object(uri) | Location::Table(uri) => {
            Url::parse(&format!("{uri}/")).map_err(|e| refuse(e.to_string()))
        }
    }
}

/// The place that a URL of the kernel means.
pub fn place(url: &Url) -> Location {
    match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => Location::Path(path),
        _ => {
            let path = unescape(url.path());
            let uri = format!("{}://{}{path}", url.scheme(), url.authority());
            Location::Object(uri.trim_end_matches('/').to_string())
        }
    }
}

/// An error of ours on its way through the kernel.
fn inward(error: Error) -> KernelError {
    match error.kind() {
        Kind::Missing => KernelError::FileNotFound(error.to_string()),
        _ => KernelError::generic_err(error),
    }
}

/// The kernel's error about a table; one of ours comes back as it went in.
pub fn outward(error: KernelError, root: &Location) -> Error {
    use std::error::Error as _;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(ours) = inner.downcast_ref::<Error>() {
            return ours.clone();
        }
        source = inner.source();
    }
    Error::data(format!("cannot read the Delta table: {error}")).file(root.shown())
}

fn meta(location: Url, id: &FileId) -> FileMeta {
    let since = match &id.version {
        Version::Modified(time) => time.and_then(|t| t.duration_since(UNIX_EPOCH).ok()),
        Version::ETag(_) => None,
    };
    FileMeta { location, last_modified: since.map_or(0, |d| d.as_millis() as i64), size: id.bytes }
}

impl StorageHandler for Files {
    fn list_from(&self, path: &Url) -> KernelResult<KernelResultIteratorStatic<FileMeta>> {
        let text = path.path();
        let folder_end = text.rfind('/').map_or(0, |i| i + 1);
        let (mut folder, after) = (path.clone(), unescape(&text[folder_end..]));
        folder.set_path(&text[..folder_end]);
        let after = (!after.is_empty()).then_some(after.as_str());
        let found = input::list(&place(&folder), after).map_err(inward)?;
        let url = move |(name, id): (String, FileId)| Ok(meta(folder.join(&encoded(&name))?, &id));
        Ok(Box::new(found.into_iter().map(url)))
    }

    fn read_files(&self, files: Vec<FileSlice>) -> KernelResult<KernelResultIteratorStatic<Bytes>> {
        let read = |(url, range): FileSlice| {
            let bytes = input::read(&place(&url)).map_err(inward)?;
            match range {
                Some(r) if r.end as usize <= bytes.len() && r.start <= r.end => {
                    Ok(bytes.slice(r.start as usize..r.end as usize))
                }
                Some(_) => Err(KernelError::generic(format!("{url} is too short"))),
                None => Ok(bytes),
            }
        };
        Ok(Box::new(files.into_iter().map(read)))
    }

    fn head(&self, path: &Url) -> KernelResult<FileMeta> {
        let found = input::stat(&place(path)).map_err(inward)?;
        found.map(|id| meta(path.clone(), &id)).ok_or_else(|| KernelError::FileNotFound(path.to_string()))
    }

    fn copy_atomic(&self, _: &Url, _: &Url) -> KernelResult<()> {
        Err(read_only())
    }

    fn put(&self, _: &Url, _: Bytes, _: bool) -> KernelResult<()> {
        Err(read_only())
    }

    fn delete(&self, _: &Url) -> KernelResult<()> {
        Err(read_only())
    }
}

fn read_only() -> KernelError {
    KernelError::generic("this engine only reads")
}

/// A name for a URL: all but plain characters and slashes as %XX.
pub fn encoded(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.=~".contains(&b);
    name.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

impl JsonHandler for Files {
    fn parse_json(&self, text: Box<dyn EngineData>, schema: SchemaRef) -> KernelResult<Box<dyn EngineData>> {
        delta_kernel::engine::parse_json(text, schema)
    }

    fn read_json_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        // a log has many small files, and each answer of a store takes its time
        let fetch = |file: &FileMeta| -> KernelResult<(FileMeta, Bytes)> {
            Ok((file.clone(), input::read(&place(&file.location)).map_err(inward)?))
        };
        let fetched = files.par_iter().map(fetch).collect::<KernelResult<Vec<_>>>()?;
        let read = move |(file, bytes): (FileMeta, Bytes)| -> KernelResult<Vec<ArrowEngineData>> {
            let arrow = Arc::new(json_arrow_schema(&schema)?);
            let order = build_json_reorder_indices(&schema)?;
            let reader = ReaderBuilder::new(arrow).with_coerce_primitive(true).build(Cursor::new(bytes))?;
            reader.map(|batch| fixup_json_read(batch?, &order, file.location.as_str())).collect()
        };
        Ok(batches(fetched, read))
    }

    fn write_json_file(
        &self,
        _: &Url,
        _: KernelResultIterator<'_, FilteredEngineData>,
        _: bool,
    ) -> KernelResult<FileSize> {
        Err(read_only())
    }
}

/// Reads one file after another, each when its turn comes.
fn batches<T: Send + 'static>(
    files: Vec<T>,
    read: impl Fn(T) -> KernelResult<Vec<ArrowEngineData>> + Send + 'static,
) -> FileDataReadResultIterator {
    let each = move |file| match read(file) {
        Ok(batches) => batches.into_iter().map(Ok).collect(),
        Err(e) => vec![Err(e)],
    };
    let data = files.into_iter().flat_map(each);
    Box::new(data.map(|batch| batch.map(|b| Box::new(b) as Box<dyn EngineData>)))
}

impl ParquetHandler for Files {
    fn read_parquet_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let read = move |file: FileMeta| -> KernelResult<Vec<ArrowEngineData>> {
            let bytes = input::read(&place(&file.location)).map_err(inward)?;
            let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
            let (ordering, mask) = parquet_read_plan(&schema, &metadata)?;
            let mut rows = match ordering_needs_row_indexes(&ordering) {
                true => Some(RowIndexBuilder::new(metadata.metadata().row_groups()).build()?),
                false => None,
            };
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
            if let Some(mask) = mask {
                builder = builder.with_projection(mask);
            }
            let fix = |batch| {
                fixup_parquet_read(
                    batch,
                    &ordering,
                    rows.as_mut(),
                    Some(file.location.as_str()),
                    Some(&schema),
                )
            };
            builder
                .build()?
                .map(|batch| batch.map_err(KernelError::from))
                .collect::<KernelResult<Vec<_>>>()?
                .into_iter()
                .map(fix)
                .collect()
        };
        Ok(batches(files.to_vec(), read))
    }

    fn write_parquet_file(
        &self,
        _: Url,
        _: KernelResultIteratorStatic<Box<dyn EngineData>>,
    ) -> KernelResult<FileSize> {
        Err(read_only())
    }

    fn read_parquet_footer(&self, file: &FileMeta) -> KernelResult<ParquetFooter> {
        let bytes = input::read(&place(&file.location)).map_err(inward)?;
        let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
        Ok(ParquetFooter { schema: Arc::new(StructType::try_from_arrow(metadata.schema().as_ref())?) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_place_survives_its_url() {
        for text in ["/lake/a b/ä%20#", "s3://lake/a b/c%20d"] {
            let root = Location::parse(text, Path::new("/")).unwrap();
            assert_eq!(place(&url(&root).unwrap()).to_string(), text);
        }
    }
}
