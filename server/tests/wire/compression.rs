//! Responses of `ModelInfer` that are compressed.

use std::sync::Arc;

use quintet_server::transport::{encoding::Effort, kserve_grpc::Options};
use tonic::codec::CompressionEncoding;

use crate::support::{GRPC, Server, floats, framed, serve_with, start};

const GZIP: (&str, &str) = ("grpc-accept-encoding", "identity, gzip");

async fn compressing(effort: Effort) -> Server {
    let server = start().await;
    let options = Options { compression: Some(effort), ..server.options };
    serve_with(Arc::clone(&server.service), server.gate.clone(), options).await
}

#[tokio::test]
async fn responses_are_compressed_for_clients_that_accept_it() {
    for effort in [Effort::Low, Effort::Medium, Effort::High] {
        let server = compressing(effort).await;
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let mut client = server.client().await.accept_compressed(encoding);
            let answer = client.model_infer(floats("echo", 8)).await.unwrap().into_inner();
            assert_eq!(answer.raw_output_contents, floats("echo", 8).raw_input_contents);
        }
        let encoded = server.send(&[GRPC, GZIP], framed(&floats("echo", 8))).await;
        assert_eq!(
            (&encoded.headers["grpc-encoding"], &encoded.trailers["grpc-status"]),
            (&"gzip".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn what_gets_no_smaller_and_what_no_client_accepts_is_sent_as_it_is() {
    let server = compressing(Effort::High).await;
    let small = server.send(&[GRPC, GZIP], framed(&floats("echo", 1))).await;
    let others = [
        small,
        server.send(&[GRPC], framed(&floats("echo", 8))).await,
        server.send(&[GRPC, ("grpc-accept-encoding", "br")], framed(&floats("echo", 8))).await,
        start().await.send(&[GRPC, GZIP], framed(&floats("echo", 8))).await,
    ];
    for answer in others {
        assert!(!answer.headers.contains_key("grpc-encoding") && answer.trailers["grpc-status"] == "0");
    }
    let mut client = server.client().await.accept_compressed(CompressionEncoding::Gzip);
    let answer = client.model_infer(floats("echo", 1)).await.unwrap().into_inner();
    assert_eq!(answer.raw_output_contents, floats("echo", 1).raw_input_contents);
}
