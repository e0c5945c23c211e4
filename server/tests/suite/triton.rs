//! In Triton's place: its clients, unmodified, against its repository and its flags.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    photo,
    server::{MODEL, Suite, models, program, python, small_models},
    tensor,
};

#[test]
fn clients_load_and_unload_models() {
    let models = small_models();
    let server = Suite::triton(models.path(), &["--model-control-mode=explicit", "--load-model=identity"]);
    let told = server.python("repository.py", &[models.path().to_str().unwrap()]);
    assert!(told.ends_with("repository ok\n"), "{told}");
}

#[test]
fn tensors_come_and_go_through_shared_memory() {
    let models = small_models();
    for (flag, mode) in [("--allow-client-shm=true", "on"), ("--allow-client-shm=false", "off")] {
        let server = Suite::triton(models.path(), &[flag]);
        let told = server.python("shared_memory.py", &[mode]);
        assert!(told.ends_with("shared memory ok\n"), "{told}");
    }
}

#[test]
fn clients_stream_requests() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let told = server.python("streaming.py", &[]);
    assert!(told.ends_with("streaming ok\n"), "{told}");
}

#[test]
fn clients_change_trace_and_log_settings() {
    let (models, folder) = (small_models(), tempfile::tempdir().unwrap());
    let file = folder.path().join("trace.json");
    let trace = format!("--trace-config=triton,file={}", file.display());
    let server = Suite::triton(models.path(), &[&trace, "--model-control-mode=explicit", "--load-model=identity"]);
    let told = server.python("settings.py", &[file.to_str().unwrap()]);
    assert!(told.ends_with("settings ok\n"), "{told}");
    let log = server.log();
    let line = |model: &str| log.lines().find(|line| line.contains("model is ready") && line.contains(model));
    assert!(line("\"words\"").is_none() && line("\"sum\"").is_some_and(|line| line.starts_with('{')), "{log}");
}

#[test]
fn a_trace_mode_that_there_is_not_is_refused() {
    for (setting, words) in [
        ("mode=jaeger", "trace mode 'jaeger' is not supported: use triton or opentelemetry"),
        ("opentelemetry,url=ftp://x", "use http:// or https://"),
        ("triton,nosuch=1", "unknown setting; use file, log-frequency, max-waiting-traces or max-waiting-bytes"),
        ("triton,max-waiting-traces=0", "use a whole number of at least 1"),
    ] {
        let flag = format!("--trace-config={setting}");
        let refused = program(&["--model-repository=/nowhere", &flag]).output();
        let stderr = String::from_utf8(refused.unwrap().stderr).unwrap();
        assert!(stderr.contains(words), "{stderr}");
    }
}

/// Writes a model that is a configuration only.
fn write_config(repository: &Path, model: &str, config: &str) {
    fs::create_dir_all(repository.join(model).join("1")).unwrap();
    fs::write(repository.join(model).join("config.pbtxt"), config).unwrap();
}

/// An ensemble that makes logits of encoded images: the backend `image`, and the network after it.
fn of_images(first: &str, second: &str) -> String {
    format!(
        r#"max_batch_size: 4
        input {{ name: "image" data_type: TYPE_STRING dims: 1 }}
        output {{ name: "logits" data_type: TYPE_FP32 dims: 1000 }}
        ensemble_scheduling {{
          step {{ model_name: "{first}" model_version: -1 input_map {{ key: "image" value: "image" }}
                  output_map {{ key: "pixels" value: "prepared" }} }}
          step {{ model_name: "{second}" model_version: -1 input_map {{ key: "image" value: "prepared" }}
                  output_map {{ key: "logits" value: "logits" }} }}
        }}"#
    )
}

/// The network's preprocessing, and both in one; the network is elsewhere.
pub(crate) fn image_models(repository: &Path) {
    write_config(repository, "preprocess", "backend: \"image\" max_batch_size: 4");
    write_config(repository, "resnet18_jpeg", &of_images("preprocess", MODEL));
}

/// The network, its preprocessing, both in one, and ensembles that are wrong.
fn ensembles() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(models().join(MODEL), folder.path().join(MODEL)).unwrap();
    image_models(folder.path());
    write_config(folder.path(), "broken", &of_images("preprocess", "nosuch"));
    write_config(folder.path(), "circle", &of_images("preprocess", "circle"));
    folder
}

#[test]
fn ensembles_take_encoded_images() {
    let (repository, folder) = (ensembles(), tempfile::tempdir().unwrap());
    let server = Suite::triton(repository.path(), &["--model-control-mode=explicit"]);
    let told = server.python("ensemble.py", &[&photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(told.ends_with("ensemble ok\n"), "{told}");
}

#[test]
fn changes_on_disk_are_followed_and_a_wrong_one_leaves_what_serves() {
    let folder = tempfile::tempdir().unwrap();
    let write = |model: &str, config: &str| write_config(folder.path(), model, config);
    write("first", "backend: \"image\" max_batch_size: 4");
    let server = Suite::triton(folder.path(), &["--model-control-mode=poll", "--repository-poll-secs=1"]);
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(60), "{what} did not come about: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let config = |model: &str| server.get("http", &format!("/v2/models/{model}/config"));
    assert!(config("first").contains("\"max_batch_size\":4,"), "{}", config("first"));
    write("second", "backend: \"image\" max_batch_size: 2");
    until("a new model", &|| config("second").contains("\"max_batch_size\":2,"));
    write("first", "backend: \"image\" max_batch_size: 8");
    until("a changed model", &|| config("first").contains("\"max_batch_size\":8,"));
    write("first", "backend: \"image\"\nmax_batch: 16");
    until("the reason", &|| server.log().contains("config.pbtxt:2:1: unknown field 'max_batch'"));
    assert!(config("first").contains("\"max_batch_size\":8,"), "what was loaded serves on: {}", config("first"));
    fs::remove_dir_all(folder.path().join("second")).unwrap();
    until("the end of a model", &|| config("second").contains("'second' has no available versions"));
    assert!(config("second").starts_with("HTTP/1.1 404"), "{}", config("second"));
}

#[test]
fn clients_infer_and_are_told_their_mistakes() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let told = server.python("inference.py", &[]);
    assert!(told.ends_with("inference ok\n"), "{told}");
}

#[test]
fn a_run_without_enough_memory_fails_alone() {
    let models = tempfile::tempdir().unwrap();
    python("out_of_memory.py", [models.path()]).unwrap();
    let server = Suite::triton(models.path(), &[]);
    let told = server.python("out_of_memory.py", &["zeros"]);
    assert!(told.ends_with("out of memory ok\n"), "{told}");
}

#[cfg(not(feature = "torch"))]
#[test]
fn torchscript_without_libtorch_names_the_feature() {
    let root = tempfile::tempdir().unwrap();
    let config = "backend: \"pytorch\" input { name: \"INPUT__0\" data_type: TYPE_FP32 dims: 2 } \
                  output { name: \"OUTPUT__0\" data_type: TYPE_FP32 dims: 2 }";
    write_config(root.path(), "script", config);
    fs::write(root.path().join("script/1/model.pt"), "any").unwrap();
    let mut command = program(&["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--model-repository"]);
    let refused = command.arg(root.path()).output().unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    let told = "script/1/model.pt needs libtorch, which this build does not have: build it with `--features torch`";
    assert!(!refused.status.success() && stderr.contains(told), "{stderr}");
}
