//! Charges what tonic receives to the budget: the body of a call until it is answered, a message of a stream until it is
//! decoded.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use quintet_engine::{Budget, InferError, budget::Charge};
use tonic::Status;

use super::reply;

/// The charge of the bytes that were received; an extension of the request.
#[derive(Clone)]
pub(super) struct Received(Arc<Mutex<Charge>>);

impl Received {
    pub(super) fn new(budget: &Budget) -> Self {
        Self(Arc::new(Mutex::new(budget.charge())))
    }

    /// Releases the bytes so far: they are decoded.
    pub(super) fn release(&self) {
        self.0.lock().release();
    }
}

/// A body whose bytes are charged. It ends with an error if there is too little memory.
pub(super) struct ChargedBody<B> {
    body: B,
    received: Received,
}

impl<B> ChargedBody<B> {
    pub(super) fn new(body: B, received: Received) -> Self {
        Self { body, received }
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for ChargedBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(full) = self.received.0.lock().try_grow(data.len())
        {
            return Poll::Ready(Some(Err(reply::status(&InferError::from(full)))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
