//! A full disk. A limit on the size of files stands for it: a write beyond it fails, in the middle if need be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use quintet_onnxruntime::ThreadPool;
use quintet_server::{
    backend::onnx::ProviderPolicy,
    repository::{Loader, Mode, Options, Overrides, Repository},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    backend::{ECHO, service},
    client::{Outcome, Protocol, connect},
    stream::Faulty,
};

/// The folder of a test with a limit.
const FOLDER: &str = "QUINTET_FAULT_FOLDER";

/// Runs an ignored test of this file in a process of its own, whose files have at most 8 KiB (16 blocks). `folder` is for its
/// files.
fn with_limit(test: &str, folder: &Path) {
    // Its output goes through a pipe, which has no limit: that of this test may be a file.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" --exact disk::\"$1\" --ignored"])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(FOLDER, folder)
        .env("TMPDIR", folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_full_disk_costs_only_the_traces_that_do_not_fit() {
    with_limit("traces_beyond_the_limit", tempfile::tempdir().unwrap().path());
}

#[test]
fn a_full_disk_costs_only_the_load_whose_files_do_not_fit() {
    with_limit("loads_beyond_the_limit", tempfile::tempdir().unwrap().path());
}

#[tokio::test]
#[ignore = "run by another test, with a limit on the size of files"]
async fn traces_beyond_the_limit() {
    let path = folder().join("trace.json");
    let (service, _) = service(&path);
    let (client, _) = connect(&service, Protocol::Plain, |wire| Faulty::new(wire, 1, None), 4096).await;
    let mut client = client.unwrap();
    let read = || serde_json::from_slice::<Vec<serde_json::Value>>(&fs::read(&path).unwrap()).unwrap();
    for _ in 0..200 {
        assert_eq!(client.infer(ECHO, b"row").await, Outcome::Answered);
    }
    service.traces().flush();
    let fitted = read();
    assert!(!fitted.is_empty());
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: limit.maximum, ..limit }).unwrap();
    assert_eq!(client.infer(ECHO, b"row").await, Outcome::Answered);
    service.traces().flush();
    let all = read();
    assert!(all.len() > fitted.len() && all.starts_with(&fitted), "{} of {} traces are left", all.len(), fitted.len());
}

#[tokio::test]
#[ignore = "run by another test, with a limit on the size of files"]
async fn loads_beyond_the_limit() {
    let (service, _) = service(Path::new("/dev/null"));
    let root = folder().join("repository");
    fs::create_dir(&root).unwrap();
    let loader = Loader {
        library: quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap(),
        providers: None,
        policy: ProviderPolicy::Fallback,
        engine_cache: None,
        weights: None,
        auto_complete: Some(4),
        parameters: Vec::new(),
        response_cache: None,
        idle_unload: None,
    };
    let options = Options {
        roots: vec![root].into(),
        mode: Mode::Explicit,
        loader,
        loads_at_once: 1,
        load_retries: 0,
        strict_readiness: true,
    };
    let repository = Arc::new(Repository::new(Arc::clone(service.catalog()), options));
    service.attach(Arc::clone(&repository));
    let load = async |labels: usize| {
        let config = r#"{"backend": "image", "max_batch_size": 4}"#;
        let mut overrides = Overrides::default();
        overrides.insert("config", config.into()).unwrap();
        overrides.insert("file:1/labels", Bytes::from(vec![b'x'; labels])).unwrap();
        repository.load("m", overrides).await.map_err(|error| error.to_string())
    };
    let error = load(9000).await.unwrap_err();
    assert!(error.contains("failed to poll from model repository: cannot write its files: File too large"), "{error}");
    let mut left = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.any(|name| name.to_string_lossy().starts_with("quintet-")), "the files of the failed load are left");
    let (client, _) = connect(&service, Protocol::Plain, |wire| Faulty::new(wire, 1, None), 4096).await;
    assert_eq!(client.unwrap().infer(ECHO, b"row").await, Outcome::Answered);
    load(100).await.unwrap();
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).unwrap())
}
