//! What a request may make the server hold and compute: many inputs, much JSON, deep nesting, bodies that grow, a budget
//! that is used up.

use std::{collections::HashMap, io::Write as _, time::Duration};

use bytes::Bytes;
use quintet_engine::{Budget, BufferPool, budget::Bounds};
use quintet_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{MAX_INPUT_BYTES, WIDTH, floats, over_http, start, start_within, typed};

/// Enough of anything that the request is large.
const MANY: usize = 20_000;

#[tokio::test]
async fn a_request_over_http_with_far_too_many_of_anything_is_refused() {
    let server = start().await;
    let port = server.http().await;
    let list = |item: &dyn Fn(usize) -> String| (0..MANY).map(item).collect::<Vec<_>>().join(",");
    let input = |name: &str| format!(r#"{{"name":"{name}","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}}"#);
    let inputs = list(&|index| input(&format!("i{index}")));
    let same = list(&|_| input("x"));
    let outputs = list(&|index| format!(r#"{{"name":"o{index}"}}"#));
    let parameters = list(&|index| format!(r#""p{index}":[]"#));
    let (x, long) = (input("x"), "n".repeat(1 << 20));
    for (body, expected) in [
        (format!(r#"{{"inputs":[{inputs}]}}"#), "expected 1 inputs but got 20000 inputs for model 'echo'"),
        (format!(r#"{{"inputs":[{same}]}}"#), "input 'x' already exists in request"),
        (format!(r#"{{"inputs":[{x}],"outputs":[{outputs}]}}"#), "unexpected inference output 'o0' for model 'echo'"),
        (format!(r#"{{"inputs":[{x}],"parameters":{{{parameters}}}}}"#), "has invalid type"),
        (format!(r#"{{"inputs":[{}]}}"#, input(&long)), "unexpected inference input 'nnn"),
    ] {
        let answer = over_http(port, "POST", "/v2/models/echo/infer", &body).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{}", &answer[..200.min(answer.len())]);
        assert!(answer.contains(expected), "{expected}: {}", &answer[..500.min(answer.len())]);
        assert!(answer.len() < 20_000, "{}", answer.len());
    }
}

#[tokio::test]
async fn a_request_over_grpc_with_far_too_many_of_anything_is_refused() {
    let server = start().await;
    let mut client = server.client().await;
    let input = |index: usize| InferInputTensor { name: format!("i{index}"), ..floats("echo", 1).inputs[0].clone() };
    let output = |index: usize| InferRequestedOutputTensor { name: format!("o{index}"), ..Default::default() };
    let data = Bytes::from(vec![0; 4 * WIDTH]);
    let unset = InferParameter { parameter_choice: None };
    let ok = || floats("echo", 1);
    for (request, expected) in [
        (
            ModelInferRequest {
                inputs: (0..MANY).map(input).collect(),
                raw_input_contents: vec![data.clone(); MANY],
                ..ok()
            },
            "expected 1 inputs but got 20000 inputs for model 'echo'",
        ),
        (
            ModelInferRequest { inputs: vec![input(0); MANY], raw_input_contents: vec![data.clone(); MANY], ..ok() },
            "input 'i0' already exists in request",
        ),
        (ModelInferRequest { raw_input_contents: vec![data; MANY], ..ok() }, "was sent 20000 raw_input_contents"),
        (
            ModelInferRequest { outputs: (0..MANY).map(output).collect(), ..ok() },
            "unexpected inference output 'o0' for model 'echo'",
        ),
        (
            ModelInferRequest {
                parameters: (0..MANY).map(|index| (format!("p{index}"), unset.clone())).collect(),
                ..ok()
            },
            "invalid value type for 'p",
        ),
    ] {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(expected), "{expected}: {status}");
    }
    let many = (0..MANY).map(|index| {
        let choice = Some(ParameterChoice::Int64Param(index as i64));
        (format!("parameter {index}"), InferParameter { parameter_choice: choice })
    });
    let many: HashMap<_, _> = many.collect();
    client.model_infer(ModelInferRequest { parameters: many.clone(), ..ok() }).await.unwrap();
    let mut request = ok();
    request.inputs[0].parameters = (0..4)
        .flat_map(|turn| many.iter().map(move |(name, value)| (format!("{turn} {name}"), value.clone())))
        .collect();
    let status = client.model_infer(request).await.unwrap_err();
    assert_eq!(status.message(), "the request has 80000 parameters; at most 65536 are read");
}

/// Requests and answers that are read and written away from the I/O threads.
#[tokio::test]
async fn large_json_and_large_messages_are_answered_as_small_ones() {
    let server = start().await;
    let (port, mut client) = (server.http().await, server.client().await);
    for count in [3, 60_000] {
        let list = (0..count).map(|index| format!(r#""text {index}""#)).collect::<Vec<_>>().join(",");
        let body = format!(
            r#"{{"id":"seven","inputs":[{{"name":"x","shape":[{count}],"datatype":"BYTES","data":[{list}]}}]}}"#
        );
        let answer = over_http(port, "POST", "/v2/models/text/infer", &body).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{}", &answer[..300.min(answer.len())]);
        assert!(answer.contains(r#""id":"seven""#) && answer.contains(&format!(r#""data":[{list}]"#)), "{count}");

        let bytes_contents: Vec<Bytes> = (0..count).map(|index| format!("text {index}").into()).collect();
        let contents = InferTensorContents { bytes_contents, ..Default::default() };
        let request = ModelInferRequest { id: "seven".into(), ..typed("text", "BYTES", &[count], contents) };
        let answer = client.clone().model_infer(request).await.unwrap().into_inner();
        assert_eq!((answer.id.as_str(), &answer.outputs[0].shape[..]), ("seven", &[count][..]));
        let expected: usize = (0..count).map(|index| 4 + format!("text {index}").len()).sum();
        assert_eq!(answer.raw_output_contents[0].len(), expected);
    }
    client.model_infer(floats("echo", 1)).await.unwrap();
}

#[tokio::test]
async fn nesting_has_a_limit() {
    let server = start().await;
    let port = server.http().await;
    for depth in [1000, 500_000] {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        let objects = r#"{"a":"#.repeat(depth / 5) + "1" + &"}".repeat(depth / 5);
        for body in [
            format!(r#"{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":{nested}}}]}}"#),
            format!(r#"{{"inputs":[],"parameters":{{"p":{nested}}}}}"#),
            format!(r#"{{"inputs":[],"parameters":{{"p":{objects}}}}}"#),
            format!(r#"{{"inputs":{nested}}}"#),
            nested.clone(),
        ] {
            let answer = over_http(port, "POST", "/v2/models/echo/infer", &body).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{}", &answer[..300.min(answer.len())]);
        }
        for path in ["/v2/models/echo/trace/setting", "/v2/logging", "/v2/repository/models/m/load"] {
            let answer = over_http(port, "POST", path, &format!(r#"{{"parameters":{nested}}}"#)).await;
            assert!(answer.starts_with("HTTP/1.1 ") && !answer.starts_with("HTTP/1.1 200"), "{path}");
        }
    }
}

/// A pool of which `bytes` may be in use; a body waits for `wait`.
fn pool(bytes: usize, wait: Duration) -> BufferPool {
    let bounds = Bounds { bytes, largest_body: MAX_INPUT_BYTES + 64, wait, flag: "--max-memory-bytes" };
    BufferPool::within(64 << 20, Budget::new(bounds))
}

async fn post(port: u16, headers: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_memory_is_refused() {
    let server = start_within(pool(64 << 20, Duration::ZERO)).await;
    let port = server.http().await;
    let budget = server.service.catalog().pool().budget().clone();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; MAX_INPUT_BYTES]).unwrap();
    let bomb = encoder.finish().unwrap();
    let mut held = budget.charge();
    held.force(62 << 20);
    let answer = post(port, "content-encoding: gzip\r\n", &bomb).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("(--max-memory-bytes)"), "{answer}");
    drop(held);
    let answer = post(port, "content-encoding: gzip\r\n", &bomb).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "decoded: {answer}");
    // A response is read before the server releases its memory.
    while budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_waits_for_memory_over_http_and_is_refused_over_grpc() {
    let server = start_within(pool(16 << 20, Duration::from_secs(60))).await;
    let (port, mut client) = (server.http().await, server.client().await);
    let budget = server.service.catalog().pool().budget().clone();
    let mut held = budget.charge();
    held.force(16 << 20);
    let body = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;
    let waiting = tokio::spawn(async move { post(port, "", body.as_bytes()).await });
    let status = client.model_infer(floats("echo", 1)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("(--max-memory-bytes)"), "{status}");
    assert!(!waiting.is_finished());
    drop(held);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    client.model_infer(floats("echo", 1)).await.unwrap();
}
