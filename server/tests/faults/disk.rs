//! A full disk. A limit on the size of files stands for it: a write beyond it fails, in the middle if need be.

use std::{fs, path::PathBuf, process::Command};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    backend::{ECHO, service},
    client::{Outcome, Protocol, connect},
    stream::Faulty,
};

/// The trace file of [`traces_beyond_the_limit`].
const FILE: &str = "QUINTET_FAULT_TRACE_FILE";

#[test]
fn a_full_disk_costs_only_the_traces_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    // The limit is a process's: a second one runs the test below, with files of at most 8 KiB (16 blocks).
    // Its output goes through a pipe, which has no limit: that of this test may be a file.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" --exact disk::traces_beyond_the_limit --ignored"])
        .arg(std::env::current_exe().unwrap())
        .env(FILE, folder.path().join("trace.json"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run by another test, with a limit on the size of files"]
async fn traces_beyond_the_limit() {
    let path = PathBuf::from(std::env::var_os(FILE).unwrap());
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
