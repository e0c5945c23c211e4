//! Serves plain HTTP/1.1 requests without a library: a body is read from the socket into one aligned, pooled buffer, and
//! the parts of a response are written to the socket without a copy. Unusual requests (chunked, `Expect`,
//! `Connection: close`, malformed, refused) are left to hyper.

use std::{collections::VecDeque, io, sync::Arc, time::Instant};

use axum::{Router, body::Body, response::IntoResponse as _};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Request, Response};
use quintet_engine::{BufferPool, InferError, budget::Exhausted, buffer::Filling};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tower::ServiceExt as _;

use super::{
    body::{DISCARD_TIMEOUT, padding},
    head,
    reply::Failure,
    reserve,
};
use crate::{
    service::Service,
    transport::{
        access::Access,
        guard::{Guard, Phase, linger},
    },
};

/// The longest head of a plain request. A longer one is left to hyper.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Parts of a response that one system call writes.
const MAX_SLICES: usize = 16;

/// When a request's head was received; an extension of the request.
#[derive(Clone, Copy, Debug)]
struct Arrived(Instant);

/// When a request's head was received, which is the start of its receive stage. It is the current time for a request
/// that hyper read, whose body is still to come.
pub(in crate::transport) fn arrived(extensions: &http::Extensions) -> Instant {
    extensions.get().map_or_else(Instant::now, |Arrived(at)| *at)
}

/// What the connections of a listener share.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) router: Router,
    pub(super) access: Access,
    pub(super) pool: BufferPool,
    /// The longest body of a plain request. A longer one is left to hyper.
    pub(super) max_body_bytes: usize,
}

impl Settings {
    /// Bodies are received into the service's pool, up to its limit.
    pub(super) fn new(router: Router, access: Access, service: &Service) -> Self {
        let (pool, limits) = (service.catalog().pool().clone(), service.catalog().limits());
        Self { router, access, pool, max_body_bytes: limits.max_input.bytes }
    }
}

/// A connection whose requests have all been plain so far.
pub(super) struct Plain<S> {
    stream: S,
    guard: Arc<Guard>,
    /// Bytes that were read and do not belong to an answered request.
    read: BytesMut,
    settings: Settings,
}

/// A body that is not received, and how many of its bytes were not read.
struct Refused {
    error: InferError,
    left: usize,
}

/// The next event on a connection.
enum Next {
    /// The head of a plain request, and the length of its body.
    Request(Box<http::request::Parts>, usize),
    Unusual,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Plain<S> {
    pub(super) fn new(stream: S, guard: Arc<Guard>, settings: Settings) -> Self {
        Self { stream, guard, read: BytesMut::new(), settings }
    }

    /// Answers requests until the connection ends, or until a request is unusual: then it returns the stream and the bytes
    /// that were read of that request.
    ///
    /// # Errors
    /// When the connection or the body of a response breaks.
    pub(super) async fn serve(mut self) -> io::Result<Option<(S, Bytes)>> {
        loop {
            let (mut parts, length) = match self.next().await? {
                Next::Request(parts, length) => (parts, length),
                Next::Unusual => return Ok(Some((self.stream, self.read.freeze()))),
                Next::End => return Ok(None),
            };
            if let Some(refusal) = reserve::refusal(&self.guard, &parts) {
                self.answer(refusal, false).await?;
                linger(self.stream, &[]).await;
                return Ok(None);
            }
            parts.extensions.insert(Arrived(Instant::now()));
            let body = match self.receive(length, head::aligned_at(&parts.headers)).await? {
                Ok(body) => body,
                Err(Refused { error, left }) => {
                    let is_next = self.discard(left).await?;
                    self.guard.enter(Phase::Answer);
                    if self.answer(Failure(error).into_response(), is_next).await? {
                        self.rest();
                        continue;
                    }
                    return self.stream.shutdown().await.map(|()| None);
                }
            };
            let answering = self.settings.router.clone().oneshot(Request::from_parts(*parts, Body::from(body)));
            let response = tokio::select! {
                biased;
                response = answering => response.unwrap_or_else(|never| match never {}),
                () = closed_by_client(&mut self.stream, &mut self.read) => return Ok(None),
            };
            if !self.answer(response, true).await? {
                return self.stream.shutdown().await.map(|()| None);
            }
            self.rest();
        }
    }

    /// The connection waits for the next request.
    fn rest(&self) {
        self.guard.enter(if self.read.is_empty() { Phase::Idle } else { Phase::Head });
    }

    /// Reads the next head. An idle connection ends when it is told to.
    async fn next(&mut self) -> io::Result<Next> {
        loop {
            match head::parse(&self.read) {
                head::Parsed::Plain { parts, length, end }
                    if length <= self.settings.max_body_bytes && self.is_permitted(&parts) =>
                {
                    self.read.advance(end);
                    return Ok(Next::Request(parts, length));
                }
                head::Parsed::Partial if self.read.len() < MAX_HEAD_BYTES => {}
                _ => return Ok(Next::Unusual),
            }
            self.read.reserve(MAX_HEAD_BYTES);
            let idle = self.read.is_empty();
            tokio::select! {
                biased;
                got = self.stream.read_buf(&mut self.read) => if got? == 0 { return Ok(Next::End) },
                () = self.guard.leave().cancelled(), if idle => return Ok(Next::End),
            }
        }
    }

    /// Whether a request may be answered here. Those that are refused, and those of a browser's page, are left to
    /// hyper before their body is read.
    fn is_permitted(&self, head: &http::request::Parts) -> bool {
        let access = &self.settings.access;
        access.check(head).is_ok() && access.origin(head).is_none()
    }

    /// Reads a body of `length` bytes so that its byte `aligned_at` is aligned.
    async fn receive(&mut self, length: usize, aligned_at: usize) -> io::Result<Result<Bytes, Refused>> {
        if length == 0 {
            self.guard.enter(Phase::Answer);
            return Ok(Ok(Bytes::new()));
        }
        self.guard.enter(Phase::Body);
        // There is no memory for a body before its first bytes are there.
        if self.read.is_empty() {
            self.read.reserve(MAX_HEAD_BYTES);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut body = match Filling::start(&self.settings.pool, padding(length, aligned_at), length) {
            Ok(body) => body,
            Err(error) => return Ok(Err(Refused { error: error.into(), left: length })),
        };
        while !body.is_complete() {
            if let Err(error) = self.grow(&mut body).await {
                return Ok(Err(Refused { error: error.into(), left: length - body.received() }));
            }
            if self.read.is_empty() {
                match self.stream.read(body.spare()).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    received => body.advance(received),
                }
            } else {
                let copied = body.copy(&self.read);
                self.read.advance(copied);
            }
        }
        self.guard.enter(Phase::Answer);
        Ok(Ok(body.finish()))
    }

    /// Makes room for the next bytes of a body. The client does not have to send anything while memory is waited for.
    async fn grow(&self, body: &mut Filling) -> Result<(), Exhausted> {
        if !body.spare().is_empty() {
            return Ok(());
        }
        self.guard.wait_for_body(false);
        let grown = body.grow().await;
        self.guard.wait_for_body(true);
        grown
    }

    /// Reads and discards the next `left` bytes of a body, because a client reads the response after it has sent its
    /// request. Returns whether that succeeded in time.
    ///
    /// # Errors
    /// When the connection breaks.
    async fn discard(&mut self, mut left: usize) -> io::Result<bool> {
        let reading = async {
            loop {
                let known = self.read.len().min(left);
                self.read.advance(known);
                left -= known;
                if left == 0 {
                    return Ok(true);
                }
                self.read.reserve(MAX_HEAD_BYTES);
                if self.stream.read_buf(&mut self.read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        tokio::time::timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(Ok(false))
    }

    /// Sends a response. Returns whether the connection stays open: if it may, and the server does not stop.
    async fn answer(&mut self, response: Response<Body>, may_stay: bool) -> io::Result<bool> {
        let keep_alive = may_stay && !self.guard.leave().is_cancelled() && !self.guard.is_reserve();
        let (parts, mut body) = response.into_parts();
        let length = http_body::Body::size_hint(&body).exact();
        let mut queue = VecDeque::from([head::print(&parts, length, keep_alive)]);
        loop {
            let frame = match http_body_util::BodyExt::frame(&mut body).now_or_never() {
                Some(frame) => frame,
                // The body is not ready: send the parts so far.
                None => {
                    self.send(&mut queue).await?;
                    tokio::select! {
                        biased;
                        frame = http_body_util::BodyExt::frame(&mut body) => frame,
                        () = closed_by_client(&mut self.stream, &mut self.read) => {
                            return Err(io::ErrorKind::BrokenPipe.into());
                        }
                    }
                }
            };
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            match length {
                Some(_) => queue.push_back(data),
                // A chunk without data would end the body.
                None if data.is_empty() => {}
                None => queue.extend([format!("{:x}\r\n", data.len()).into(), data, Bytes::from_static(b"\r\n")]),
            }
            if queue.len() >= MAX_SLICES {
                self.send(&mut queue).await?;
            }
        }
        if length.is_none() {
            queue.push_back(Bytes::from_static(b"0\r\n\r\n"));
        }
        self.send(&mut queue).await?;
        Ok(keep_alive)
    }

    /// Writes all parts to the socket, up to [`MAX_SLICES`] in one system call.
    async fn send(&mut self, queue: &mut VecDeque<Bytes>) -> io::Result<()> {
        while !queue.is_empty() {
            let mut slices = [io::IoSlice::new(&[]); MAX_SLICES];
            let used = queue.len().min(MAX_SLICES);
            for (slice, part) in slices.iter_mut().zip(queue.iter()) {
                *slice = io::IoSlice::new(part);
            }
            let mut sent = self.stream.write_vectored(&slices[..used]).await?;
            if sent == 0 && queue.iter().any(|part| !part.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while let Some(part) = queue.front_mut() {
                if sent < part.len() {
                    part.advance(sent);
                    break;
                }
                sent -= part.len();
                queue.pop_front();
            }
        }
        // TLS may hold bytes back that the socket did not take.
        self.stream.flush().await
    }
}

/// Completes when the client has closed or broken the connection. Keeps what the client sends meanwhile, up to a limit.
async fn closed_by_client(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) {
    while read.len() < MAX_HEAD_BYTES {
        read.reserve(MAX_HEAD_BYTES);
        if !matches!(stream.read_buf(read).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
