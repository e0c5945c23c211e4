//! HTTP/1.1 as nearly every client sends it, without a library in between: a body goes from the socket
//! straight into one aligned, reused buffer, and an answer from its parts straight to the socket.
//! Whatever is unusual (chunked, `Expect`, `Connection: close`, wrong) is left to hyper, unread.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Request, Response};
use quintet_engine::BufferPool;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{body::padding, head};

/// How long a client may take to send a request's head, and an idle connection to stay open.
pub(super) const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Longest head that is read here; longer ones are hyper's to judge.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Parts of an answer that one system call takes.
const MAX_SLICES: usize = 16;

/// When a request's head was there, as one of its extensions.
#[derive(Clone, Copy, Debug)]
struct Arrived(Instant);

/// When a request's head was there: from then on a handler counts its time. Now, where hyper read it: its body is
/// still to come.
pub(in crate::transport) fn arrived(extensions: &http::Extensions) -> Instant {
    extensions.get().map_or_else(Instant::now, |Arrived(at)| *at)
}

/// What requests are answered with.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) router: Router,
    pub(super) pool: BufferPool,
    /// Longer bodies are hyper's to refuse.
    pub(super) max_body_bytes: usize,
    pub(super) stop: CancellationToken,
}

/// A connection that spoke plain HTTP/1.1 so far.
pub(super) struct Plain<S> {
    stream: S,
    /// What was read beyond the requests answered.
    read: BytesMut,
    settings: Settings,
}

/// What comes next on a connection.
enum Next {
    Request(Box<http::request::Parts>, usize),
    Unusual,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Plain<S> {
    pub(super) fn new(stream: S, settings: Settings) -> Self {
        Self { stream, read: BytesMut::new(), settings }
    }

    /// Answers requests until the connection ends, or until one is unusual: then the stream comes back with
    /// what was read of that request and not used.
    ///
    /// # Errors
    /// When the connection breaks, or an answer's body does.
    pub(super) async fn serve(mut self) -> io::Result<Option<(S, Bytes)>> {
        loop {
            let (mut parts, length) = match self.next().await? {
                Next::Request(parts, length) => (parts, length),
                Next::Unusual => return Ok(Some((self.stream, self.read.freeze()))),
                Next::End => return Ok(None),
            };
            parts.extensions.insert(Arrived(Instant::now()));
            let body = self.receive(length, head::aligned_at(&parts.headers)).await?;
            let answering = self.settings.router.clone().oneshot(Request::from_parts(*parts, Body::from(body)));
            let response = tokio::select! {
                biased;
                response = answering => response.unwrap_or_else(|never| match never {}),
                () = gone(&mut self.stream, &mut self.read) => return Ok(None),
            };
            if !self.answer(response).await? {
                return self.stream.shutdown().await.map(|()| None);
            }
        }
    }

    /// Reads a head; an idle connection ends when the server does.
    async fn next(&mut self) -> io::Result<Next> {
        let timeout = tokio::time::sleep(HEADER_READ_TIMEOUT);
        tokio::pin!(timeout);
        loop {
            match head::parse(&self.read) {
                head::Parsed::Plain { parts, length, end } if length <= self.settings.max_body_bytes => {
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
                () = self.settings.stop.cancelled(), if idle => return Ok(Next::End),
                () = &mut timeout => return Ok(Next::End),
            }
        }
    }

    /// Reads a body of `length` bytes so that its byte `aligned_at` is aligned.
    async fn receive(&mut self, length: usize, aligned_at: usize) -> io::Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let padding = padding(length, aligned_at);
        let mut buffer = self.settings.pool.take(padding + length);
        let (_, mut rest) = buffer.split_at_mut(padding);
        let early = self.read.len().min(length);
        self.read.copy_to_slice(&mut rest[..early]);
        rest = &mut rest[early..];
        self.stream.read_exact(rest).await?;
        Ok(buffer.freeze().slice(padding..))
    }

    /// Sends an answer; whether the connection stays.
    async fn answer(&mut self, response: Response<Body>) -> io::Result<bool> {
        let stays = !self.settings.stop.is_cancelled();
        let (parts, mut body) = response.into_parts();
        let length = http_body::Body::size_hint(&body).exact();
        let mut queue = VecDeque::from([head::print(&parts, length, stays)]);
        loop {
            let frame = match http_body_util::BodyExt::frame(&mut body).now_or_never() {
                Some(frame) => frame,
                // It takes time: send what there is.
                None => {
                    self.send(&mut queue).await?;
                    tokio::select! {
                        biased;
                        frame = http_body_util::BodyExt::frame(&mut body) => frame,
                        () = gone(&mut self.stream, &mut self.read) => return Err(io::ErrorKind::BrokenPipe.into()),
                    }
                }
            };
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            match length {
                Some(_) => queue.push_back(data),
                // A chunk without data would be the last one.
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
        Ok(stays)
    }

    /// Hands all parts to the system, many in one call.
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
        Ok(())
    }
}

/// Ends when the client has closed the connection or broken it. What it sends meanwhile is kept, up to a limit.
async fn gone(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) {
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
