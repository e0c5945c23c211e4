//! Clients that check each answer.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    inference::{ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor},
};
use quintet_server::{
    service::Service,
    transport::{self, kserve_grpc, kserve_http},
};
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{ECHO, MAX_INPUT, MEMORY, SCRIPTED},
    stream::Faulty,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The implementations of the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with a Content-Length: the server's own.
    Plain,
    /// HTTP/1.1 in chunks: hyper.
    Chunked,
    /// HTTP/2.
    Grpc,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its own tensor came back.
    Answered,
    /// The model failed, as its script says.
    Failed,
    /// There was no memory for it.
    Refused,
    /// The connection broke before the answer was complete.
    Broken,
}

/// One connection; requests may share it.
pub enum Client {
    Http1(Box<http1::SendRequest<Body>>, Protocol),
    Http2(http2::SendRequest<Body>),
}

/// A connection to the service whose server's end has faults, and the task that serves it. `None` if it breaks at once.
pub async fn connect(
    service: &Arc<Service>,
    protocol: Protocol,
    wire: impl FnOnce(DuplexStream) -> Faulty<DuplexStream>,
    buffer_bytes: usize,
) -> (Option<Client>, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(buffer_bytes);
    let (stream, service, stop) = (wire(far), Arc::clone(service), CancellationToken::new());
    // A connection may end with an error; only a panic is a fault.
    let serving = tokio::spawn(async move {
        let _ = if protocol == Protocol::Grpc {
            let limits = kserve_grpc::Options { max_input: MAX_INPUT, max_stream_requests: 4, compression: None };
            kserve_grpc::serve_connection(stream, service, limits, stop).await
        } else {
            let router = kserve_http::router(Arc::clone(&service));
            transport::http1::serve::serve_connection(stream, router, &service, stop).await
        };
    });
    let io = TokioIo::new(near);
    let client = if protocol == Protocol::Grpc {
        http2::handshake(TokioExecutor::new(), io).await.ok().map(|(client, connection)| {
            tokio::spawn(connection);
            Client::Http2(client)
        })
    } else {
        http1::handshake(io).await.ok().map(|(client, connection)| {
            tokio::spawn(connection);
            Client::Http1(Box::new(client), protocol)
        })
    };
    (client, serving)
}

impl Client {
    /// Sends a row to a model, and checks the answer.
    pub async fn infer(&mut self, model: &str, row: &[u8]) -> Outcome {
        match self {
            Self::Http1(client, protocol) => {
                if client.ready().await.is_err() {
                    return Outcome::Broken;
                }
                let request = http_request(model, row, *protocol == Protocol::Chunked);
                over_http(client.send_request(request), model, row).await
            }
            Self::Http2(client) => over_grpc(client, model, row).await,
        }
    }

    /// Another handle of the same connection; `None` for HTTP/1.1, which has one request at a time.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(..) => None,
            Self::Http2(client) => Some(Self::Http2(client.clone())),
        }
    }
}

fn http_request(model: &str, row: &[u8], is_chunked: bool) -> Request<Body> {
    let json = format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1,{0}],\"parameters\":{{\
         \"binary_data_size\":{0}}}}}],\"parameters\":{{\"binary_data_output\":true}}}}",
        row.len()
    );
    let length = json.len();
    let bytes = Bytes::from([json.as_bytes(), row].concat());
    let body = if is_chunked {
        let parts = bytes.chunks(1000).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect::<Vec<_>>();
        StreamBody::new(stream::iter(parts)).boxed_unsync()
    } else {
        Full::new(bytes).boxed_unsync()
    };
    let request = Request::post(format!("/v2/models/{model}/infer")).header("host", "h");
    request.header(INFERENCE_HEADER_CONTENT_LENGTH, length).body(body).unwrap()
}

async fn over_http(
    answer: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
    model: &str,
    row: &[u8],
) -> Outcome {
    let Ok(response) = answer.await else { return Outcome::Broken };
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return Outcome::Broken };
    let body = body.to_bytes();
    if head.status == StatusCode::OK {
        let at: usize = head.headers[INFERENCE_HEADER_CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        assert!(body[at..] == *row, "another tensor over HTTP");
        return Outcome::Answered;
    }
    failed(model, &format!("{} {}", head.status, body.escape_ascii()))
}

async fn over_grpc(client: &mut http2::SendRequest<Body>, model: &str, row: &[u8]) -> Outcome {
    let message = ModelInferRequest {
        model_name: model.into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "UINT8".into(),
            shape: vec![1, row.len() as i64],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::copy_from_slice(row)],
        ..ModelInferRequest::default()
    };
    let length = (message.encoded_len() as u32).to_be_bytes();
    let body = [&[0][..], &length, &message.encode_to_vec()].concat();
    let request = Request::post("http://h/inference.GRPCInferenceService/ModelInfer");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    if client.ready().await.is_err() {
        return Outcome::Broken;
    }
    let request = request.body(Full::new(Bytes::from(body)).boxed_unsync()).unwrap();
    let Ok(response) = client.send_request(request).await else { return Outcome::Broken };
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return Outcome::Broken };
    let trailers = body.trailers().cloned().unwrap_or_default();
    let field = |name| trailers.get(name).or_else(|| head.headers.get(name)).cloned();
    match field("grpc-status") {
        Some(status) if status == "0" => {
            let answer = ModelInferResponse::decode(body.to_bytes().slice(5..)).unwrap();
            assert!(answer.raw_output_contents[..] == [row], "another tensor over gRPC");
            Outcome::Answered
        }
        status => failed(model, &format!("{status:?} {:?}", field("grpc-message"))),
    }
}

/// A refusal: for want of memory, or of a model whose script says so.
fn failed(model: &str, answer: &str) -> Outcome {
    // Over gRPC its spaces are encoded.
    if answer.replace("%20", " ").contains("no memory for") && answer.contains(MEMORY.flag) {
        return Outcome::Refused;
    }
    let is_scripted = answer.contains(SCRIPTED) || answer.contains("panic");
    // A body that a broken connection cut is refused, if the refusal still arrives.
    let is_cut = answer.contains("body");
    assert!((model != ECHO && is_scripted) || is_cut, "a request to {model} was answered {answer}");
    if is_cut { Outcome::Broken } else { Outcome::Failed }
}
