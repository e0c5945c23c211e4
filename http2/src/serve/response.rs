//! A response: the future that produces it, and its body, which is sent as the client's windows allow.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::handler::ResponseFuture;
use crate::{
    connection::{Connection, DataSent, SendBuffer},
    frame::StreamId,
};

/// Bytes that are taken from a response's body before they are sent.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// The response of a stream.
pub(super) struct StreamResponse<B> {
    pub(super) stream: StreamId,
    pub(super) response: ResponseFuture<B>,
}

impl<B> Future for StreamResponse<B> {
    type Output = (StreamId, Response<B>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.as_mut().poll(cx));
        Poll::Ready((self.stream, response))
    }
}

/// A response's body, whose head was sent.
pub(super) struct ResponseSender<B> {
    body: B,
    waiting: SendBuffer,
    trailers: Option<HeaderMap>,
    is_complete: bool,
}

/// The result of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of the response is queued; the stream is closed.
    Complete,
    /// The rest waits for the body, for the client's windows or for the socket.
    Pending,
    /// The body ended with an error.
    Failed,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> ResponseSender<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, waiting: SendBuffer::default(), trailers: None, is_complete: false }
    }

    /// Queues what the body has and the connection takes.
    pub(super) fn poll(&mut self, stream: StreamId, connection: &mut Connection, cx: &mut Context<'_>) -> Sent {
        loop {
            if self.fill(cx).is_err() {
                return Sent::Failed;
            }
            if self.waiting.is_empty() {
                if !self.is_complete {
                    return Sent::Pending;
                }
                if let Some(trailers) = &self.trailers {
                    connection.send_trailers(stream, trailers);
                    return Sent::Complete;
                }
            }
            let is_last = self.is_complete && self.trailers.is_none();
            match connection.send_data(stream, &mut self.waiting, is_last) {
                DataSent::Frame => {}
                DataSent::Blocked => return Sent::Pending,
                DataSent::Last | DataSent::Closed => return Sent::Complete,
            }
        }
    }

    /// Takes what the body has, up to [`MAX_WAITING_BYTES`].
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), B::Error> {
        while !self.is_complete && self.waiting.len() < MAX_WAITING_BYTES {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.is_complete = true,
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) => self.waiting.push(data),
                    // Trailers are the last frame of a body.
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.is_complete = true;
                    }
                },
            }
        }
        Ok(())
    }
}
