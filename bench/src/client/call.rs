//! A prepared request, its reply, and the errors of a call.

use std::{
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper::body::{Body, Frame, SizeHint};
use quintet_proto::SERVER_TIMING;

use crate::{
    client::placement::Placement,
    model::{part::StageTimes, sample::Marks},
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection cannot be opened.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// The address.
        endpoint: String,
        /// The system's error.
        reason: String,
    },
    /// There was no complete response in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection broke.
    #[error("connection broke: {0}")]
    Transport(String),
    /// The server refused or failed.
    #[error("status {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// HTTP status or gRPC code.
        code: String,
        /// The server's message.
        message: String,
    },
    /// The response is over the limit.
    #[error("answer exceeds {0} bytes (--max-response-bytes)")]
    TooLarge(usize),
    /// The response is malformed.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl CallError {
    /// Short name for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout(_) => "timeout",
            Self::Transport(_) => "transport",
            Self::Status { .. } => "status",
            Self::TooLarge(_) => "too-large",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// A request that is built once and sent many times; the chunks of its body are shared, never copied.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Method.
    pub method: Method,
    /// Path for HTTP/1.1, absolute URI for HTTP/2.
    pub uri: Uri,
    /// Headers, `Host` included where HTTP/1.1 needs it.
    pub headers: HeaderMap,
    /// Body, in pieces.
    pub chunks: Arc<[Bytes]>,
    /// Placement of the output in shared memory, if it goes there.
    pub output: Option<Placement>,
}

impl Prepared {
    /// Length of the body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The request; `sent` is set when the system has taken the last byte of its body.
    pub(super) fn request(&self, sent: Arc<OnceLock<Instant>>) -> Request<Chunks> {
        let mut request = Request::new(Chunks { chunks: Arc::clone(&self.chunks), next: 0, sent });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Reply {
    /// When the call began.
    pub started: Instant,
    /// Times of the later steps.
    pub marks: Marks,
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Trailers, with gRPC's status.
    pub trailers: HeaderMap,
    pub(super) chunks: Vec<Bytes>,
}

impl Reply {
    /// The server's stage times, from headers or trailers.
    pub fn stage_times(&self) -> Option<StageTimes> {
        let value = self.headers.get(SERVER_TIMING).or_else(|| self.trailers.get(SERVER_TIMING))?;
        StageTimes::parse(value.to_str().ok()?)
    }

    /// Length of the body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The body in one piece.
    pub fn body(&self) -> Bytes {
        match &self.chunks[..] {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1, keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge, or negotiated in the TLS handshake.
    Http2,
}

/// A request body of shared chunks.
pub(super) struct Chunks {
    chunks: Arc<[Bytes]>,
    next: usize,
    sent: Arc<OnceLock<Instant>>,
}

impl Body for Chunks {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let bytes = self.chunks.get(self.next).cloned();
        self.next += 1;
        let sent = (self.next == self.chunks.len()).then(|| Arc::clone(&self.sent));
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(Chunk { bytes, sent }))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunks.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum())
    }
}

/// A chunk that records when its last byte was taken: the connection advances it as the socket takes bytes.
pub(super) struct Chunk {
    bytes: Bytes,
    sent: Option<Arc<OnceLock<Instant>>>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(sent) = self.sent.as_ref().filter(|_| !self.bytes.has_remaining()) {
            let _ = sent.set(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_message_has_no_colon() {
        let status = |message: &str| CallError::Status { code: "404".into(), message: message.into() }.to_string();
        assert_eq!([status(""), status("no such page")], ["status 404", "status 404: no such page"]);
    }
}
