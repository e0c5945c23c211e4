//! Answers: failures by the status table, messages whose tensors are chunks of their own, metadata.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame};
use quintet_engine::{ErrorKind, InferError, Placement};
use quintet_proto::{EFFECTIVE_PROVIDER, PRECISION, PROVIDER_REASON};
use tonic::metadata::MetadataMap;

use crate::{catalog::InputLimit, kserve::message, status};

/// What a `grpc-message` may hold at most: clients bound their header lists, and messages quote requests.
const MAX_MESSAGE_BYTES: usize = 2048;

/// A failure as its gRPC status.
pub(super) fn status(error: &InferError) -> tonic::Status {
    if error.kind() == ErrorKind::Internal {
        tracing::error!(%error, "request failed");
    }
    let message = message::of(error);
    let end = (0..=message.len().min(MAX_MESSAGE_BYTES)).rev().find(|&end| message.is_char_boundary(end));
    tonic::Status::new(status::Status::from(error.kind()).grpc, &message[..end.unwrap_or(0)])
}

/// A failure as an answer without a message: its status stands in the headers.
pub(super) fn failure(error: &InferError) -> Response<tonic::body::Body> {
    status(error).into_http()
}

/// What tonic says of a message over the limit; nothing else in this server has that code.
const TONIC_TOO_LARGE: tonic::Code = tonic::Code::OutOfRange;

/// The end of a stream, a message over the limit in our words.
pub(super) fn worded(status: tonic::Status, max: InputLimit) -> tonic::Status {
    if status.code() == TONIC_TOO_LARGE { self::status(&too_large(max)) } else { status }
}

/// An answer of tonic's, a message over the limit in our words.
pub(super) fn refused(response: Response<tonic::body::Body>, max: InputLimit) -> Response<tonic::body::Body> {
    let code = response.headers().get(tonic::Status::GRPC_STATUS).map(|code| tonic::Code::from_bytes(code.as_bytes()));
    if code == Some(TONIC_TOO_LARGE) { failure(&too_large(max)) } else { response }
}

fn too_large(max: InputLimit) -> InferError {
    InferError::new(ErrorKind::TooLarge, format_args!("the message exceeds the limit of {max}"))
}

/// A message in these parts, with trailers. Nothing is joined or copied.
pub(super) fn message(
    parts: impl IntoIterator<Item = Bytes>,
    headers: HeaderMap,
    trailers: HeaderMap,
) -> Response<tonic::body::Body> {
    let parts = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let mut response = Response::new(tonic::body::Body::new(Parts { parts, trailers: Some(trailers) }));
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
    response
}

/// Adds where the model really runs.
pub(super) fn add_placement(headers: &mut HeaderMap, placement: &Placement) {
    insert(headers, EFFECTIVE_PROVIDER, &placement.provider);
    if let Some(precision) = &placement.precision {
        insert(headers, PRECISION, precision);
    }
    if let Some(reason) = &placement.reason {
        insert(headers, PROVIDER_REASON, reason);
    }
}

/// A message of tonic's about a model, with where the model really runs.
pub(super) fn about<T>(message: T, placement: &Placement) -> tonic::Response<T> {
    let mut headers = HeaderMap::new();
    add_placement(&mut headers, placement);
    tonic::Response::from_parts(MetadataMap::from_headers(headers), message, http::Extensions::new())
}

/// Adds metadata; what metadata cannot hold (a control character in a reason) leaves it out.
pub(super) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A body of several parts and trailers.
struct Parts {
    parts: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front().map(Frame::data);
        let frame = part.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_quote_are_cut_between_characters() {
        let error = InferError::invalid("é".repeat(5000));
        let status = status(&error);
        assert_eq!((status.code(), status.message().len()), (tonic::Code::InvalidArgument, MAX_MESSAGE_BYTES));
        let response = failure(&InferError::invalid("a\nb"));
        assert_eq!(response.headers()["grpc-message"], "a%0Ab");
    }
}
