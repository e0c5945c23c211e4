//! The requests that are received or answered.

use std::collections::HashMap;

use futures_util::future::AbortHandle;

use super::{
    handler::{Activity, Intake},
    request_body::BodySender,
    response::ResponseSender,
};
use crate::frame::StreamId;

/// A request whose stream is not closed.
pub(super) struct Request<B> {
    pub(super) sink: Sink<B>,
    /// Whether more of the request must come before it is answered.
    is_receiving: bool,
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

impl<B> Drop for Request<B> {
    fn drop(&mut self) {
        if let Some(response) = &self.response {
            response.abort();
        }
    }
}

/// The requests of a connection.
pub(super) struct Requests<B> {
    requests: HashMap<StreamId, Request<B>>,
    /// How many are being received.
    receiving: usize,
}

impl<B> Requests<B> {
    pub(super) fn new() -> Self {
        Self { requests: HashMap::new(), receiving: 0 }
    }

    /// Adds a request whose body goes to `sink`.
    pub(super) fn insert(&mut self, stream: StreamId, sink: Sink<B>) {
        self.receiving += 1;
        self.requests.insert(stream, Request { sink, is_receiving: true, response: None, sender: None });
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn get_mut(&mut self, stream: StreamId) -> Option<&mut Request<B>> {
        self.requests.get_mut(&stream)
    }

    /// The request is complete, or its response begins.
    pub(super) fn received(&mut self, stream: StreamId) -> Option<&mut Request<B>> {
        let request = self.requests.get_mut(&stream)?;
        if std::mem::take(&mut request.is_receiving) {
            self.receiving -= 1;
        }
        Some(request)
    }

    pub(super) fn remove(&mut self, stream: StreamId) {
        self.received(stream);
        self.requests.remove(&stream);
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.receiving = 0;
    }

    /// What the connection does; `has_output` is whether anything waits to be written.
    pub(super) fn activity(&self, has_output: bool) -> Activity {
        match (self.receiving, self.requests.is_empty() && !has_output) {
            (0, true) => Activity::Idle,
            (0, false) => Activity::Answering,
            _ => Activity::Receiving,
        }
    }
}
