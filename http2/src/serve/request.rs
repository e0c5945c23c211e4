//! A request that is received or answered.

use futures_util::future::AbortHandle;

use super::{handler::Intake, request_body::BodySender, response::ResponseSender};

/// A request whose stream is not closed.
pub(super) struct Request<B> {
    pub(super) sink: Sink<B>,
    /// Aborts the [`ResponseFuture`](super::handler::ResponseFuture).
    pub(super) response: Option<AbortHandle>,
    /// The response's body, after the head was sent.
    pub(super) sender: Option<ResponseSender<B>>,
}

/// Where a request's body goes.
pub(super) enum Sink<B> {
    Buffered(Box<dyn Intake<B>>),
    /// Kept after the body is complete, until all of it is read.
    Streaming(BodySender),
    /// The body is complete, or discarded.
    Discard,
}

impl<B> Request<B> {
    pub(super) fn new(sink: Sink<B>) -> Self {
        Self { sink, response: None, sender: None }
    }
}

impl<B> Drop for Request<B> {
    fn drop(&mut self) {
        if let Some(response) = &self.response {
            response.abort();
        }
    }
}
