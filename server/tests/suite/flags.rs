//! Triton's flags, as a client and an operator see what they do.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::server::{Suite, program, small_models};

/// What an HTTP/2 client sends first, and an acknowledgement of the server's SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// The types of the frames, acknowledgements apart, that an HTTP/2 client without a request gets until the server ends the
/// connection. The client answers no PING.
fn frames_of_an_idle_client(server: &Suite) -> Vec<u8> {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port("grpc"))).unwrap();
    connection.write_all(PREFACE).unwrap();
    let mut received = Vec::new();
    connection.read_to_end(&mut received).unwrap();
    let (mut kinds, mut rest) = (Vec::new(), &received[..]);
    while let [a, b, c, kind, flags, ..] = *rest {
        rest = &rest[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
        if flags & 1 == 0 {
            kinds.push(kind);
        }
    }
    kinds
}

/// Waits until the end of one connection for this reason is counted.
fn until_counted(server: &Suite, reason: &str) {
    let line = format!("quintet_connections_closed_total{{reason=\"{reason}\"}} 1\n");
    while !server.get("metrics", "/metrics").contains(&line) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn connections_of_grpc_have_an_age_and_are_kept_alive() {
    let models = small_models();
    let server = Suite::triton(models.path(), &["--grpc-max-connection-age=200"]);
    let frames = frames_of_an_idle_client(&server);
    assert!(frames.contains(&GOAWAY), "{frames:?}");
    until_counted(&server, "age");
    let alive =
        ["--grpc-keepalive-time=100", "--grpc-keepalive-timeout=100", "--grpc-keepalive-permit-without-calls=1"];
    let server = Suite::triton(models.path(), &alive);
    let frames = frames_of_an_idle_client(&server);
    assert!(frames.contains(&PING), "{frames:?}");
    until_counted(&server, "ping");
}

#[test]
fn the_server_has_an_id_a_log_file_and_only_the_metrics_that_are_allowed() {
    let (models, folder) = (small_models(), tempfile::tempdir().unwrap());
    let log = folder.path().join("server.log");
    fs::write(&log, "from before\n").unwrap();
    let log_flag = format!("--log-file={}", log.display());
    let server =
        Suite::triton(models.path(), &["--id=alpha", &log_flag, "--allow-cpu-metrics=false", "--http-thread-count=3"]);
    assert!(server.get("http", "/v2").contains("\"name\":\"alpha\""));
    assert!(server.get("http", "/v2/logging").contains(&format!("\"log_file\":\"{}\"", log.display())));
    let metrics = server.get("metrics", "/metrics");
    assert!(metrics.contains("nv_inference_count{") && !metrics.contains("nv_cpu_"), "{metrics}");
    assert!(server.log().is_empty(), "{}", server.log());
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.starts_with("from before\n") && lines.contains("model is ready"), "{lines}");
    let warning = lines.lines().find(|line| line.contains("this flag has no effect here")).unwrap();
    assert!(warning.contains("--http-thread-count") && warning.contains("one thread for each core"), "{warning}");
}

#[test]
fn a_log_file_that_cannot_be_written_is_named() {
    let refused = program(&["--model-repository=/nowhere", "--log-file=/nowhere/log"]).output().unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("cannot write the log file /nowhere/log"), "{stderr}");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_model_that_fails_to_load_is_tried_again() {
    let models = small_models();
    fs::create_dir_all(models.path().join("broken/1")).unwrap();
    fs::write(models.path().join("broken/1/model.onnx"), "not a model").unwrap();
    let server = Suite::triton(
        models.path(),
        &["--model-load-retry-count=2", "--exit-on-error=false", "--strict-readiness=false"],
    );
    let log = server.log();
    let again: Vec<_> = log.lines().filter(|line| line.contains("trying again")).collect();
    assert!(again.len() == 2 && again.iter().all(|line| line.contains("broken")), "{log}");
}

#[test]
fn servers_share_a_port() {
    let models = small_models();
    let first = Suite::triton(models.path(), &["--reuse-http-port=true"]);
    let port = first.port("http");
    let second = Suite::on_port(models.path(), "http", port, &["--reuse-http-port=true"]);
    assert_eq!(second.port("http"), port);
    // Whoever of them answers, there is an answer.
    assert!(first.get("http", "/v2").starts_with("HTTP/1.1 200"));
    drop(first);
    assert!(second.get("http", "/v2").starts_with("HTTP/1.1 200"));
}
