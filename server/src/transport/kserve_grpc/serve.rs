//! Serves gRPC connections, and routes `ModelInfer` past tonic.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use quintet_engine::{ErrorKind, InferError};
use quintet_http2::{self as http2, Admission, connection, frame::ErrorCode};
use quintet_proto::inference::{FILE_DESCRIPTOR_SET, grpc_inference_service_server::GrpcInferenceServiceServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceExt as _;

use super::{
    charged::{ChargedBody, Received},
    guarded::{Answer, GuardedIntake, RequestBody},
    health::Reporter,
    infer,
    options::Options,
    reply,
    rpc::Rpc,
};
use crate::{
    observe::metrics::Closed,
    service::Service,
    transport::{
        access::Access,
        guard::{Guard, Guarded, NO_ROOM, Reason, RequestState, Requested, Timeouts},
        io_threads::IoThreads,
        listener::{Connection, Listener, Shared},
    },
};

/// The start of the paths of the inference service's methods.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// What a connection gets that is not even in reserve: empty SETTINGS, and GOAWAY (RFC 9113 §6.5 and §6.8).
const REFUSAL: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Calls that a connection in reserve may make.
const PROBES: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// Calls whose streams may rest for as long as the client likes.
const STREAMS: [&str; 4] = [
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// How long a client whose request came too slowly may take to read its GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves KServe over gRPC until `stop`; then connections get a GOAWAY and finish their requests.
pub async fn serve(
    listener: Listener,
    service: Arc<Service>,
    options: Options,
    threads: IoThreads,
    stop: CancellationToken,
) {
    let counters = Arc::clone(service.catalog().connections());
    let calls = Calls { access: listener.access().clone(), ..Calls::new(service, options, &stop) };
    let shared = Shared { threads: &threads, stop: &stop, counters: &counters, refusal: REFUSAL };
    let serve = move |stream: Guarded<Connection>| {
        let guard = Arc::clone(stream.guard());
        serve_guarded(stream, Front { calls: calls.clone(), guard })
    };
    listener.serve(shared, serve).await;
}

/// Serves one connection until it ends, or until `stop`.
///
/// # Errors
/// When the connection breaks, or the client does not speak HTTP/2.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: Arc<Service>,
    options: Options,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let counters = Arc::clone(service.catalog().connections());
    let guard = Arc::new(Guard::new(Timeouts::default(), stop.child_token(), counters));
    let front = Front { calls: Calls::new(service, options, &stop), guard: Arc::clone(&guard) };
    serve_guarded(Guarded::new(stream, guard), front).await
}

/// Serves a connection until it ends or a timer of its guard ends it, with a GOAWAY if the client may still read it.
async fn serve_guarded(stream: impl AsyncRead + AsyncWrite + Unpin, front: Front) -> anyhow::Result<()> {
    let guard = Arc::clone(&front.guard);
    guard.multiplex();
    let (timers, leave) = (timers(guard.timeouts()), guard.leave().clone().cancelled_owned());
    let mut serving = std::pin::pin!(http2::serve(stream, front, timers, leave));
    let ended = guard.watch(serving.as_mut()).await;
    match ended {
        // A request that crosses the GOAWAY is still answered.
        Err(Reason::Idle) => {
            guard.leave().cancel();
            let _ = guard.watch(serving).await;
        }
        Err(Reason::Body) => {
            guard.leave().cancel();
            let _ = tokio::time::timeout(GOAWAY_TIMEOUT, serving).await;
        }
        _ => {}
    }
    let ended = ended?;
    let closed = match &ended {
        Err(http2::Error::Silent) => Some(Closed::Ping),
        Err(http2::Error::Protocol(ErrorCode::SettingsTimeout)) => Some(Closed::Settings),
        Err(http2::Error::Protocol(ErrorCode::EnhanceYourCalm)) => Some(Closed::Calm),
        _ => None,
    };
    closed.into_iter().for_each(|closed| guard.count_end(closed));
    Ok(ended?)
}

/// The timers that HTTP/2 itself has.
fn timers(limits: &Timeouts) -> http2::Options {
    /// No limit: ten years.
    const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);
    let timeouts = connection::Timeouts {
        settings_ack: limits.settings_ack.unwrap_or(NEVER),
        ping_interval: limits.ping_interval.unwrap_or(NEVER),
        ping_idle: limits.ping_idle,
        ping_answer: limits.ping_answer.unwrap_or(NEVER),
        ..connection::Timeouts::default()
    };
    http2::Options { timeouts, ..http2::Options::default() }
}

/// The services that tonic serves.
fn routes(service: &Arc<Service>, options: Options, stop: &CancellationToken) -> Routes {
    let rpc = Rpc { service: Arc::clone(service), options, stop: stop.clone() };
    let mut routes = Routes::new(
        GrpcInferenceServiceServer::new(rpc)
            .max_decoding_message_size(options.max_input.bytes)
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

/// What the connections of a listener share.
#[derive(Clone)]
struct Calls {
    service: Arc<Service>,
    options: Options,
    routes: Routes,
    access: Access,
}

impl Calls {
    fn new(service: Arc<Service>, options: Options, stop: &CancellationToken) -> Self {
        let routes = routes(&service, options, stop);
        Self { routes, service, options, access: Access::default() }
    }
}

/// Handles the requests of a connection before tonic: refuses those that may not be carried out, answers `ModelInfer` itself, passes the others on.
struct Front {
    calls: Calls,
    guard: Arc<Guard>,
}

impl Front {
    /// A response that does not wait for the request.
    fn answered(&self, response: Response<tonic::body::Body>) -> Admission<Answer> {
        let requested = Requested::new(&self.guard, RequestState::Sending);
        Admission::Answered(response.map(|body| Answer::new(body, requested)))
    }

    /// Lets tonic answer a request.
    fn stream(&self, mut head: request::Parts) -> Admission<Answer> {
        let Calls { routes, options, service, .. } = self.calls.clone();
        let guard = Arc::clone(&self.guard);
        let is_stream = STREAMS.contains(&head.uri.path());
        let state = if is_stream { RequestState::Quiet } else { RequestState::Answering };
        head.extensions.insert(Arc::clone(&guard));
        Admission::Streaming(Box::new(move |body| {
            let requested = Requested::new(&guard, state);
            let body = RequestBody::new(body, &guard, is_stream).map_err(cancelled);
            // A stream of any other service keeps nothing of what it received.
            let (request, received) = if head.uri.path().starts_with(SERVICE) {
                let received = Received::new(service.catalog().pool().budget());
                head.extensions.insert(received.clone());
                let body = ChargedBody::new(body, received.clone());
                (Request::from_parts(head, tonic::body::Body::new(body)), Some(received))
            } else {
                (Request::from_parts(head, tonic::body::Body::new(body)), None)
            };
            Box::pin(async move {
                let _until_answered = received;
                let response = routes.oneshot(request).await.unwrap_or_else(|never| match never {});
                let answer = if is_stream { Answer::of_stream } else { Answer::new };
                reply::tonic_response(response, options.max_input).map(|body| answer(body, requested))
            })
        }))
    }
}

impl http2::Handler for Front {
    type ResponseBody = Answer;

    fn handle(&self, head: request::Parts) -> Admission<Answer> {
        if self.guard.is_reserve() {
            // It ends with this request.
            self.guard.leave().cancel();
        }
        // gRPC's calls are POST requests. RFC 9110 §15.5.6: a response with status 405 MUST have Allow.
        if head.method != Method::POST {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return self.answered(response);
        }
        if !is_grpc(&head.headers) {
            return self.answered(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if self.guard.is_reserve() && !PROBES.contains(&head.uri.path()) {
            return self.answered(reply::failure(&InferError::new(ErrorKind::Unavailable, NO_ROOM)));
        }
        if let Err(refusal) = self.calls.access.check(&head) {
            return self.answered(reply::refused(&refusal));
        }
        if head.uri.path() != infer::PATH {
            return self.stream(head);
        }
        let Calls { service, options, .. } = &self.calls;
        match infer::Incoming::new(Arc::clone(service), *options, head.headers) {
            Ok(incoming) => Admission::Buffered(Box::new(GuardedIntake::new(incoming, &self.guard))),
            Err(refusal) => self.answered(*refusal),
        }
    }
}

/// The error of a body whose client has cancelled the request, as a status for tonic.
fn cancelled(cancelled: http2::RequestCancelled) -> tonic::Status {
    tonic::Status::cancelled(cancelled.to_string())
}

/// The response to a request that is no gRPC call.
fn refusal(status: StatusCode) -> Response<tonic::body::Body> {
    let mut response = Response::new(tonic::body::Body::empty());
    *response.status_mut() = status;
    response
}

/// Whether the content type is `application/grpc`, with or without a suffix such as `+proto`.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
