//! The HTTP/2 connection loop: accepts until told to stop, then lets open requests finish.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quintet_proto::inference::{FILE_DESCRIPTOR_SET, grpc_inference_service_server::GrpcInferenceServiceServer};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceExt as _;

use super::{health::Reporter, infer, reply, rpc::Rpc};
use crate::{
    service::{InputLimit, Service},
    transport::{io_threads::IoThreads, listener::Listener},
};

/// Largest HTTP/2 frame that clients may send: large tensors in few frames. Each is received into a buffer of its
/// own before it is copied to its place, so it should still be in the cache then.
const MAX_FRAME_BYTES: u32 = 256 << 10;
/// What a client may send before it must wait for us: enough that it never does.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// What is buffered of one answer.
const MAX_SEND_BUFFER_BYTES: usize = 1 << 20;
/// Requests at once on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// Metadata of one request.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// Limits of a gRPC listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message.
    pub max_input: InputLimit,
    /// Requests of one `ModelStreamInfer` that are begun and not answered.
    pub max_stream_requests: usize,
}

/// Requests of one stream that may be begun at once by default.
pub const MAX_STREAM_REQUESTS: usize = 64;

/// Serves KServe over gRPC until `stop`; then connections get a GOAWAY and finish their requests.
pub async fn serve(
    listener: Listener,
    service: Arc<Service>,
    limits: Limits,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let front = Front { routes: routes(&service, limits, &stop), service, max_input: limits.max_input };
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .max_frame_size(MAX_FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES);
    let stopped = stop.clone();
    let serve = move |connection| {
        let (front, stop) = (front.clone(), stopped.clone());
        let answer = hyper::service::service_fn(move |request| front.clone().answer(request));
        let serving = builder.serve_connection(TokioIo::new(connection), answer);
        async move {
            let mut serving = std::pin::pin!(serving);
            tokio::select! {
                outcome = serving.as_mut() => outcome?,
                () = stop.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await?;
                }
            }
            Ok(())
        }
    };
    listener.serve(&threads, &stop, serve).await;
}

/// What tonic serves.
fn routes(service: &Arc<Service>, limits: Limits, stop: &CancellationToken) -> Routes {
    let rpc = Rpc { service: Arc::clone(service), limits, stop: stop.clone() };
    let mut routes = Routes::new(
        GrpcInferenceServiceServer::new(rpc)
            .max_decoding_message_size(limits.max_input.bytes)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate),
    )
    .add_service(HealthServer::new(Reporter::new(Arc::clone(service), stop.clone())));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no gRPC reflection"),
    }
    routes.prepare()
}

/// Stands in front of tonic and claims `ModelInfer`.
#[derive(Clone)]
struct Front {
    service: Arc<Service>,
    max_input: InputLimit,
    routes: Routes,
}

impl Front {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<tonic::body::Body>, Infallible> {
        if !is_grpc(request.headers()) {
            let mut response = Response::new(tonic::body::Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Ok(response);
        }
        match request.uri().path() {
            infer::PATH => Ok(infer::infer(&self.service, self.max_input, request).await),
            _ => Ok(reply::refused(self.routes.oneshot(request).await?, self.max_input)),
        }
    }
}

/// `application/grpc`, with or without a `+proto`.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
