//! Tests of the server as a process, with real clients and photographs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panic in its helpers too"
)]

mod access;
mod any_model;
mod flags;
mod gpu_library;
mod life;
mod metrics;
#[cfg(feature = "object-stores")]
mod object_stores;
mod openvino;
mod own_model;
mod page;
mod seed;
mod server;
mod shared_memory;
#[cfg(feature = "torch")]
mod torch;
mod triton;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use server::{MODEL, Suite, models, program};

/// The photographs that tests send.
fn photo(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos").join(name).to_str().unwrap().to_owned()
}

/// A file with a photograph as a tensor, as a client of a tensor lane prepares it.
fn tensor(folder: &Path) -> String {
    let mut elements = vec![0.0f32; quintet_preprocess::ELEMENTS];
    let encoded = fs::read(photo("astronaut.jpg")).unwrap();
    quintet_preprocess::to_tensor(&encoded, quintet_preprocess::DEFAULT_MAX_PIXELS, &mut elements).unwrap();
    let path = folder.join("tensor.f32");
    fs::write(&path, elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_tensor_lanes_accept_encoded_images_too() {
    let (repository, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    triton::image_models(repository.path());
    let repository = repository.path().to_str().unwrap();
    let suite = Suite::start(&["--service", "onnx", "--service", "trt", "--model-repository", repository]);
    let output = suite.python("encoded_lanes.py", &[&photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(output.ends_with("8 clients on 4 lanes agree\n"), "{output}");
}

#[test]
fn tritons_clients_infer_on_every_lane_and_the_lanes_agree() {
    let suite = Suite::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let output = suite.python("lanes.py", &[MODEL, &photo("astronaut.jpg"), &tensor(folder.path())]);
    assert!(output.ends_with("11 clients on 5 lanes agree\n"), "{output}");
}

#[test]
fn the_studys_request_bodies_work() {
    let suite = Suite::start(&["--service", "jpeg"]);
    let output = suite.python("study.py", &[&photo("coffee.jpg"), &photo("rocket.jpg")]);
    assert!(output.ends_with("study ok\n"), "{output}");
}

#[test]
fn bad_input_has_distinct_errors_and_does_not_affect_other_requests() {
    let suite = Suite::start(&["--max-input-bytes", "4000000", "--max-image-pixels", "200000"]);
    let output = suite.python("bad_input.py", &[MODEL, &photo("coffee-224.jpg"), &photo("astronaut.jpg")]);
    assert!(output.ends_with("bad input ok\n"), "{output}");
}

#[test]
fn each_lane_reports_its_effective_provider() {
    let suite = Suite::start(&[]);
    let output = suite.python("providers.py", &[MODEL]);
    assert!(output.ends_with("providers ok\n"), "{output}");
    let log = suite.log();
    for service in ["jpeg", "onnx", "trt"] {
        let line = log.lines().find(|line| line.contains("model is ready") && line.contains(service));
        assert!(line.is_some_and(|line| line.contains("CPUExecutionProvider")), "{service}: {log}");
    }
}

#[test]
fn reports_a_taken_port_with_port_and_lane() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut command = program(&["suite", "--jpeg-port=0", "--onnx-http-port=0", "--onnx-metrics-port=0"]);
    let output =
        command.arg(format!("--onnx-grpc-port={port}")).arg("--model-repository").arg(models()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let wanted = format!("error: cannot listen on 127.0.0.1:{port} for onnx-grpc: ");
    assert!(stderr.starts_with(&wanted) && stderr.trim_end().ends_with("--onnx-grpc-port"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn each_lane_is_a_unix_domain_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut suite = Suite::start(&["--service=onnx", "--uds-dir", folder.path().to_str().unwrap()]);
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["onnx-grpc.sock", "onnx-http.sock"]);
    let mut connection = UnixStream::connect(folder.path().join("onnx-http.sock")).unwrap();
    connection.write_all(b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    suite.signal("TERM");
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn reports_an_unknown_model_with_the_known_ones() {
    let mut command = program(&["suite", "--service=onnx", "--model=resnet99", "--onnx-http-port=0"]);
    command.args(["--onnx-grpc-port=0", "--onnx-metrics-port=0", "--model-repository"]).arg(models());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("model 'resnet99' is not in ") && stderr.contains("it holds: resnet18"), "{stderr}");
}

#[test]
fn prints_the_effective_settings() {
    let output =
        program(&["suite", "--print-config", "--trt-http-port=9020"]).env("QUINTET_JPEG_PORT", "9002").output();
    let printed: toml::Table = String::from_utf8(output.unwrap().stdout).unwrap().parse().unwrap();
    let port = |name: &str| printed[name].as_str().unwrap().to_owned();
    assert_eq!([port("jpeg_port"), port("trt_http_port"), port("onnx_http_port")], ["9002", "9020", "8010"]);
}

#[test]
fn answers_accepted_requests_after_sigterm() {
    let mut suite = Suite::start(&["--service", "jpeg"]);
    let body = fs::read(photo("rocket.jpg")).unwrap();
    let mut connection = TcpStream::connect(("127.0.0.1", suite.port("jpeg"))).unwrap();
    let head = format!(
        "POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // The server asks for the body: it has accepted the request.
    connection.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    connection.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(&body[..1000]).unwrap();
    suite.signal("TERM");
    while !suite.log().contains("draining") {
        std::thread::yield_now();
    }
    connection.write_all(&body[1000..]).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"count\":1"), "{answer:.300}");
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
}

#[test]
fn a_client_that_disconnects_frees_its_slot_and_stops_its_run() {
    let suite = Suite::start(&["--service=onnx"]);
    let elements = 4 * 3 * 224 * 224;
    let head = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"FP32","shape":[4,3,224,224],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        elements * 4
    );
    let request = format!(
        "POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: localhost\r\ninference-header-content-length: {}\r\n\
         content-length: {}\r\n\r\n{head}",
        head.len(),
        head.len() + elements * 4
    );
    let send = || {
        let mut connection = TcpStream::connect(("127.0.0.1", suite.port("onnx-http"))).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        connection.write_all(&vec![0; elements * 4]).unwrap();
        connection
    };
    // More than run at the same time: some are cancelled while they run, others while they wait or before they are
    // read.
    drop([send(), send(), send(), send()]);
    let has = |metric: &str, labels: &str, value: fn(&str) -> bool| {
        let start = format!("{metric}{{model=\"{MODEL}\",version=\"1\"{labels}}} ");
        suite.get("onnx-metrics", "/metrics").lines().filter_map(|line| line.strip_prefix(&start)).any(value)
    };
    let started = Instant::now();
    while !has("nv_inference_request_failure", ",reason=\"CANCELED\"", |count| count != "0") {
        assert!(started.elapsed() < Duration::from_secs(120), "{}", suite.get("onnx-metrics", "/metrics"));
        std::thread::sleep(Duration::from_millis(20));
    }
    // A later client is answered, and the queue is empty.
    let mut answer = [0; 15];
    send().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(has("nv_inference_pending_request_count", "", |count| count == "0"));
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut suite = Suite::start(&["--service", "jpeg"]);
    let mut connection = TcpStream::connect(("127.0.0.1", suite.port("jpeg"))).unwrap();
    connection.write_all(b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n").unwrap();
    // Answered on another connection, so the first one was accepted before.
    TcpStream::connect(("127.0.0.1", suite.port("jpeg"))).unwrap().write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    suite.signal("TERM");
    while !suite.log().contains("draining") {
        std::thread::yield_now();
    }
    suite.signal("TERM");
    assert!(suite.wait().code().is_some());
}
