//! Queues, deadlines, cancellation, health and shutdown over gRPC.

use std::time::Duration;

use futures_util::StreamExt as _;
use quintet_engine::FailureReason;
use quintet_proto::inference::{
    InferParameter, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest, infer_parameter::ParameterChoice,
};
use tokio::task::JoinHandle;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{GRPC, SLOW_QUEUE, Server, floats, framed, start};

/// Waits until the condition holds; the test runner has a time limit.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps `slow` busy until its gate is opened: its one instance has a request, and `waiting` more wait.
async fn occupy(server: &Server, waiting: usize) -> Vec<JoinHandle<Result<(), tonic::Status>>> {
    let model = server.model("slow");
    let mut tasks = Vec::new();
    for expected in 0..=waiting {
        let mut client = server.client().await;
        tasks.push(tokio::spawn(async move { client.model_infer(floats("slow", 1)).await.map(drop) }));
        until(|| server.gate.entered() == 1 && model.pending_requests() == expected).await;
    }
    tasks
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let server = start().await;
    let tasks = occupy(&server, SLOW_QUEUE).await;
    let status = server.client().await.model_infer(floats("slow", 1)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("Exceeds maximum queue size"), "{status}");
    server.gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    server.client().await.model_infer(floats("slow", 1)).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_call_frees_its_slot() {
    let server = start().await;
    let tasks = occupy(&server, 1).await;
    let model = server.model("slow");
    let mut client = server.client().await;
    let leaving = tokio::spawn(async move { client.model_infer(floats("slow", 1)).await });
    until(|| model.pending_requests() == 2).await;
    leaving.abort();
    until(|| model.pending_requests() == 1).await;
    until(|| model.stats().failures[FailureReason::Cancelled] == 1).await;
    server.gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(model.stats().success, 2);
}

#[tokio::test]
async fn the_deadlines_of_call_and_request_limit_waiting() {
    let server = start().await;
    let tasks = occupy(&server, 0).await;
    let code = (tonic::Code::DeadlineExceeded as i32).to_string();
    let late = server.send(&[GRPC, ("grpc-timeout", "5m")], framed(&floats("slow", 1))).await;
    assert_eq!(late.headers["grpc-status"], code.as_str());
    assert_eq!(late.headers["grpc-message"], "Request%20timeout%20expired");
    let timeout = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(5000)) };
    let request = ModelInferRequest { parameters: [("timeout".to_owned(), timeout)].into(), ..floats("slow", 1) };
    let late = server.send(&[GRPC], framed(&request)).await;
    assert_eq!(late.headers["grpc-status"], code.as_str());
    server.gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.model("slow").stats().executions, 1, "a late request never runs");
}

#[tokio::test]
async fn stopping_answers_accepted_requests() {
    let mut server = start().await;
    let mut idle = server.client().await;
    idle.server_live(ServerLiveRequest {}).await.unwrap();
    let tasks = occupy(&server, 2).await;
    let mut watch =
        HealthClient::new(server.channel().await).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop.cancel();
    assert!(watch.next().await.is_none(), "watches end");
    server.gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    (&mut server.serving).await.unwrap();
    assert!(idle.server_live(ServerLiveRequest {}).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn health_follows_the_service() {
    let server = start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut client = server.client().await;
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    for name in ["", "inference.GRPCInferenceService"] {
        let status = health.check(ask(name)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    assert_eq!(health.check(ask("nosuch")).await.unwrap_err().code(), tonic::Code::NotFound);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.service.begin_drain();
    assert_eq!(health.check(ask("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(!client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = start().await;
    let expected = "inference.GRPCInferenceService";
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await)
        .server_reflection_info(futures_util::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else { panic!() };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&expected) && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            expected.into(),
        )),
    };
    let mut answers = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await)
        .server_reflection_info(futures_util::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
}

#[tokio::test]
async fn returns_metadata_and_configuration() {
    let server = start().await;
    let mut client = server.client().await;
    let about = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((about.name.as_str(), about.version.as_str()), (quintet_server::SERVER_NAME, quintet_server::VERSION));
    let request = ModelMetadataRequest { name: "echo".into(), ..Default::default() };
    let answer = client.model_metadata(request).await.unwrap();
    assert_eq!(answer.metadata().get("quintet-effective-provider").unwrap(), "Echo");
    let metadata = answer.into_inner();
    assert_eq!((metadata.platform.as_str(), &metadata.versions[..]), ("onnxruntime_onnx", &["1".to_owned()][..]));
    assert_eq!((metadata.inputs[0].datatype.as_str(), &metadata.inputs[0].shape[..]), ("FP32", &[-1, 4][..]));
    let request = ModelConfigRequest { name: "echo".into(), ..Default::default() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!(config.name, "echo");
}
