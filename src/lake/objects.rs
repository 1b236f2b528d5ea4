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
use tokio::runtime::Runtime;

use crate::error::{Error, Kind, Result};
use crate::lake::location::{FileId, Version};

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
fn wait<F: Future>(answer: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("the process can start two threads")
    };
    RUNTIME.get_or_init(start).block_on(answer)
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
