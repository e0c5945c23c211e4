//! A response: the future that produces it, and its body, which is sent as the client's windows allow.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::{
    handler::ResponseFuture,
    signal::{StreamSignal, StreamWaker},
};
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
    /// Wakes the connection for this body, once it was not ready.
    waker: Option<Arc<StreamWaker>>,
    /// Whether it is among those that are polled next.
    pub(super) is_queued: bool,
}

/// The result of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of the response is queued; the stream is closed.
    Complete,
    /// The rest waits for the body, or for the window of the stream.
    Pending,
    /// The rest waits for the connection's window or for the socket.
    Blocked,
    /// The body ended with an error.
    Failed,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> ResponseSender<B> {
    pub(super) fn new(body: B) -> Self {
        let waiting = SendBuffer::default();
        Self { body, waiting, trailers: None, is_complete: false, waker: None, is_queued: false }
    }

    /// Queues what the body has and the connection takes. `ready` gets the stream when the body has more.
    pub(super) fn poll(
        &mut self,
        stream: StreamId,
        connection: &mut Connection,
        ready: &Arc<StreamSignal>,
        cx: &mut Context<'_>,
    ) -> Sent {
        loop {
            if self.fill(stream, ready, cx).is_err() {
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
                DataSent::StreamBlocked => return Sent::Pending,
                DataSent::Blocked => return Sent::Blocked,
                DataSent::Last | DataSent::Closed => return Sent::Complete,
            }
        }
    }

    /// Takes what the body has, up to [`MAX_WAITING_BYTES`]. Most bodies are ready at once, and need no waker.
    fn fill(&mut self, stream: StreamId, ready: &Arc<StreamSignal>, cx: &mut Context<'_>) -> Result<(), B::Error> {
        if self.waker.is_none() && self.take(cx)?.is_pending() {
            self.waker = Some(StreamWaker::new(stream, Arc::clone(ready)));
        }
        if let Some(waker) = &self.waker {
            waker.reset();
            let waker = Waker::from(Arc::clone(waker));
            let _ = self.take(&mut Context::from_waker(&waker))?;
        }
        Ok(())
    }

    fn take(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, B::Error> {
        while !self.is_complete && self.waiting.len() < MAX_WAITING_BYTES {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
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
        Ok(Poll::Ready(()))
    }
}
