//! Traces of successful and failed requests: spans at a collector, and Triton's trace file.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode as Code},
};
use parking_lot::Mutex;
use prost::Message as _;
use quintet_engine::testing::Echo;
use quintet_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use quintet_server::kserve::trace::{Collector, Target, Traces, Update, Waiting};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    ensemble::{put_ensemble, put_step},
    support::{Server, floats, raw, start_tracing},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A collector on a free port.
struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Receiver {
    async fn start() -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let receive = move |headers: http::HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            kept.lock().push(ExportTraceServiceRequest::decode(body).unwrap());
            StatusCode::OK
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/v1/traces", post(receive));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, requests }
    }

    /// Waits for exactly `wanted` spans.
    async fn spans(&self, wanted: usize) -> Vec<Span> {
        loop {
            let scopes = self.requests.lock().iter().flat_map(|it| it.resource_spans.clone()).collect::<Vec<_>>();
            let scopes = scopes.into_iter().flat_map(|it| it.scope_spans);
            let spans: Vec<_> = scopes.flat_map(|it| it.spans).collect();
            if spans.len() >= wanted {
                assert_eq!(spans.len(), wanted, "{spans:?}");
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A server that sends spans without delay, with these trace settings.
async fn traced_to(port: u16, settings: &[(&str, &str)]) -> Server {
    let mut collector = Collector::default();
    let url = format!("127.0.0.1:{port}/v1/traces");
    for (name, value) in [("url", url.as_str()), ("bsp_schedule_delay", "1"), ("resource", "host.name=here")] {
        collector.set(name, value).unwrap();
    }
    traced(Target::Collector(collector), settings).await
}

async fn traced(target: Target, settings: &[(&str, &str)]) -> Server {
    let traces = Traces::new(target, Waiting::default()).unwrap();
    let values = |value: &str| value.split('+').map(str::to_owned).collect();
    let update: Update = settings.iter().map(|(name, value)| ((*name).to_owned(), values(value))).collect();
    traces.update(None, &update).unwrap();
    start_tracing(traces).await
}

/// Sends a request to `echo` over HTTP, and returns the status.
async fn ask(port: u16, headers: &str, body: &str) -> String {
    ask_model("echo", port, headers, body).await
}

async fn ask_model(model: &str, port: u16, headers: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    connection.read_exact(&mut head).await.unwrap();
    String::from_utf8(head[9..].to_vec()).unwrap()
}

fn json(data: &str) -> String {
    format!(r#"{{"id":"r1","inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{data}}}]}}"#)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name.as_str()).collect()
}

fn attributes(attributes: &[KeyValue]) -> HashMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let value = |it: &KeyValue| text(it.value.as_ref().unwrap().value.as_ref().unwrap());
    attributes.iter().map(|it| (it.key.as_str(), value(it))).collect()
}

/// The spans of request, model and computation, each nested in the one before.
fn nested(spans: &[Span]) -> [&Span; 3] {
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let [root, model, compute] = [named("InferRequest"), named("echo"), named("compute")];
    assert_eq!((&model.parent_span_id, &compute.parent_span_id), (&root.span_id, &model.span_id));
    assert!(spans.iter().all(|span| span.trace_id == root.trace_id && span.span_id.len() == 8));
    for (outer, inner) in [(root, model), (model, compute)] {
        assert!(outer.start_time_unix_nano <= inner.start_time_unix_nano);
        assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
    }
    assert!(spans.iter().all(|span| span.events.iter().map(|event| event.time_unix_nano).is_sorted()));
    [root, model, compute]
}

#[tokio::test]
async fn a_request_continues_the_trace_of_its_client() {
    let receiver = Receiver::start().await;
    let server = traced_to(receiver.port, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "0")]).await;
    let port = server.http().await;
    assert_eq!(ask(port, "", &json("[1,2,3,4]")).await, "200");
    let traceparent = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=b\r\n");
    assert_eq!(ask(port, &traceparent.replace("-01", "-00"), &json("[1,2,3,4]")).await, "200");
    assert_eq!(ask(port, &traceparent, &json("[1,2,3,4]")).await, "200");

    let spans = receiver.spans(3).await;
    let [root, model, compute] = nested(&spans);
    assert_eq!(
        (hex(&root.trace_id), hex(&root.parent_span_id), &root.trace_state[..]),
        (TRACE.into(), SPAN.into(), "a=b")
    );
    assert_eq!(events(root), ["HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END"]);
    assert_eq!(events(model), ["REQUEST_START", "QUEUE_START", "INFER_RESPONSE_COMPLETE", "REQUEST_END"]);
    assert_eq!(events(compute), ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]);
    let found = attributes(&model.attributes);
    assert_eq!(
        [&found["triton.model_name"], &found["triton.model_version"], &found["triton.request_id"]],
        ["echo", "1", "r1"]
    );
    assert_eq!([&found["triton.trace_id"], &found["triton.trace_parent_id"]], ["1", "0"]);
    let resource = receiver.requests.lock()[0].resource_spans[0].resource.clone().unwrap();
    let resource = attributes(&resource.attributes);
    assert_eq!([&resource["service.name"], &resource["host.name"]], ["triton-inference-server", "here"]);
}

#[tokio::test]
async fn a_request_of_a_trace_that_is_not_recorded_is_not_traced() {
    let receiver = Receiver::start().await;
    let server = traced_to(receiver.port, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "1")]).await;
    let port = server.http().await;
    let unsampled = format!("traceparent: 00-{TRACE}-{SPAN}-00\r\n");
    assert_eq!(ask(port, &unsampled, &json("[1,2,3,4]")).await, "200");
    assert_eq!(ask(port, "", &json("[1,2,3,4]")).await, "200");
    let spans = receiver.spans(3).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:?}");
}

#[tokio::test]
async fn traces_every_second_request_over_grpc_and_failures_with_their_reason() {
    let receiver = Receiver::start().await;
    let server = traced_to(receiver.port, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "2")]).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    for _ in 0..4 {
        client.model_infer(floats("echo", 1)).await.unwrap();
    }
    let spans = receiver.spans(6).await;
    let (first, second) = spans.split_at(3);
    let ([root, ..], [other, ..]) = (nested(first), nested(second));
    assert!(root.trace_id != other.trace_id && root.parent_span_id.is_empty() && root.status.is_none());
    assert_eq!(events(root), ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END"]);

    client.model_infer(floats("echo", 1)).await.unwrap();
    let mut refused = tonic::Request::new(raw("echo", "FP32", &[1, 5], vec![0; 20]));
    refused.metadata_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
    client.model_infer(refused).await.unwrap_err();
    let spans = receiver.spans(8).await;
    let [root, model] = &spans[6..] else { panic!("{spans:?}") };
    let status = root.status.clone().unwrap();
    assert!(status.code() == Code::Error && status.message.contains("unexpected shape for input 'x'"), "{status:?}");
    assert_eq!((hex(&root.trace_id), events(model)), (TRACE.into(), vec!["REQUEST_START", "REQUEST_END"]));
}

#[tokio::test]
async fn an_unreachable_collector_fails_no_request() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let server = traced_to(gone, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "1")]).await;
    let mut client = server.client().await;
    for _ in 0..2000 {
        client.model_infer(floats("echo", 1)).await.unwrap();
    }
    let service = Arc::clone(&server.service);
    tokio::task::spawn_blocking(move || service.traces().flush()).await.unwrap();
}

/// Puts the ensemble `chain` of two consecutive steps into service.
fn put_chain(server: &Server) {
    for name in ["first", "second"] {
        put_step(&server.service, name, Box::new(Echo::default()));
    }
    put_ensemble(&server.service, "chain", &["y"], &["first x middle", "second middle y"]);
}

#[tokio::test]
async fn the_traces_of_an_ensembles_steps_are_children_of_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let settings = [("trace_level", "TIMESTAMPS"), ("trace_rate", "1"), ("log_frequency", "1")];
    let server = traced(Target::File(Some(path)), &settings).await;
    put_chain(&server);
    assert_eq!(ask_model("chain", server.http().await, "", &json("[1,2,3,4]")).await, "200");
    // One trace is in one file.
    let entries: Vec<serde_json::Value> = loop {
        let text = fs::read(folder.path().join("trace.json.0")).unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(entries) => break entries,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let found = entries.iter().map(|entry| match entry["timestamps"].as_array() {
        None => entry.to_string(),
        Some(stamps) => stamps.iter().map(|stamp| stamp["name"].as_str().unwrap()).collect::<Vec<_>>().join(" "),
    });
    insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n"), @r#"
    {"id":1,"model_name":"chain","model_version":1,"request_id":"r1"}
    HTTP_RECV_START HTTP_RECV_END REQUEST_START QUEUE_START INFER_RESPONSE_COMPLETE REQUEST_END HTTP_SEND_START HTTP_SEND_END
    {"id":2,"model_name":"first","model_version":1,"parent_id":1,"request_id":"r1"}
    REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END COMPUTE_OUTPUT_START COMPUTE_END INFER_RESPONSE_COMPLETE REQUEST_END
    {"id":3,"model_name":"second","model_version":1,"parent_id":1,"request_id":"r1"}
    REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END COMPUTE_OUTPUT_START COMPUTE_END INFER_RESPONSE_COMPLETE REQUEST_END
    "#);
}

#[tokio::test]
async fn the_spans_of_an_ensembles_steps_are_nested_in_its_span() {
    let receiver = Receiver::start().await;
    let server = traced_to(receiver.port, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "1")]).await;
    put_chain(&server);
    assert_eq!(ask_model("chain", server.http().await, "", &json("[1,2,3,4]")).await, "200");
    let spans = receiver.spans(6).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let chain = named("chain");
    assert_eq!(chain.parent_span_id, named("InferRequest").span_id);
    for (name, id) in [("first", "2"), ("second", "3")] {
        let step = named(name);
        assert_eq!(step.parent_span_id, chain.span_id);
        let found = attributes(&step.attributes);
        assert_eq!([&found["triton.trace_id"], &found["triton.trace_parent_id"]], [id, "1"]);
        assert!(spans.iter().any(|span| span.name == "compute" && span.parent_span_id == step.span_id));
    }
}

#[tokio::test]
async fn the_file_has_tensors_and_failed_requests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let levels = [("trace_level", "TIMESTAMPS+TENSORS"), ("trace_rate", "1")];
    let server = traced(Target::File(Some(path.clone())), &levels).await;
    let port = server.http().await;
    assert_eq!(ask(port, "", &json("[1,2.5,3,4]")).await, "200");
    // A failed run, a refused request, and a request that cannot be parsed.
    assert_eq!(ask(port, "", &json("[1.8e-44,0,0,0]")).await, "500");
    assert_eq!(ask(port, "", &json("[1]")).await, "400");
    assert_eq!(ask(port, "", "nonsense").await, "400");
    let mut entries: Vec<serde_json::Value> = loop {
        let read = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Vec<serde_json::Value>>(&text).ok());
        match read {
            Some(read) if read.iter().filter(|entry| entry["model_name"].is_string()).count() == 4 => break read,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    // A trace is written after its response was sent: two connections may end in either order.
    entries.sort_by_key(|entry| entry["id"].as_u64());
    let names = |entry: &serde_json::Value| {
        let stamps = entry["timestamps"].as_array().unwrap();
        assert!(stamps.iter().map(|stamp| stamp["ns"].as_u64().unwrap()).is_sorted());
        stamps.iter().map(|stamp| stamp["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let found: Vec<_> = entries
        .iter()
        .map(|entry| match (&entry["timestamps"], &entry["tensor"]) {
            (serde_json::Value::Null, serde_json::Value::Null) => entry.to_string(),
            (serde_json::Value::Null, tensor) => format!("{} {tensor}", entry["activity"]),
            _ => names(entry),
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    {"id":1,"model_name":"echo","model_version":1,"request_id":"r1"}
    HTTP_RECV_START HTTP_RECV_END REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END COMPUTE_OUTPUT_START COMPUTE_END INFER_RESPONSE_COMPLETE REQUEST_END HTTP_SEND_START HTTP_SEND_END
    "TENSOR_QUEUE_INPUT" {"data":"1,2.5,3,4","dtype":"FP32","name":"x","shape":"1,4"}
    "TENSOR_BACKEND_OUTPUT" {"data":"1,2.5,3,4","dtype":"FP32","name":"y","shape":"1,4"}
    {"id":2,"model_name":"echo","model_version":1,"request_id":"r1"}
    HTTP_RECV_START HTTP_RECV_END REQUEST_START QUEUE_START REQUEST_END HTTP_SEND_START HTTP_SEND_END
    "TENSOR_QUEUE_INPUT" {"data":"0.000000000000000000000000000000000000000000018,0,0,0","dtype":"FP32","name":"x","shape":"1,4"}
    {"id":3,"model_name":"echo","model_version":1}
    HTTP_RECV_START HTTP_RECV_END HTTP_SEND_START HTTP_SEND_END
    {"id":4,"model_name":"echo","model_version":1}
    HTTP_RECV_START HTTP_RECV_END HTTP_SEND_START HTTP_SEND_END
    "#);
}
