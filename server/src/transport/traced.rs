//! Responses to traced requests: the trace ends when the last byte has been sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use quintet_engine::InferError;

use crate::kserve::trace::Trace;

/// The response to a request. With a trace, `wrap` turns its body into one that ends the trace. `refuse` makes the
/// response of a failure.
pub(super) fn send<B>(
    outcome: Result<Response<B>, InferError>,
    trace: Option<Trace>,
    refuse: impl FnOnce(InferError) -> Response<B>,
    wrap: impl FnOnce(Traced<B>) -> B,
) -> Response<B> {
    let Some(mut trace) = trace else { return outcome.unwrap_or_else(refuse) };
    let response = outcome.unwrap_or_else(|error| {
        trace.failed(&error);
        refuse(error)
    });
    trace.sending();
    response.map(|body| wrap(Traced { body, _trace: trace }))
}

/// Ends the trace of a response whose sending cannot be observed.
pub(super) fn finish<T>(outcome: &Result<T, InferError>, trace: Option<Trace>) {
    let Some(mut trace) = trace else { return };
    if let Err(error) = outcome {
        trace.failed(error);
    }
    trace.sending();
}

/// A body that holds a trace. Both are dropped when the body has been sent.
pub(super) struct Traced<B> {
    body: B,
    _trace: Trace,
}

impl<B: Body + Unpin> Body for Traced<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
