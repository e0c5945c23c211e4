//! A server on loopback without a model: it reads a request and answers nothing.

use std::{convert::Infallible, io, net::SocketAddr};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// HTTP/2 windows, so that no request waits for a WINDOW_UPDATE.
const WINDOW_BYTES: u32 = 64 << 20;

/// The protocol of a server without a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with frames of at most this length in bytes. Each frame is a system call of the client.
    Http2(u32),
}

type Body = BoxBody<Bytes, Infallible>;

/// A server that answers without a model; it stops when it is dropped.
pub(super) struct NullServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl NullServer {
    /// Starts on a free port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub(super) async fn start(wire: Wire) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let io = TokioIo::new(stream);
                match wire {
                    Wire::Http1 => {
                        tokio::spawn(http1::Builder::new().serve_connection(io, service_fn(answer_http)));
                    }
                    Wire::Http2(max_frame_bytes) => {
                        let mut server = http2::Builder::new(TokioExecutor::new());
                        server
                            .initial_stream_window_size(WINDOW_BYTES)
                            .initial_connection_window_size(WINDOW_BYTES)
                            .max_frame_size(max_frame_bytes);
                        tokio::spawn(server.serve_connection(io, service_fn(answer_grpc)));
                    }
                }
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }
}

async fn read(request: Request<Incoming>) {
    let mut body = request.into_body();
    // Read without keeping: a failure shows at the client.
    while let Some(Ok(_)) = body.frame().await {}
}

async fn answer_http(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    read(request).await;
    Ok(Response::new(Full::new(Bytes::from_static(b"{}")).boxed()))
}

/// An empty message and the status OK.
async fn answer_grpc(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    read(request).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let mut response = Response::new(StreamBody::new(stream::iter(frames.map(Ok))).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
