//! `GET /page/runs`: the runs of `quintet-bench` in the folder of `--results`, the newest first, and
//! `GET /page/runs/{run}/{file}`: the files of their reports.

use std::{
    fs, io,
    io::Read as _,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use quintet_engine::{ErrorKind, InferError};

use super::state::Page;
use crate::transport::http1::reply::{self, Failure};

/// Runs of the list.
const MAX_RUNS: usize = 200;

/// Folders that are looked at for the list.
const MAX_ENTRIES: usize = 10_000;

/// The longest report that is sent: most have less than 1 MB.
const MAX_REPORT_BYTES: u64 = 32 << 20;

const REPORT: &str = "report.json";

/// The files of a run that are sent, with their content types.
const FILES: [(&str, &str); 2] = [(REPORT, "application/json"), ("report.html", "text/html; charset=utf-8")];

/// A report's page has styles of its own and nothing else; a report from elsewhere may do no more.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox; base-uri 'none'; frame-ancestors 'none'";

/// Answers with the names of the runs.
pub(super) async fn list(State(page): State<Arc<Page>>) -> Result<Response, Failure> {
    let folder = page.results.clone();
    let names = tokio::task::spawn_blocking(move || names(&folder)).await.map_err(InferError::internal)?;
    Ok(Json(names).into_response())
}

/// The folders with a report; none if there is no such folder.
fn names(folder: &FilePath) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| is_run(name) && folder.join(name).join(REPORT).is_file()).collect();
    // They are named by their times.
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(MAX_RUNS);
    names
}

/// Whether a name is that of a run's folder, as `quintet-bench` makes it: no path, nothing hidden.
fn is_run(name: &str) -> bool {
    !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Answers with a file of a run.
pub(super) async fn file(
    State(page): State<Arc<Page>>,
    Path((run, file)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let known = FILES.iter().find(|(name, _)| *name == file).filter(|_| is_run(&run));
    let Some((name, content_type)) = known else { return Ok(reply::not_found().await) };
    let path = page.results.join(run).join(name);
    let Some(content) = read(&page, path).await? else { return Ok(reply::not_found().await) };
    let headers = [
        (header::CONTENT_TYPE, *content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers.map(|(name, value)| (name, HeaderValue::from_static(value))), Body::from(content)).into_response())
}

/// A file, whose bytes count as memory of requests until they are sent; `None` if it does not exist.
async fn read(page: &Page, path: PathBuf) -> Result<Option<Bytes>, InferError> {
    let Some(service) = page.services().next() else { return Ok(None) };
    let mut charge = service.catalog().pool().budget().charge();
    let read = move || {
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(InferError::internal(error)),
        };
        let length = file.metadata().map_err(InferError::internal)?.len();
        if length > MAX_REPORT_BYTES {
            let refusal = format_args!("the report has {length} bytes; at most {MAX_REPORT_BYTES} are sent");
            return Err(InferError::new(ErrorKind::TooLarge, refusal));
        }
        charge.try_force(length as usize)?;
        let mut content = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut content).map_err(InferError::internal)?;
        Ok(Some(charge.hold(content.into())))
    };
    tokio::task::spawn_blocking(read).await.map_err(InferError::internal)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_folders_with_a_report_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        for run in ["20260101T000000Z", "20260102T000000Z-2", "20260103T000000Z", ".hidden", "a b"] {
            fs::create_dir(folder.path().join(run)).unwrap();
        }
        for run in ["20260101T000000Z", "20260102T000000Z-2", ".hidden", "a b"] {
            fs::write(folder.path().join(run).join(REPORT), "{}").unwrap();
        }
        assert_eq!(names(folder.path()), ["20260102T000000Z-2", "20260101T000000Z"]);
        assert_eq!(names(&folder.path().join("none")), [""; 0]);
        for name in ["..", ".", "a/b", "..%2f", "a\\b"] {
            assert!(!is_run(name), "{name}");
        }
    }
}
