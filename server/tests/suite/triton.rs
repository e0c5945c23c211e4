//! In Triton's place: its clients, unmodified, against its repository and its flags.

use crate::server::{Suite, small_models};

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
    let refused =
        crate::server::program(&["--model-repository=/nowhere", "--trace-config=opentelemetry,url=x"]).output();
    let stderr = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(stderr.contains("trace mode 'opentelemetry' is not supported"), "{stderr}");
}
