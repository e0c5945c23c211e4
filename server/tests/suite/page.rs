//! Tests of the page: what it asks of the lanes, for whom, and what it does not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::{photo, server::Suite};

const LANES: [&str; 5] = ["jpeg", "onnx-http", "onnx-grpc", "trt-http", "trt-grpc"];
const TOKEN: &str = "a-token-of-the-page-0123";

/// The status, the head and the body of the answer to a request on a new connection.
fn send(port: u16, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    connection.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

/// The status and the JSON of the answer to a question.
fn ask(port: u16, query: &str, headers: &str, photograph: &[u8]) -> (u16, Value) {
    let (status, _, body) = send(port, "POST", &format!("/page/ask?{query}"), headers, photograph);
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn every_lane_answers_about_a_photograph() {
    let suite = Suite::start(&[]);
    let (port, photograph) = (suite.port("jpeg"), fs::read(photo("coffee.jpg")).unwrap());
    let (_, _, body) = send(port, "POST", "/classify?k=5", "", &photograph);
    let classes = serde_json::from_str::<Value>(&body).unwrap()["classifications"][0].clone();
    for lane in LANES {
        for (connection, payload) in [("kept", "jpeg"), ("kept", "fp32"), ("kept", "jpeg"), ("fresh", "jpeg")] {
            let query = format!("lane={lane}&connection={connection}&payload={payload}");
            let (status, answer) = ask(port, &query, "", &photograph);
            assert_eq!(status, 200, "{query}: {answer}");
            assert_eq!(answer["lane"], lane);
            assert_eq!(answer["effective_provider"], "CPUExecutionProvider");
            let indices = |classes: &Value| -> Vec<_> {
                classes
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|class| (class["index"].clone(), class["label"].clone()))
                    .collect()
            };
            assert_eq!(indices(&answer["classes"]), indices(&classes), "{query}");
            let number = |name: &str| answer[name].as_f64().unwrap();
            let stages = answer["stages"].as_array().unwrap();
            let stages_ms: f64 = stages.iter().map(|stage| stage["ms"].as_f64().unwrap()).sum();
            assert!(stages.len() == 8 && stages_ms > 0.0, "{answer}");
            assert!(number("total_ms") >= number("connect_ms") + stages_ms, "{answer}");
            assert_eq!(number("connect_ms") > 0.0, connection == "fresh", "{answer}");
            let is_tensor = payload == "fp32" && lane != "jpeg";
            assert_eq!(answer["payload"], if is_tensor { "fp32" } else { "jpeg" });
            let body = if is_tensor { 3 * 224 * 224 * 4 } else { photograph.len() };
            let over = number("sent_bytes") - body as f64;
            assert!((1.0..2000.0).contains(&over), "{query}: {over} bytes besides the body");
            assert!(number("received_bytes") > 500.0, "{answer}");
        }
    }
    let metrics = send(port, "GET", "/page/metrics/trt", "", b"").2;
    for protocol in ["http", "grpc"] {
        let line = format!("quintet_request_summary_us_count{{protocol=\"{protocol}\"}} 4");
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[test]
fn a_wrong_question_is_refused_in_words() {
    let suite = Suite::start(&["--max-input-bytes=1000000"]);
    let port = suite.port("jpeg");
    for (query, body, status, words) in [
        ("", 1, 400, "lane must be one of jpeg, onnx-http, onnx-grpc, trt-http, trt-grpc, got ''"),
        ("lane=127.0.0.1:80&connection=kept&payload=jpeg", 1, 400, "got '127.0.0.1:80'"),
        ("lane=jpeg&connection=new&payload=jpeg", 1, 400, "connection must be one of fresh, kept, got 'new'"),
        ("lane=jpeg&connection=kept", 1, 400, "payload must be one of jpeg, uint8, fp32, got ''"),
        ("lane=onnx-http&connection=kept&payload=uint8", 1, 501, "no model of the lane onnx-http takes UINT8"),
        ("lane=onnx-http&connection=kept&payload=fp32", 1, 400, "the photograph: "),
        ("lane=onnx-http&connection=kept&payload=jpeg", 1, 502, "the lane onnx-http: 400: image[0]: "),
        ("lane=trt-grpc&connection=kept&payload=jpeg", 1, 502, "the lane trt-grpc: InvalidArgument: image[0]: "),
        ("lane=jpeg&connection=kept&payload=jpeg", 1_000_001, 413, "--max-input-bytes"),
    ] {
        let (got, answer) = ask(port, query, "", &vec![b'x'; body]);
        let error = answer["error"].as_str().unwrap();
        assert!(got == status && error.contains(words), "{query}: {got} {error}");
    }
    // A page of another site may not use it, as it may not use a lane.
    let query = "lane=jpeg&connection=kept&payload=jpeg";
    assert_eq!(ask(port, query, "origin: https://evil.example\r\n", b"x").0, 403);
    assert_eq!(ask(port, query, "origin: http://localhost\r\n", b"x").0, 502);
}

#[test]
fn the_files_are_in_the_program_and_need_nothing_else() {
    let suite = Suite::start(&["--service=jpeg"]);
    let port = suite.port("jpeg");
    let (status, head, page) = send(port, "GET", "/", "", b"");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'; "), "{head}");
    let mut files: Vec<_> = page.split("/page/files/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    files.extend(["server.js", "lanes.js", "live.js", "runs.js"]);
    assert!(files.len() > 8, "{page}");
    for file in files {
        let (status, head, content) = send(port, "GET", &format!("/page/files/{file}"), "", b"");
        assert!(status == 200 && head.contains("x-content-type-options: nosniff"), "{file}: {head}");
        // The one name of another origin is SVG's namespace.
        let elsewhere = content.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{file}");
    }
    assert_eq!(send(port, "GET", "/page/files/page.rs", "", b"").0, 404);
    assert_eq!(send(port, "GET", "/page/metrics/onnx", "", b"").0, 404);
}

#[test]
fn a_service_alone_has_the_page_on_its_metrics_port_unless_it_is_off() {
    let suite = Suite::start(&["--service=onnx"]);
    let photograph = fs::read(photo("coffee-224.jpg")).unwrap();
    let (status, _, text) = send(suite.port("onnx-metrics"), "GET", "/page/status", "", b"");
    assert_eq!(status, 200, "{text}");
    let state: Value = serde_json::from_str(&text).unwrap();
    let lanes: Vec<_> = state["lanes"].as_array().unwrap().iter().map(|lane| lane["name"].as_str().unwrap()).collect();
    assert_eq!(lanes, ["onnx-http", "onnx-grpc"]);
    assert_eq!(state["lanes"][1]["payloads"], serde_json::json!(["jpeg", "fp32"]));
    let model = &state["services"][0]["models"][0];
    assert!(model["state"] == "READY" && model["provider_reason"].as_str().unwrap().starts_with("cuda: "), "{model}");
    let (status, answer) =
        ask(suite.port("onnx-metrics"), "lane=onnx-grpc&connection=fresh&payload=fp32", "", &photograph);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(send(suite.port("onnx-http"), "GET", "/", "", b"").0, 404);
    assert!(suite.log().contains(&format!("http://127.0.0.1:{}/", suite.port("onnx-metrics"))), "{}", suite.log());

    let off = Suite::start(&["--service=jpeg", "--page=off"]);
    for path in ["/", "/page/status", "/page/files/page.js"] {
        assert_eq!(send(off.port("jpeg"), "GET", path, "", b"").0, 404, "{path}");
    }
    assert_eq!(send(off.port("jpeg"), "GET", "/health", "", b"").0, 200);
}

#[test]
fn the_page_asks_with_the_clients_token_over_tls_and_opens_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(file("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    fs::write(file("tokens"), TOKEN).unwrap();
    let flags = [
        format!("--auth-token-file={}", file("tokens")),
        "--grpc-use-ssl=true".to_owned(),
        format!("--grpc-server-cert={}", file("cert.pem")),
        format!("--grpc-server-key={}", file("key.pem")),
    ];
    let suite = Suite::start(&flags.each_ref().map(String::as_str));
    let (port, photograph) = (suite.port("jpeg"), fs::read(photo("coffee-224.jpg")).unwrap());
    for path in ["/", "/page/files/page.js"] {
        assert_eq!(send(port, "GET", path, "", b"").0, 200, "{path}");
    }
    for path in ["/page/status", "/page/metrics/onnx", "/page/runs"] {
        assert_eq!(send(port, "GET", path, "", b"").0, 401, "{path}");
    }
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    for lane in LANES {
        let query = format!("lane={lane}&connection=fresh&payload=jpeg");
        assert_eq!(ask(port, &query, "", &photograph).0, 401);
        let (status, answer) = ask(port, &query, &token, &photograph);
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn a_restricted_group_is_restricted_for_the_page_too() {
    let suite = Suite::start(&["--service=jpeg", "--http-restricted-api=inference:infer-key=secret"]);
    let (status, answer) = ask(suite.port("jpeg"), "lane=jpeg&connection=kept&payload=jpeg", "", b"x");
    assert_eq!((status, answer["error"].as_str().unwrap().contains("infer-key")), (403, true), "{answer}");
}

#[test]
fn the_runs_of_the_benchmark_are_listed_and_nothing_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("results/20260101T000000Z");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("report.json"), r#"{"schema":"quintet-report/1"}"#).unwrap();
    fs::write(run.join("report.html"), "<!doctype html>").unwrap();
    fs::write(run.join("secret.txt"), "secret").unwrap();
    fs::write(folder.path().join("report.json"), "secret").unwrap();
    let results = folder.path().join("results");
    let suite = Suite::start(&["--service=jpeg", "--results", results.to_str().unwrap()]);
    let get = |path: &str| send(suite.port("jpeg"), "GET", path, "", b"");
    assert_eq!(get("/page/runs").2, r#"["20260101T000000Z"]"#);
    assert_eq!(get("/page/runs/20260101T000000Z/report.json").2, r#"{"schema":"quintet-report/1"}"#);
    let (status, head, _) = get("/page/runs/20260101T000000Z/report.html");
    assert!(status == 200 && head.contains("default-src 'none'") && head.contains("; sandbox;"), "{head}");
    for path in
        ["20260101T000000Z/secret.txt", "../report.json", "%2e%2e/report.json", "..%2f/report.json", "x/report.json"]
    {
        assert_eq!(get(&format!("/page/runs/{path}")).0, 404, "{path}");
    }
}
