//! Loads the real library. This is one test, because a process loads the library once.

use std::fs;

use quintet_onnxruntime::{LoadError, ThreadPool, load};

const THREADS: ThreadPool = ThreadPool { intra_op_threads: 1, spin: false };

#[test]
fn rejects_a_file_that_is_no_library_and_loads_the_real_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    fs::write(&text, "not a library").unwrap();
    let error = load(Some(&text), THREADS).unwrap_err().to_string();
    assert!(error.starts_with("cannot open ONNX Runtime: ") && error.contains("file too short"), "{error}");

    let loaded = match load(None, THREADS) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    };
    assert!(loaded.build_info.contains("ORT Build Info"), "{}", loaded.build_info);
    assert!(std::ptr::eq(load(None, THREADS).unwrap(), loaded));
    assert!(matches!(load(Some(&text), THREADS), Err(LoadError::AlreadyLoaded { .. })));
}
