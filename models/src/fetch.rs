//! Downloads weights from the Hugging Face hub into a cache on disk.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiError},
};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;

/// The address of the hub.
pub(crate) const HUB: &str = "https://huggingface.co";
/// The name of the file with the weights, by the hub's convention.
const FILE: &str = "model.safetensors";

/// What to download, where from, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// For example `timm/resnet18.tv_in1k`.
    pub(crate) repo: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
    /// The address of the hub or of a mirror.
    pub(crate) endpoint: String,
    /// The cache folder; by default the one that Hugging Face's tools share.
    pub(crate) cache_dir: Option<PathBuf>,
}

/// A complete, checked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its path in the cache.
    pub(crate) path: PathBuf,
    /// The SHA-256 of its content, in hexadecimal.
    pub(crate) sha256: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum FetchError {
    #[error("there is no home directory for the cache: give --cache-dir")]
    NoHome,
    #[error(
        "{endpoint} has no public file {FILE} in {repo} at revision {revision} (HTTP status {status}); see --repo and --revision"
    )]
    NotFound { endpoint: String, repo: String, revision: String, status: u16 },
    #[error(
        "cannot reach {endpoint} ({reason}); without a network, build from a local file (build --weights FILE) or from a seed (build --seed N)"
    )]
    Unreachable { endpoint: String, reason: String },
    #[error("unexpected response from {endpoint}: {reason}")]
    Unexpected { endpoint: String, reason: String },
    #[error("another process is downloading {repo}; wait until it ends, then run the command again")]
    Busy { repo: String },
    #[error("the download was interrupted ({reason}); run the same command again to resume it: the received part is in {}", cache.display())]
    Interrupted { reason: String, cache: PathBuf },
    #[error("a partial download does not match the file on the hub: delete the files *.part in {}", blobs.display())]
    Partial { blobs: PathBuf },
    #[error(
        "{repo}: the SHA-256 of the download is {found}, but the hub states {expected}; the download was deleted, try again"
    )]
    Checksum { repo: String, expected: String, found: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Source {
    /// Returns the file from the cache, and downloads it first if it is not there, with a progress bar on stderr.
    ///
    /// An interrupted download is resumed. The checksum is compared with the one that the hub states.
    pub(crate) fn fetch(&self) -> Result<Fetched, FetchError> {
        let cache = match &self.cache_dir {
            Some(dir) => Cache::new(dir.clone()),
            None if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() => {
                return Err(FetchError::NoHome);
            }
            None => Cache::from_env(),
        };
        let repo = Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone());
        let path = match cache.repo(repo.clone()).get(FILE) {
            Some(path) => path,
            None => ApiBuilder::from_cache(cache.clone())
                .with_endpoint(self.endpoint.trim_end_matches('/').into())
                .with_progress(true)
                .build()
                .and_then(|api| api.repo(repo.clone()).download(FILE))
                .map_err(|error| self.explain(error, &cache, &repo))?,
        };
        self.check(path)
    }

    /// Compares the checksum with the name of the blob: for large files the name is the hub's SHA-256.
    fn check(&self, path: PathBuf) -> Result<Fetched, FetchError> {
        let at = |source| FetchError::Io { path: path.clone(), source };
        let blob = fs::canonicalize(&path).map_err(at)?;
        let (sha256, bytes) = sha256(&blob).map_err(at)?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_sha256 && *name != *sha256 {
            fs::remove_file(&path).map_err(at)?;
            fs::remove_file(&blob).map_err(at)?;
            return Err(FetchError::Checksum { repo: self.repo.clone(), expected: name.into_owned(), found: sha256 });
        }
        Ok(Fetched { path, sha256, bytes })
    }

    fn explain(&self, error: ApiError, cache: &Cache, repo: &Repo) -> FetchError {
        let blobs = || {
            let repo_dir = cache.path().join(repo.folder_name());
            repo_dir.join("blobs")
        };
        let unexpected = |reason: String| FetchError::Unexpected { endpoint: self.endpoint.clone(), reason };
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(416) => FetchError::Partial { blobs: blobs() },
                ureq::Error::StatusCode(status @ (401 | 403 | 404)) => FetchError::NotFound {
                    endpoint: self.endpoint.clone(),
                    repo: self.repo.clone(),
                    revision: self.revision.clone(),
                    status,
                },
                ureq::Error::StatusCode(status) => unexpected(format!("HTTP status {status}")),
                other => FetchError::Unreachable { endpoint: self.endpoint.clone(), reason: other.to_string() },
            },
            ApiError::InvalidResume => FetchError::Partial { blobs: blobs() },
            // hf-hub reports a broken connection as an error of copying the body to disk.
            ApiError::IoError(error) => {
                FetchError::Interrupted { reason: error.to_string(), cache: cache.path().clone() }
            }
            ApiError::LockAcquisition(_) => FetchError::Busy { repo: self.repo.clone() },
            other => unexpected(other.to_string()),
        }
    }
}

/// The SHA-256 and the size of a file.
fn sha256(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex(&hash.finalize()), bytes)),
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}
