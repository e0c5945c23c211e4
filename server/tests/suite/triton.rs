//! Tests of Triton mode: Triton's unmodified clients with Triton's repository layout and flags.

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
    let output = server.python("repository.py", &[models.path().to_str().unwrap()]);
    assert!(output.ends_with("repository ok\n"), "{output}");
}

#[test]
fn tensors_are_sent_and_received_in_shared_memory() {
    let models = small_models();
    for (flag, mode) in [("--allow-client-shm=true", "on"), ("--allow-client-shm=false", "off")] {
        let server = Suite::triton(models.path(), &[flag]);
        let output = server.python("shared_memory.py", &[mode]);
        assert!(output.ends_with("shared memory ok\n"), "{output}");
    }
}

#[test]
fn clients_stream_requests() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let output = server.python("streaming.py", &[]);
    assert!(output.ends_with("streaming ok\n"), "{output}");
}

#[test]
fn clients_change_trace_and_log_settings() {
    let (models, folder) = (small_models(), tempfile::tempdir().unwrap());
    let file = folder.path().join("trace.json");
    let trace = format!("--trace-config=triton,file={}", file.display());
    let server = Suite::triton(models.path(), &[&trace, "--model-control-mode=explicit", "--load-model=identity"]);
    let output = server.python("settings.py", &[file.to_str().unwrap()]);
    assert!(output.ends_with("settings ok\n"), "{output}");
    let log = server.log();
    let line = |model: &str| log.lines().find(|line| line.contains("model is ready") && line.contains(model));
    assert!(line("\"words\"").is_none() && line("\"sum\"").is_some_and(|line| line.starts_with('{')), "{log}");
}

#[test]
fn refuses_unknown_trace_settings() {
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

/// Writes a model that has only a configuration.
fn write_config(repository: &Path, model: &str, config: &str) {
    fs::create_dir_all(repository.join(model).join("1")).unwrap();
    fs::write(repository.join(model).join("config.pbtxt"), config).unwrap();
}

/// An ensemble from encoded images to logits: the backend `image`, then the network.
fn image_ensemble(first: &str, second: &str) -> String {
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

/// Writes the network's preprocessing, and an ensemble of both; the network is in another repository.
pub(crate) fn image_models(repository: &Path) {
    write_config(repository, "preprocess", "backend: \"image\" max_batch_size: 4");
    write_config(repository, "resnet18_jpeg", &image_ensemble("preprocess", MODEL));
}

/// The network, its preprocessing, an ensemble of both, and invalid ensembles.
fn ensembles() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(models().join(MODEL), folder.path().join(MODEL)).unwrap();
    image_models(folder.path());
    write_config(folder.path(), "broken", &image_ensemble("preprocess", "nosuch"));
    write_config(folder.path(), "circle", &image_ensemble("preprocess", "circle"));
    folder
}

#[test]
fn ensembles_accept_encoded_images() {
    let (repository, folder) = (ensembles(), tempfile::tempdir().unwrap());
    let server = Suite::triton(repository.path(), &["--model-control-mode=explicit"]);
    let output = server.python("ensemble.py", &[&photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(output.ends_with("ensemble ok\n"), "{output}");
}

#[test]
fn changes_on_disk_are_applied_and_an_invalid_one_keeps_the_old_model() {
    let folder = tempfile::tempdir().unwrap();
    let write = |model: &str, config: &str| write_config(folder.path(), model, config);
    write("first", "backend: \"image\" max_batch_size: 4");
    let server = Suite::triton(folder.path(), &["--model-control-mode=poll", "--repository-poll-secs=1"]);
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(60), "{what} did not happen: {}", server.log());
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
    assert!(config("first").contains("\"max_batch_size\":8,"), "the loaded model still serves: {}", config("first"));
    fs::remove_dir_all(folder.path().join("second")).unwrap();
    until("the end of a model", &|| config("second").contains("'second' has no available versions"));
    assert!(config("second").starts_with("HTTP/1.1 404"), "{}", config("second"));
}

#[test]
fn clients_infer_and_get_errors_for_invalid_requests() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let output = server.python("inference.py", &[]);
    assert!(output.ends_with("inference ok\n"), "{output}");
}

#[test]
fn a_run_without_enough_memory_fails_only_its_request() {
    let models = tempfile::tempdir().unwrap();
    python("out_of_memory.py", [models.path()]).unwrap();
    let server = Suite::triton(models.path(), &[]);
    let output = server.python("out_of_memory.py", &["zeros"]);
    assert!(output.ends_with("out of memory ok\n"), "{output}");
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
    let output = "script/1/model.pt needs libtorch, which this build does not have: build it with `--features torch`";
    assert!(!refused.status.success() && stderr.contains(output), "{stderr}");
}
