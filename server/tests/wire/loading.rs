//! Loading a repository: in parallel, each model independently, and the old model serves until the new one is ready.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    time::Duration,
};

use prost::Message as _;
use quintet_models::{
    onnx::{ModelProto, StringStringEntryProto},
    passthrough::write_scaled,
};
use quintet_onnxruntime::PRECISION_KEY;
use quintet_server::repository::{IndexEntry, Mode, Overrides, Repository};

use crate::support::{attach, over_http, start};

/// After this time a test fails. A passing test takes much less.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A label file as a named pipe: reading it takes as long as the test holds it.
struct Pipe(PathBuf);

impl Pipe {
    fn new(path: PathBuf) -> Self {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    /// Waits until the server reads it.
    fn hold(&self) -> File {
        let (sender, opened) = mpsc::channel();
        let path = self.0.clone();
        // Opening blocks until there is a reader, so it runs in another thread.
        std::thread::spawn(move || sender.send(OpenOptions::new().write(true).open(path).unwrap()));
        opened.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("{} is not read", self.0.display()))
    }
}

/// A failing test must not leave a load waiting.
impl Drop for Pipe {
    fn drop(&mut self) {
        let released = OpenOptions::new().read(true).write(true).open(&self.0);
        // Later readers find an ordinary file.
        let _ = fs::remove_file(&self.0).and_then(|()| fs::write(&self.0, ""));
        drop(released);
    }
}

/// Writes a model without a file, whose load reads a label file.
fn write(root: &Path, model: &str, max_batch_size: usize) {
    fs::create_dir_all(root.join(model).join("1")).unwrap();
    let config = format!(
        "backend: \"image\" max_batch_size: {max_batch_size} output {{ name: \"pixels\" label_filename: \"labels\" }}"
    );
    fs::write(root.join(model).join("config.pbtxt"), config).unwrap();
}

fn index(repository: &Repository) -> Vec<IndexEntry> {
    repository.index(false).unwrap().into_iter().filter(|entry| entry.version.is_some()).collect()
}

/// The states of these models, as `name STATE reason`.
fn states(repository: &Repository, names: &[&str]) -> Vec<String> {
    let entries = index(repository).into_iter().filter(|entry| names.contains(&entry.name.as_str()));
    let states = entries.map(|entry| {
        format!("{} {} {}", entry.name, entry.state.unwrap_or_default(), entry.reason.unwrap_or_default())
    });
    states.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_load_in_parallel() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    let names = ["a", "b", "c"];
    let pipes = names.map(|name| {
        write(root.path(), name, 4);
        Pipe::new(root.path().join(name).join("labels"))
    });
    let repository = attach(&server, root.path(), Mode::None);
    let loads = tokio::spawn({
        let repository = Arc::clone(&repository);
        async move { repository.start(&names.map(str::to_owned)).await }
    });
    // Every model is in the middle of its load; no load can end before the pipes are released.
    let held = pipes.each_ref().map(Pipe::hold);
    assert_eq!(states(&repository, &names), ["a LOADING ", "b LOADING ", "c LOADING "]);
    drop(held);
    let failed = loads.await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(states(&repository, &names), ["a READY ", "b READY ", "c READY "]);
}

#[tokio::test]
async fn a_failed_model_does_not_affect_others_and_has_its_reason_in_the_index() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_scaled(root.path()).unwrap();
    let config = |model: &str, text: &str| {
        fs::create_dir_all(root.path().join(model).join("1")).unwrap();
        fs::write(root.path().join(model).join("config.pbtxt"), text).unwrap();
    };
    config("bytes", "");
    fs::write(root.path().join("bytes/1/model.onnx"), "not a model").unwrap();
    config("empty", "max_batch_size: 4");
    config("spelt", "max_batch_size: 4\nmax_batch: 8");
    config("sequence", "backend: \"image\" sequence_batching { }");
    config("misfit", "input { name: \"x\" data_type: TYPE_INT8 }");
    fs::copy(root.path().join("scaled/1/model.onnx"), root.path().join("misfit/1/model.onnx")).unwrap();
    let names = ["bytes", "empty", "misfit", "scaled", "sequence", "spelt"];
    let repository = attach(&server, root.path(), Mode::Explicit);
    let failed = repository.start(&names.map(str::to_owned)).await;
    let failed: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["bytes", "empty", "misfit", "sequence", "spelt"]);
    let states = states(&repository, &names);
    let words = [
        "bytes UNAVAILABLE cannot load ",
        "empty UNAVAILABLE model 'empty' has no model file ",
        "misfit UNAVAILABLE ",
        "scaled READY ",
        "sequence UNAVAILABLE ",
        "spelt UNAVAILABLE ",
    ];
    for (state, words) in states.iter().zip(words) {
        assert!(state.starts_with(words), "{state}");
    }
    let inside = [
        (0, "bytes/1/model.onnx"),
        (2, "misfit/config.pbtxt: input 'x' is configured as INT8 but is FP32 in the model"),
        (4, "sequence/config.pbtxt:1:18: field 'sequence_batching': this server does not support it"),
        (5, "spelt/config.pbtxt:2:1: unknown field 'max_batch'; did you mean 'max_batch_size'?"),
    ];
    for (at, words) in inside {
        assert!(states[at].contains(words), "{}", states[at]);
    }
    let port = server.http().await;
    let sent = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#;
    let answer = over_http(port, "POST", "/v2/models/scaled/infer", sent).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_model_serves_until_the_new_one_is_ready() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write(root.path(), "m", 4);
    let labels = root.path().join("m/labels");
    fs::write(&labels, "one\n").unwrap();
    let repository = attach(&server, root.path(), Mode::Explicit);
    assert!(repository.start(&["m".to_owned()]).await.is_empty());
    let largest = || server.model("m").spec().policy().max_batch_size;

    write(root.path(), "m", 8);
    fs::remove_file(&labels).unwrap();
    let pipe = Pipe::new(labels);
    let load = tokio::spawn({
        let repository = Arc::clone(&repository);
        async move { repository.load("m", Overrides::default()).await }
    });
    let mut held = pipe.hold();
    assert_eq!((states(&repository, &["m"]), largest()), (vec!["m READY ".to_owned()], 4));
    held.write_all(b"two\n").unwrap();
    drop(held);
    load.await.unwrap().unwrap();
    assert_eq!((states(&repository, &["m"]), largest()), (vec!["m READY ".to_owned()], 8));
    assert_eq!(server.model("m").spec().outputs()[0].labels.as_deref(), Some(&["two".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_stop_its_load() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write(root.path(), "m", 4);
    let pipe = Pipe::new(root.path().join("m/labels"));
    let repository = attach(&server, root.path(), Mode::Explicit);
    // An ensemble with `m`, which is loaded with it: the load of a client has several steps.
    let config = "max_batch_size: 4
        input { name: \"in\" data_type: TYPE_STRING dims: 1 }
        output { name: \"out\" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }
        ensemble_scheduling { step { model_name: \"m\" model_version: -1 } }";
    fs::create_dir_all(root.path().join("e/1")).unwrap();
    fs::write(root.path().join("e/config.pbtxt"), config).unwrap();
    let load = tokio::spawn({
        let repository = Arc::clone(&repository);
        async move { repository.load("e", Overrides::default()).await }
    });
    let held = pipe.hold();
    load.abort();
    assert!(load.await.unwrap_err().is_cancelled());
    drop(held);
    // Whether or not it fits its step, the ensemble has been tried: without its client, too.
    let tried = || states(&repository, &["m", "e"]).iter().all(|state| !state.contains("LOADING"));
    while !(tried() && states(&repository, &["m", "e"]).len() == 2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(states(&repository, &["m"])[0].starts_with("m READY"));
}

#[tokio::test]
async fn the_precision_that_a_model_file_states_is_in_the_headers() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_scaled(root.path()).unwrap();
    let [from, to] = ["scaled", "integers"].map(|name| root.path().join(name));
    fs::create_dir_all(to.join("1")).unwrap();
    let config = fs::read_to_string(from.join("config.pbtxt")).unwrap().replace("scaled", "integers");
    fs::write(to.join("config.pbtxt"), config).unwrap();
    let mut model = ModelProto::decode(&fs::read(from.join("1/model.onnx")).unwrap()[..]).unwrap();
    let (key, value) = (PRECISION_KEY.to_owned(), "INT8".to_owned());
    model.metadata_props.push(StringStringEntryProto { key, value });
    fs::write(to.join("1/model.onnx"), model.encode_to_vec()).unwrap();
    let repository = attach(&server, root.path(), Mode::None);
    let failed = repository.start(&["scaled".to_owned(), "integers".to_owned()]).await;
    assert!(failed.is_empty(), "{failed:?}");
    let port = server.http().await;
    let metadata = |name| async move { over_http(port, "GET", &format!("/v2/models/{name}"), "").await };
    let (scaled, integers) = (metadata("scaled").await, metadata("integers").await);
    assert!(integers.contains("quintet-precision: INT8\r\n"), "{integers}");
    assert!(scaled.starts_with("HTTP/1.1 200") && !scaled.contains("quintet-precision"), "{scaled}");
}
