//! Serves gRPC connections, and routes `ModelInfer` past tonic.

use std::sync::Arc;

use futures_util::TryFutureExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use quintet_http2::{self as http2, Admission};
use quintet_proto::inference::{FILE_DESCRIPTOR_SET, grpc_inference_service_server::GrpcInferenceServiceServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceExt as _;

use super::{
    charged::{ChargedBody, Received},
    health::Reporter,
    infer,
    limits::Limits,
    reply,
    rpc::Rpc,
};
use crate::{
    catalog::InputLimit,
    service::Service,
    transport::{io_threads::IoThreads, listener::Listener},
};

/// The start of the paths of the inference service's methods.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// Serves KServe over gRPC until `stop`; then connections get a GOAWAY and finish their requests.
pub async fn serve(
    listener: Listener,
    service: Arc<Service>,
    limits: Limits,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let front = Front::new(service, limits, &stop);
    let stopped = stop.clone();
    listener
        .serve(&threads, &stop, move |connection| {
            http2::serve(connection, front.clone(), stopped.clone().cancelled_owned()).map_err(Into::into)
        })
        .await;
}

/// Serves one connection until it ends, or until `stop`.
///
/// # Errors
/// When the connection breaks, or the client does not speak HTTP/2.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: Arc<Service>,
    limits: Limits,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Ok(http2::serve(stream, Front::new(service, limits, &stop), stop.cancelled_owned()).await?)
}

/// The services that tonic serves.
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
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "gRPC reflection is not available"),
    }
    routes.prepare()
}

/// Handles requests before tonic: answers `ModelInfer` itself, passes the others on.
#[derive(Clone)]
struct Front {
    service: Arc<Service>,
    max_input: InputLimit,
    routes: Routes,
}

impl Front {
    fn new(service: Arc<Service>, limits: Limits, stop: &CancellationToken) -> Self {
        Self { routes: routes(&service, limits, stop), service, max_input: limits.max_input }
    }
}

impl http2::Handler for Front {
    type ResponseBody = tonic::body::Body;

    fn handle(&self, head: request::Parts) -> Admission<tonic::body::Body> {
        if !is_grpc(&head.headers) {
            let mut response = Response::new(tonic::body::Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Admission::Answered(response);
        }
        if head.uri.path() == infer::PATH {
            return match infer::Incoming::new(Arc::clone(&self.service), self.max_input, head.headers) {
                Ok(incoming) => Admission::Buffered(Box::new(incoming)),
                Err(refusal) => Admission::Answered(*refusal),
            };
        }
        let Self { routes, max_input, service } = self.clone();
        Admission::Streaming(Box::new(move |body| {
            let body = body.map_err(cancelled);
            // A stream of any other service keeps nothing of what it received.
            let (request, received) = if head.uri.path().starts_with(SERVICE) {
                let received = Received::new(service.catalog().pool().budget());
                let body = ChargedBody::new(body, received.clone());
                let mut request = Request::from_parts(head, tonic::body::Body::new(body));
                request.extensions_mut().insert(received.clone());
                (request, Some(received))
            } else {
                (Request::from_parts(head, tonic::body::Body::new(body)), None)
            };
            Box::pin(async move {
                let _until_answered = received;
                let response = routes.oneshot(request).await.unwrap_or_else(|never| match never {});
                reply::tonic_response(response, max_input)
            })
        }))
    }
}

/// The error of a body whose client has cancelled the request, as a status for tonic.
fn cancelled(cancelled: http2::RequestCancelled) -> tonic::Status {
    tonic::Status::cancelled(cancelled.to_string())
}

/// Whether the content type is `application/grpc`, with or without a suffix such as `+proto`.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
