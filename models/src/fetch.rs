//! Brings weights from the Hugging Face hub into a cache on disk.

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

/// The hub itself.
pub(crate) const HUB: &str = "https://huggingface.co";
/// The file with the weights, by the hub's convention.
const FILE: &str = "model.safetensors";

/// What to fetch, from where to where.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// For example `timm/resnet18.tv_in1k`.
    pub(crate) repo: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
    /// The hub's address.
    pub(crate) endpoint: String,
    /// Where downloads are kept; by default the cache that Hugging Face's tools share.
    pub(crate) cache_dir: Option<PathBuf>,
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The file in the cache.
    pub(crate) path: PathBuf,
    /// The SHA-256 of its content, in hexadecimal.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum FetchError {
    #[error("there is no home directory to keep downloads in: give --cache-dir")]
    NoHome,
    #[error(
        "{endpoint} has no public file {FILE} in {repo} at revision {revision} (HTTP status {status}); see --repo and --revision"
    )]
    NotFound { endpoint: String, repo: String, revision: String, status: u16 },
    #[error(
        "cannot reach {endpoint} ({reason}); without a network, build from a file that is there (build --weights FILE) or from a seed (build --seed N)"
    )]
    Unreachable { endpoint: String, reason: String },
    #[error("{endpoint} does not answer as the hub does: {reason}")]
    Unexpected { endpoint: String, reason: String },
    #[error("another process is downloading {repo}; wait for it and run this again")]
    Busy { repo: String },
    #[error("the download broke off ({reason}); what arrived is kept in {}: the same command continues it", cache.display())]
    Interrupted { reason: String, cache: PathBuf },
    #[error("a partial download does not fit the file on the hub: delete the files *.part in {}", blobs.display())]
    Partial { blobs: PathBuf },
    #[error(
        "{repo}: the SHA-256 of the download is {found}, the hub says {expected}; the download was deleted, try again"
    )]
    Checksum { repo: String, expected: String, found: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Source {
    /// Gives the file from the cache, or downloads it first, with a progress bar on stderr.
    ///
    /// A download that broke off is continued. The checksum is compared with the one that the hub states.
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

    /// Compares the checksum with the name of the blob, which for large files is the hub's SHA-256.
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
            // Errors while the body arrives come as those of the copy to disk.
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
