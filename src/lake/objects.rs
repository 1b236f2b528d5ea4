//! Object stores, through the object_store crate: S3, Google Cloud Storage, Azure. Credentials and endpoints
//! come from the environment, under the names that the crate reads (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
//!
//! The program has no other asynchronous code: each call here waits for its answer.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path as File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use object_store::{PutMode, PutOptions, PutPayload, WriteMultipart};
use tokio::runtime::Runtime;

use crate::error::{Error, Kind, Result};
use crate::lake::location::{FileId, Version};

type Answer<T> = std::result::Result<T, StoreError>;

/// A file larger than this is uploaded in parts.
const PART: usize = 16 << 20;
/// A setting of other writers under which a commit takes a DynamoDB lock that this program would not see.
const LOCKING: &str = "AWS_S3_LOCKING_PROVIDER";

/// What is at a URI: size, and the ETag as its version.
pub fn stat(uri: &str) -> Result<Option<FileId>> {
    let (store, path) = at(uri)?;
    match wait(store.head(&path)) {
        Ok(meta) => Ok(Some(id(meta))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(failed(&e, "cannot look at", uri)),
    }
}

/// All objects below a URI, by the rest of their keys, in the order of the keys; those behind `after` alone.
pub fn list(uri: &str, after: Option<&str>) -> Result<Vec<(String, FileId)>> {
    let (store, prefix) = at(uri)?;
    let found: Vec<ObjectMeta> = match after {
        Some(name) => {
            let offset = key(&format!("{prefix}/{name}"), uri)?;
            wait(store.list_with_offset(Some(&prefix), &offset).try_collect())
        }
        None => wait(store.list(Some(&prefix)).try_collect()),
    }
    .map_err(|e| failed(&e, "cannot list", uri))?;
    let below = |meta: ObjectMeta| {
        let name = meta.location.as_ref().strip_prefix(prefix.as_ref())?.trim_start_matches('/').to_string();
        Some((name, id(meta)))
    };
    let mut found: Vec<(String, FileId)> = found.into_iter().filter_map(below).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// All of an object; missing: 66.
pub fn read(uri: &str) -> Result<Bytes> {
    let (store, path) = at(uri)?;
    wait(async { store.get(&path).await?.bytes().await }).map_err(|e| failed(&e, "cannot read", uri))
}

/// Ranges of an object, which must still be the one that `id` names (75 otherwise).
pub fn ranges(uri: &str, id: &FileId, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let (store, path) = at(uri)?;
    let etag = match &id.version {
        Version::ETag(tag) => Some(tag.clone()),
        Version::Modified(_) => None,
    };
    let fetch = |range: Range<u64>| {
        let options = GetOptions {
            if_match: etag.clone(),
            range: Some(GetRange::Bounded(range)),
            ..Default::default()
        };
        let (store, path) = (store.clone(), path.clone());
        async move { store.get_opts(&path, options).await?.bytes().await }
    };
    let fetched =
        wait(object_store::coalesce_ranges(ranges, fetch, object_store::OBJECT_STORE_COALESCE_DEFAULT));
    fetched.map_err(|e| failed(&e, "cannot read", uri))
}

/// Writes an object, over another one if there is one.
pub fn write(uri: &str, bytes: Bytes) -> Result<()> {
    let (store, path) = at(uri)?;
    wait(store.put(&path, PutPayload::from_bytes(bytes)))
        .map(|_| ())
        .map_err(|e| failed(&e, "cannot write", uri))
}

/// Writes an object where none is; false where one is. An answer that was lost on its way can say so of our own
/// object: the caller looks at what stands there.
pub fn write_new(uri: &str, bytes: Bytes) -> Result<bool> {
    let (store, path) = at(uri)?;
    let options = PutOptions { mode: PutMode::Create, ..Default::default() };
    match wait(store.put_opts(&path, PutPayload::from_bytes(bytes), options)) {
        Ok(_) => Ok(true),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
        Err(e) => Err(failed(&e, "cannot write", uri)),
    }
}

/// Writes an object over the one that `id` names; false where another one is there by now.
pub fn write_over(uri: &str, id: &FileId, bytes: Bytes) -> Result<bool> {
    let (store, path) = at(uri)?;
    let Version::ETag(tag) = &id.version else { return Ok(false) };
    let version = object_store::UpdateVersion { e_tag: Some(tag.clone()), version: None };
    let options = PutOptions { mode: PutMode::Update(version), ..Default::default() };
    match wait(store.put_opts(&path, PutPayload::from_bytes(bytes), options)) {
        Ok(_) => Ok(true),
        Err(
            StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. },
        ) => Ok(false),
        Err(e) => Err(failed(&e, "cannot write", uri)),
    }
}

/// Copies a file of this machine to a URI; a large one in parts, which appear together.
pub fn upload(file: &File, uri: &str) -> Result<()> {
    let bytes = std::fs::read(file).map_err(|e| Error::io(&e, "cannot read", file))?;
    if bytes.len() <= PART {
        return write(uri, Bytes::from(bytes));
    }
    let (store, path) = at(uri)?;
    let sent = wait(async {
        let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, PART);
        for part in bytes.chunks(PART) {
            parts.wait_for_capacity(4).await?;
            parts.write(part);
        }
        parts.finish().await
    });
    sent.map(|_| ()).map_err(|e| failed(&e, "cannot write", uri))
}

/// Removes an object; none there is fine.
pub fn remove(uri: &str) -> Result<()> {
    let (store, path) = at(uri)?;
    match wait(store.delete(&path)) {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(e) => Err(failed(&e, "cannot remove", uri)),
    }
}

/// The store of a URI and the key in it. Stores are kept: each has its connections and credentials.
fn at(uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = OnceLock::new();
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let (container, name) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stores = STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let root = format!("{scheme}://{container}");
    let store = match stores.get(&root) {
        Some(store) => store.clone(),
        None => {
            let store = open(scheme, &root).map_err(|e| {
                Error::config(format!("cannot use this object store: {e}"))
                    .value(&root)
                    .hint("credentials and endpoint are taken from the environment")
            })?;
            stores.insert(root, store.clone());
            store
        }
    };
    Ok((store, key(name, uri)?))
}

fn open(scheme: &str, root: &str) -> std::result::Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(match scheme {
        "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(root).build()?),
        "az" | "abfs" | "abfss" => Arc::new(MicrosoftAzureBuilder::from_env().with_url(root).build()?),
        _ => Arc::new(AmazonS3Builder::from_env().with_url(root).build()?),
    })
}

/// Refuses (78) an environment in which other writers lock what this program would not see locked.
pub fn check_locking(uri: &str) -> Result<()> {
    match std::env::var(LOCKING) {
        Ok(provider) if !provider.is_empty() && uri.starts_with("s3") => {
            Err(Error::config("commits take no lock from a provider, they are conditional writes")
                .with("key", LOCKING)
                .value(provider)
                .hint("unset it, and let no writer that needs it write these tables"))
        }
        _ => Ok(()),
    }
}

fn key(name: &str, uri: &str) -> Result<Path> {
    Path::parse(name).map_err(|e| Error::data(format!("not a key of an object: {e}")).value(uri))
}

fn id(meta: ObjectMeta) -> FileId {
    let version = match meta.e_tag {
        Some(tag) => Version::ETag(tag),
        None => Version::Modified(Some(meta.last_modified.into())),
    };
    FileId { bytes: meta.size, version }
}

/// Waits for an answer of a store.
fn wait<T>(answer: impl Future<Output = Answer<T>>) -> Answer<T> {
    waited(answer).unwrap_or_else(|e| {
        Err(StoreError::Generic { store: "threads for it", source: e.to_string().into() })
    })
}

/// Waits for what a server answers, of a store or of a catalog.
pub fn waited<T>(answer: impl Future<Output = T>) -> Result<T> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let start = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match RUNTIME.get_or_init(start) {
        Ok(runtime) => Ok(runtime.block_on(answer)),
        Err(e) => Err(Error::new(Kind::TryAgain, format!("cannot start a thread: {e}"))),
    }
}

/// A store's error, mapped to the exit code that tells whether a retry can help.
fn failed(error: &StoreError, doing: &str, uri: &str) -> Error {
    let kind = match error {
        StoreError::NotFound { .. } => Kind::Missing,
        StoreError::Precondition { .. } => {
            return Error::new(Kind::TryAgain, "the file was replaced while it was read")
                .file(File::new(uri));
        }
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Kind::CannotCreate,
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. } => Kind::Io,
        // the crate has tried again for some minutes before it says so
        _ => Kind::TryAgain,
    };
    Error::new(kind, format!("{doing}: {error}")).file(File::new(uri))
}
