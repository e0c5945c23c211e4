//! What a store has of each model, and objects in parts.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Component, Path},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{GetOptions, ObjectMeta, ObjectStore, path::Path as Key};
use serde::{Deserialize, Serialize};

use crate::repository::folders::is_name;

/// Bytes of an object that one request asks for.
pub(super) const PART_BYTES: u64 = 8 << 20;
/// Parts that are asked for at the same time.
const PARTS_AT_ONCE: usize = 4;
/// Maximum number of objects of a repository.
const MAX_OBJECTS: usize = 100_000;

/// An object as it was listed. Another version differs in one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) bytes: u64,
    pub(super) etag: Option<String>,
    pub(super) modified: String,
}

/// The objects of a model by their paths in its folder.
pub(super) type Listing = BTreeMap<String, Version>;

/// Why objects could not be listed or read.
pub(super) enum ReadError {
    /// The store's error.
    Store(object_store::Error),
    /// A name that is not that of a file inside.
    Name(String),
    /// More than [`MAX_OBJECTS`].
    TooMany,
    /// It is not the listed version any more.
    Changed,
    /// The file cannot be written.
    Write(io::Error),
}

impl From<object_store::Error> for ReadError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::Precondition { .. } => Self::Changed,
            object_store::Error::InvalidPath { source } => Self::Name(source.to_string()),
            error => Self::Store(error),
        }
    }
}

/// The models below `prefix`, or only the model `name`. Objects that are in no folder belong to none, and neither do those in
/// folders whose names cannot be a model's.
///
/// # Errors
/// When the store cannot be listed, has too many objects, or one whose name leads out of its model's folder.
pub(super) async fn list(
    store: &dyn ObjectStore,
    prefix: &Key,
    name: Option<&str>,
) -> Result<BTreeMap<String, Listing>, ReadError> {
    let below = match name {
        Some(name) => Key::parse(format!("{prefix}/{name}")).map_err(object_store::Error::from)?,
        None => prefix.clone(),
    };
    let mut objects = store.list(Some(&below));
    let (mut models, mut left) = (BTreeMap::<String, Listing>::new(), MAX_OBJECTS);
    while let Some(object) = objects.next().await {
        let ObjectMeta { location, last_modified, size, e_tag, .. } = object?;
        left = left.checked_sub(1).ok_or(ReadError::TooMany)?;
        let path = location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default().trim_start_matches('/');
        let Some((model, path)) = path.split_once('/').filter(|(model, _)| is_name(model)) else { continue };
        if !is_inside(path) {
            return Err(ReadError::Name(format!("{:?} leads out of its model's folder", location.as_ref())));
        }
        let version = Version { bytes: size, etag: e_tag, modified: last_modified.to_rfc3339() };
        models.entry(model.to_owned()).or_default().insert(path.to_owned(), version);
    }
    for listing in models.values_mut() {
        let markers: Vec<_> = listing.keys().filter(|path| has_objects_below(listing, path)).cloned().collect();
        for path in markers {
            if listing[&path].bytes == 0 {
                listing.remove(&path);
            }
        }
    }
    Ok(models)
}

/// Whether a path names a file below the folder that it is joined to.
fn is_inside(path: &str) -> bool {
    let parts = Path::new(path).components();
    !path.contains('\0')
        && parts.count() == path.split('/').count()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn has_objects_below(listing: &Listing, path: &str) -> bool {
    let folder = format!("{path}/");
    listing.range(folder.clone()..).next().is_some_and(|(next, _)| next.starts_with(&folder))
}

/// Whether an empty object stands for an empty folder, which stores do not have otherwise: the folder of a version, as ensembles
/// have them.
pub(super) fn is_folder(path: &str, version: &Version) -> bool {
    version.bytes == 0 && !path.is_empty() && path.chars().all(|it| it.is_ascii_digit())
}

/// Writes the listed version of an object to `to`.
///
/// # Errors
/// When it cannot be read or written, or another version has taken its place.
pub(super) async fn read(
    store: &dyn ObjectStore,
    location: &Key,
    version: &Version,
    to: &mut impl Write,
) -> Result<(), ReadError> {
    let starts = (0..version.bytes).step_by(PART_BYTES as usize);
    let parts = starts.map(|start| part(store, location, version, start));
    let mut parts = std::pin::pin!(stream::iter(parts).buffered(PARTS_AT_ONCE));
    while let Some(bytes) = parts.try_next().await? {
        to.write_all(&bytes).map_err(ReadError::Write)?;
    }
    Ok(())
}

async fn part(store: &dyn ObjectStore, location: &Key, version: &Version, start: u64) -> Result<Bytes, ReadError> {
    let end = version.bytes.min(start + PART_BYTES);
    let options =
        GetOptions { if_match: version.etag.clone(), range: Some((start..end).into()), ..GetOptions::default() };
    let answer = store.get_opts(location, options).await.map_err(|error| match error {
        object_store::Error::NotFound { .. } => ReadError::Changed,
        error => error.into(),
    })?;
    let is_same = answer.meta.size == version.bytes && answer.range == (start..end);
    let bytes = if is_same { answer.bytes().await? } else { return Err(ReadError::Changed) };
    if bytes.len() as u64 == end - start { Ok(bytes) } else { Err(ReadError::Changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_folder_are_none() {
        for path in ["model.onnx", "1/model.onnx", "1/a b", "1/..hidden", "a\\b", "-", "1/%2e%2e/x"] {
            assert!(is_inside(path), "{path}");
        }
        for path in ["", ".", "..", "../x", "1/../../x", "/etc/passwd", "1//x", "1/./x", "1/", "a\0b"] {
            assert!(!is_inside(path), "{path:?}");
        }
    }
}
