//! How the server begins and ends, as whoever watches and stops it sees that.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    photo,
    server::{MODEL, Suite, models, program},
};

/// The status of a GET on a connection of its own; `None` if nobody listens.
fn status(port: u16, path: &str) -> Option<u16> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1)?.parse().ok()
}

/// Reads one whole answer and leaves the connection open.
fn answer(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).unwrap();
    head + &String::from_utf8_lossy(&body)
}

#[test]
fn alive_from_the_start_and_ready_once_loaded() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join(MODEL);
    fs::create_dir_all(model.join("1")).unwrap();
    let onnx = Path::new(MODEL).join("1/model.onnx");
    fs::copy(models().join(&onnx), root.path().join(&onnx)).unwrap();
    // A load that waits until somebody writes the labels into the pipe.
    let labels = model.join("labels");
    assert!(Command::new("mkfifo").arg(&labels).status().unwrap().success());
    let config = "output { name: \"logits\" label_filename: \"labels\" }";
    fs::write(model.join("config.pbtxt"), config).unwrap();

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = program(&["--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false"]);
    command.arg(format!("--http-port={port}")).arg("--model-repository").arg(root.path());
    let mut server = command.stderr(Stdio::null()).spawn().unwrap();
    let until = |path: &str, wanted: u16| {
        while status(port, path) != Some(wanted) {
            thread::sleep(Duration::from_millis(10));
        }
    };
    until("/v2/health/live", 200);
    assert_eq!(status(port, "/v2/health/ready"), Some(503));
    // 404 until the repository is known, then 400.
    let model_ready = format!("/v2/models/{MODEL}/ready");
    assert_ne!(status(port, &model_ready), Some(200));
    fs::write(&labels, "cat\n").unwrap();
    until("/v2/health/ready", 200);
    assert_eq!(status(port, &model_ready), Some(200));
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn sigterm_under_load_loses_no_accepted_request() {
    const REQUESTS: usize = 24;
    let mut suite = Suite::start(&["--service=jpeg,onnx"]);
    let body = fs::read(photo("rocket.jpg")).unwrap();
    let (sent_before, sent_after) = body.split_at(1000);
    // Each connection has had an answer, so the server has it, and has begun with the next request.
    let mut open: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut connection = TcpStream::connect(("127.0.0.1", suite.port("jpeg"))).unwrap();
            connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            assert!(answer(&mut connection).starts_with("http/1.1 200"));
            let head = "POST /embed HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: image/jpeg";
            write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
            assert!(answer(&mut connection).starts_with("http/1.1 100"));
            connection.write_all(sent_before).unwrap();
            connection
        })
        .collect();
    suite.signal("TERM");
    while !suite.log().contains("draining") {
        thread::yield_now();
    }
    for connection in &mut open {
        connection.write_all(sent_after).unwrap();
    }
    for connection in &mut open {
        let answer = answer(connection);
        assert!(answer.starts_with("http/1.1 200") && answer.contains("\"count\":1"), "{answer:.300}");
    }
    assert_eq!(suite.wait().code(), Some(0), "{}", suite.log());
    assert!(suite.log().contains("every accepted request was answered"));
}
