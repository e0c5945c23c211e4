//! `ModelStreamInfer`: order, errors in the stream, limits and its end.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use quintet_proto::inference::{
    ModelInferRequest, ModelMetadataRequest, ModelStreamInferResponse, infer_parameter::ParameterChoice::BoolParam,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::support::{MAX_INPUT_BYTES, STREAM_REQUESTS, Server, floats, raw, start};

fn numbered(id: usize, model: &str) -> ModelInferRequest {
    ModelInferRequest { id: id.to_string(), ..floats(model, 1) }
}

/// The id and the error message of a response.
fn id_and_error(answer: Result<ModelStreamInferResponse, Status>) -> (String, String) {
    let answer = answer.unwrap();
    let response = answer.infer_response.unwrap();
    let last = &response.parameters["triton_final_response"].parameter_choice;
    assert_eq!(last, &Some(BoolParam(true)));
    assert_eq!(response.raw_output_contents.is_empty(), !answer.error_message.is_empty());
    (response.id, answer.error_message)
}

/// A stream and the sender of its requests.
async fn open(server: &Server) -> (mpsc::Sender<ModelInferRequest>, tonic::Streaming<ModelStreamInferResponse>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
    let answers = server.client().await.model_stream_infer(requests).await.unwrap().into_inner();
    (sender, answers)
}

#[tokio::test]
async fn responses_keep_the_order_and_errors_do_not_end_the_stream() {
    let server = start().await;
    let requests = (0..200).map(|id| match id % 5 {
        1 => numbered(id, "nosuch"),
        2 => ModelInferRequest { id: id.to_string(), ..floats("echo", 9) },
        _ => numbered(id, "echo"),
    });
    let answers = server.client().await.model_stream_infer(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(id_and_error).collect().await;
    assert_eq!(answers.len(), 200);
    for (index, (id, error)) in answers.into_iter().enumerate() {
        assert_eq!(id, index.to_string());
        let wanted = match index % 5 {
            1 => "Request for unknown model: 'nosuch' is not found",
            2 => "batch-size must be <= 8",
            _ => "",
        };
        assert!(error.contains(wanted) && error.is_empty() == wanted.is_empty(), "{index}: {error}");
    }
}

#[tokio::test]
async fn starts_at_most_the_allowed_number_of_requests() {
    let server = start().await;
    let (sender, mut answers) = open(&server).await;
    let sending = tokio::spawn(async move {
        for id in 0..2 * STREAM_REQUESTS {
            sender.send(numbered(id, "slow")).await.unwrap();
        }
    });
    // One runs and one waits. If the others had been started, one would wait too and one would be refused.
    let model = server.model("slow");
    while server.gate.entered() + model.pending_requests() < STREAM_REQUESTS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.client().await.model_infer(floats("echo", 1)).await.unwrap();
    assert_eq!(server.gate.entered() + model.pending_requests(), STREAM_REQUESTS);
    server.gate.open();
    for id in 0..2 * STREAM_REQUESTS {
        assert_eq!(id_and_error(answers.next().await.unwrap()), (id.to_string(), String::new()));
    }
    assert!(answers.next().await.is_none());
    sending.await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_limit_ends_only_its_stream() {
    let server = start().await;
    let large = raw("echo", "FP32", &[1, 4], vec![0; MAX_INPUT_BYTES]);
    let mut client = server.client().await;
    // The same connection also has a running request and another stream.
    let mut other = client.clone();
    let running = tokio::spawn(async move { other.model_infer(floats("slow", 1)).await });
    let (sender, mut receiver) = mpsc::channel(1);
    let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut unharmed = client.model_stream_infer(requests).await.unwrap().into_inner();
    while server.gate.entered() < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answers = client.model_stream_infer(stream::iter([numbered(0, "echo"), large])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert!(answers[0].is_ok() && answers.len() == 2);
    let refusal = answers[1].as_ref().unwrap_err();
    let words = "the message exceeds the limit of 4194304 bytes (--max-input-bytes)";
    assert_eq!((refusal.code(), refusal.message()), (tonic::Code::ResourceExhausted, words));
    sender.send(numbered(1, "echo")).await.unwrap();
    assert_eq!(id_and_error(unharmed.next().await.unwrap()), ("1".to_owned(), String::new()));
    server.gate.open();
    running.await.unwrap().unwrap();

    // Other methods have the same limit and the same words.
    let label = "x".repeat(MAX_INPUT_BYTES);
    let refusal =
        client.model_metadata(ModelMetadataRequest { name: label, version: String::new() }).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (tonic::Code::ResourceExhausted, words));
}

#[tokio::test]
async fn closing_a_stream_cancels_its_requests() {
    let server = start().await;
    let (sender, answers) = open(&server).await;
    for id in 0..2 {
        sender.send(numbered(id, "slow")).await.unwrap();
    }
    let model = server.model("slow");
    while server.gate.entered() < 1 || model.pending_requests() < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop((sender, answers));
    while model.pending_requests() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_open_stream_does_not_delay_shutdown() {
    let mut server = start().await;
    let stop: CancellationToken = server.stop.clone();
    let (sender, mut answers) = open(&server).await;
    sender.send(numbered(0, "slow")).await.unwrap();
    while server.gate.entered() < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    server.gate.open();
    assert_eq!(
        id_and_error(answers.next().await.unwrap()),
        ("0".to_owned(), String::new()),
        "started requests are answered"
    );
    assert!(answers.next().await.is_none());
    (&mut server.serving).await.unwrap();
    drop(sender);
}
