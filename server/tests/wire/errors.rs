//! Refused requests, with status and message.

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quintet_proto::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest,
    ModelReadyRequest, ModelRepositoryParameter, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
    model_repository_parameter,
};

use crate::support::{GRPC, MAX_INPUT_BYTES, floats, framed, input, raw, start, typed};

fn parameter(name: &str, choice: ParameterChoice) -> std::collections::HashMap<String, InferParameter> {
    [(name.to_owned(), InferParameter { parameter_choice: Some(choice) })].into()
}

#[tokio::test]
async fn refusals_have_tritons_messages() {
    let server = start().await;
    let mut client = server.client().await;
    let two = || InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
    let ok = || floats("echo", 1);
    let output = |name: &str, parameters| ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor { name: name.into(), parameters }],
        ..ok()
    };
    let shared = parameter("shared_memory_region", ParameterChoice::StringParam("r".into()));
    let requests = [
        floats("nosuch", 1),
        ModelInferRequest { model_version: "99".into(), ..ok() },
        ModelInferRequest { model_version: "abc".into(), ..ok() },
        ModelInferRequest { model_version: "0".into(), ..ok() },
        floats("echo", 9),
        raw("echo", "FP32", &[1, 4], vec![0; 15]),
        raw("echo", "FOO", &[1, 4], vec![0; 16]),
        ModelInferRequest { inputs: vec![], raw_input_contents: vec![], id: "7".into(), ..ok() },
        ModelInferRequest { raw_input_contents: vec![], ..ok() },
        ModelInferRequest { raw_input_contents: vec![Bytes::new(), Bytes::new()], ..ok() },
        ModelInferRequest { inputs: vec![input("FP32", &[1, 4], Some(two()))], ..ok() },
        typed("half", "FP16", &[1, 4], two()),
        typed("echo", "FP32", &[1, 4], two()),
        typed("echo", "FP32", &[1, 4], InferTensorContents { int_contents: vec![1], ..Default::default() }),
        raw("text", "BYTES", &[1], &b"\xe7\x03\0\0hi"[..]),
        output("nope", Default::default()),
        output("y", parameter("classification", ParameterChoice::StringParam("2".into()))),
        output("y", parameter("classification", ParameterChoice::Int64Param(0))),
        output("y", shared.clone()),
        ModelInferRequest { parameters: parameter("timeout", ParameterChoice::BoolParam(true)), ..ok() },
        ModelInferRequest { parameters: parameter("triton_x", ParameterChoice::BoolParam(true)), ..ok() },
        raw("echo", "FP32", &[1, 4], vec![13; 16]),
    ];
    let mut refusals = Vec::new();
    for request in requests {
        let status = client.model_infer(request).await.unwrap_err();
        refusals.push(format!("{:?}: {}", status.code(), status.message()));
    }
    insta::assert_snapshot!(refusals.join("\n"), @r"
    NotFound: Request for unknown model: 'nosuch' is not found
    NotFound: Request for unknown model: 'echo' version 99 is not found
    InvalidArgument: failed to get model version from specified version string 'abc' (details: stol), version should be an integral value > 0
    InvalidArgument: failed to get model version from specified version string '0', version should be an integral value > 0
    InvalidArgument: [request id: <id_unknown>] inference request batch-size must be <= 8 for 'echo'
    InvalidArgument: [request id: <id_unknown>] input byte size mismatch for input 'x' for model 'echo'. Expected 16, got 15
    InvalidArgument: [request id: <id_unknown>] inference input 'x' data-type is '<invalid>', but model 'echo' expects 'FP32'
    InvalidArgument: [request id: 7] expected 1 inputs but got 0 inputs for model 'echo'. Got input(s) [], but missing required input(s) ['x']. Please provide all required input(s).
    InvalidArgument: unable to find data for input tensor 'x' for model 'echo' in request.
    InvalidArgument: model 'echo' was sent 2 raw_input_contents for 1 inputs: send one for each input
    InvalidArgument: contents field must not be specified when using raw_input_contents for 'x' for model 'echo'
    InvalidArgument: unexpected explicit tensor data for input tensor 'x' for model 'half' of type 'FP32', expected datatype 'FP16'
    InvalidArgument: [request id: <id_unknown>] input byte size mismatch for input 'x' for model 'echo'. Expected 16, got 8
    InvalidArgument: unexpected explicit tensor data for input tensor 'x' for model 'echo' of type 'INT32', expected datatype 'FP32'
    InvalidArgument: incomplete string data for inference input 'x', expecting string of length 999 but only 2 bytes available
    InvalidArgument: unexpected inference output 'nope' for model 'echo'
    InvalidArgument: invalid value type for 'classification' parameter, expected int64_param
    InvalidArgument: invalid value for 'classification' parameter, expected >= 0
    InvalidArgument: 'shared_memory_byte_size' must be specified along with 'shared_memory_region' for tensor 'y'
    InvalidArgument: invalid value type for 'timeout' parameter, expected int64_param.
    InvalidArgument: parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.
    Internal: poisoned row
    ");
    assert_eq!(server.model("echo").stats().failures.total(), 16, "requests to a ready model are counted with it");
}

#[tokio::test]
async fn refuses_bodies_that_are_not_one_message() {
    let server = start().await;
    let refusal = async |body: Vec<u8>| {
        let answer = server.send(&[GRPC], body).await;
        let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (text("grpc-status"), text("grpc-message"))
    };
    let invalid = (tonic::Code::InvalidArgument as i32).to_string();
    for body in [vec![], vec![0, 0], vec![0, 0, 0, 0, 9, 1], vec![0, 0, 0, 0, 0, 1], vec![0, 0, 0, 0, 1, 255]] {
        assert_eq!(refusal(body.clone()).await.0, invalid, "{body:?}");
    }
    let mut compressed = framed(&floats("echo", 1));
    compressed[0] = 1;
    let (code, message) = refusal(compressed).await;
    assert_eq!(code, (tonic::Code::Unimplemented as i32).to_string());
    assert!(message.contains("compressed"), "{message}");
    let other = server.send(&[GRPC, ("grpc-encoding", "snappy")], framed(&floats("echo", 1))).await;
    assert_eq!(other.headers["grpc-status"], code);
    let broken = [&[1, 0, 0, 0, 3][..], b"abc"].concat();
    let broken = server.send(&[GRPC, ("grpc-encoding", "gzip")], broken).await;
    assert_eq!(broken.headers["grpc-status"], invalid);
    let (code, message) = refusal(framed(&raw("echo", "FP32", &[1, 4], vec![0; MAX_INPUT_BYTES]))).await;
    assert_eq!(code, (tonic::Code::ResourceExhausted as i32).to_string());
    assert!(message.contains("exceeds%20the%20limit%20of%204194304%20bytes%20(--max-input-bytes)"), "{message}");
    let other = server.send(&[("content-type", "application/json")], "{}").await;
    assert_eq!(other.status, 415);
}

#[tokio::test]
async fn refuses_methods_other_than_post() {
    let server = start().await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for method in ["GET", "PUT", "OPTIONS", "HEAD"] {
        let request =
            http::Request::builder().method(method).uri("http://localhost/inference.GRPCInferenceService/ServerLive");
        let request = request.header(GRPC.0, GRPC.1).body(Empty::<Bytes>::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap()),
            "{method}"
        );
    }
}

#[tokio::test]
async fn refuses_a_message_over_the_limit_from_tonic_too() {
    let server = start().await;
    let mut client = server.client().await;
    for bytes in [MAX_INPUT_BYTES, 10 * MAX_INPUT_BYTES] {
        let status = client.model_infer(raw("echo", "FP32", &[1, 4], vec![0; bytes])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    }
    client.model_infer(floats("echo", 1)).await.unwrap();
}

#[tokio::test]
async fn the_repository_can_be_listed_but_not_changed_without_explicit_mode() {
    let server = start().await;
    let mut client = server.client().await;
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    let listed: Vec<_> = index.models.iter().map(|it| format!("{} {} {}", it.name, it.version, it.state)).collect();
    assert_eq!(listed, ["echo 1 READY", "half 1 READY", "pair 1 READY", "slow 1 READY", "text 1 READY"]);
    let named = RepositoryIndexRequest { repository_name: "r".into(), ..Default::default() };
    let load = |parameters| RepositoryModelLoadRequest { model_name: "echo".into(), parameters, ..Default::default() };
    let text =
        ModelRepositoryParameter { parameter_choice: Some(model_repository_parameter::ParameterChoice::Int64Param(1)) };
    let with = |name: &str| load([(name.to_owned(), text.clone())].into());
    let unload = RepositoryModelUnloadRequest { model_name: "echo".into(), ..Default::default() };
    let wrong = [("unload_dependents".to_owned(), text.clone())].into();
    let refusals = [
        client.repository_index(named).await.unwrap_err(),
        client.repository_model_load(load(Default::default())).await.unwrap_err(),
        client.repository_model_load(with("config")).await.unwrap_err(),
        client.repository_model_load(with("file:1/model.onnx")).await.unwrap_err(),
        client.repository_model_unload(unload.clone()).await.unwrap_err(),
        client.repository_model_unload(RepositoryModelUnloadRequest { parameters: wrong, ..unload }).await.unwrap_err(),
    ];
    let refusals: Vec<_> = refusals.iter().map(|status| format!("{:?}: {}", status.code(), status.message())).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    Unimplemented: 'repository_name' specification is not supported
    Unavailable: explicit model load / unload is not allowed if polling is enabled
    InvalidArgument: invalid value type for load parameter 'config', expected string_param.
    InvalidArgument: invalid value type for load parameter 'file:1/model.onnx', expected bytes_param.
    Unavailable: explicit model load / unload is not allowed if polling is enabled
    InvalidArgument: invalid value type for unload parameter 'unload_dependents', expected bool_param.
    ");
}

#[tokio::test]
async fn unknown_models_are_not_ready_and_not_found() {
    let server = start().await;
    let mut client = server.client().await;
    let ready = |name: &str, version: &str| ModelReadyRequest { name: name.into(), version: version.into() };
    assert!(!client.model_ready(ready("nosuch", "")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("echo", "99")).await.unwrap().into_inner().ready);
    assert!(client.model_ready(ready("echo", "1")).await.unwrap().into_inner().ready);
    let status = client.model_ready(ready("echo", "abc")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let status = client.model_metadata(ModelMetadataRequest { name: "nosuch".into(), ..Default::default() }).await;
    assert_eq!(status.unwrap_err().message(), "Request for unknown model: 'nosuch' is not found");
    let status = client.model_config(ModelConfigRequest { name: "nosuch".into(), ..Default::default() }).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::NotFound);
}
