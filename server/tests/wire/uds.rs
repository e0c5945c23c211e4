//! The same service on a Unix domain socket.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use quintet_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use quintet_server::transport::{io_threads::IoThreads, kserve_grpc, listener::Listener};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::support::{floats, start};

#[tokio::test]
async fn a_unix_domain_socket_serves_and_is_removed_at_the_end() {
    let server = start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let listener = Listener::bind_unix("grpc", &path, "--grpc-uds", 8).unwrap();
    let stop = CancellationToken::new();
    let threads = IoThreads::start().unwrap();
    let service = Arc::clone(&server.service);
    let serving = tokio::spawn(kserve_grpc::serve(listener, service, server.options, threads, stop.clone()));

    let to = path.clone();
    let connector = tower::service_fn(move |_| {
        let to = to.clone();
        async move { UnixStream::connect(to).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    let sent = floats("echo", 8);
    let answer = client.model_infer(sent.clone()).await.unwrap().into_inner();
    assert_eq!(answer.raw_output_contents, sent.raw_input_contents);

    stop.cancel();
    serving.await.unwrap();
    assert!(!path.exists());
}
