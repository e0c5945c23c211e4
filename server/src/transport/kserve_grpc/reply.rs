//! gRPC responses: failures by the status table, messages whose tensors are sent as separate chunks, metadata.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame};
use quintet_engine::{ErrorKind, InferError, Placement, budget::Charge};
use quintet_proto::{EFFECTIVE_PROVIDER, ENCODED_IMAGES, PRECISION, PROVIDER_REASON};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{catalog::InputLimit, identity, kserve::message, status, transport::access::Refusal};

/// The longest `grpc-message`. Clients limit the size of headers, and error texts quote requests.
const MAX_MESSAGE_BYTES: usize = 2048;

/// A failure as its gRPC status.
pub(super) fn status(error: &InferError) -> tonic::Status {
    if error.kind() == ErrorKind::Internal {
        tracing::error!(%error, "request failed");
    }
    let message = message::for_client(error);
    let end = (0..=message.len().min(MAX_MESSAGE_BYTES)).rev().find(|&end| message.is_char_boundary(end));
    tonic::Status::new(status::Status::from(error.kind()).grpc, &message[..end.unwrap_or(0)])
}

/// A failure as a response without a message, with its status in the headers (Trailers-Only).
pub(super) fn failure(error: &InferError) -> Response<tonic::body::Body> {
    status(error).into_http()
}

/// The response to a request that may not be carried out.
pub(super) fn refused(refusal: &Refusal) -> Response<tonic::body::Body> {
    tonic::Status::new(refusal.grpc(), refusal.to_string()).into_http()
}

/// Tonic's code for a message over the limit. Nothing else in this server has that code.
const TONIC_TOO_LARGE: tonic::Code = tonic::Code::OutOfRange;

/// The status that ends a stream, with the server's own status for a message over the limit.
pub(super) fn stream_status(status: tonic::Status, max: InputLimit) -> tonic::Status {
    if status.code() == TONIC_TOO_LARGE { self::status(&too_large(max)) } else { status }
}

/// Tonic's response, with the server's own status for a message over the limit.
pub(super) fn tonic_response(response: Response<tonic::body::Body>, max: InputLimit) -> Response<tonic::body::Body> {
    let code = response.headers().get(tonic::Status::GRPC_STATUS).map(|code| tonic::Code::from_bytes(code.as_bytes()));
    if code == Some(TONIC_TOO_LARGE) { failure(&too_large(max)) } else { response }
}

fn too_large(max: InputLimit) -> InferError {
    InferError::new(ErrorKind::TooLarge, format_args!("the message exceeds the limit of {max}"))
}

/// A response whose message consists of these parts, which are neither joined nor copied, and trailers. It is charged
/// until it is sent.
pub(super) fn message(
    parts: impl IntoIterator<Item = Bytes>,
    headers: HeaderMap,
    trailers: HeaderMap,
    mut charge: Charge,
) -> Response<tonic::body::Body> {
    let parts: VecDeque<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    charge.force(parts.iter().map(Bytes::len).sum());
    let mut response =
        Response::new(tonic::body::Body::new(Parts { parts, trailers: Some(trailers), _charge: charge }));
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
    response
}

/// Adds the model's effective provider, its precision, and the reason for the provider.
pub(super) fn add_placement(headers: &mut HeaderMap, placement: &Placement) {
    insert(headers, EFFECTIVE_PROVIDER, &placement.provider);
    if let Some(precision) = &placement.precision {
        insert(headers, PRECISION, precision);
    }
    if let Some(reason) = &placement.reason {
        insert(headers, PROVIDER_REASON, reason);
    }
}

/// A response of tonic's with the model's placement as metadata.
pub(super) fn with_placement<T>(message: T, placement: &Placement) -> tonic::Response<T> {
    let mut headers = HeaderMap::new();
    add_placement(&mut headers, placement);
    tonic::Response::from_parts(MetadataMap::from_headers(headers), message, http::Extensions::new())
}

/// The same with what runs the model, for its metadata.
pub(super) fn with_origin<T>(message: T, placement: &Placement) -> tonic::Response<T> {
    let mut headers = HeaderMap::new();
    add_placement(&mut headers, placement);
    for (name, value) in identity::origin(placement) {
        insert(&mut headers, name, &value);
    }
    tonic::Response::from_parts(MetadataMap::from_headers(headers), message, http::Extensions::new())
}

/// Adds the form in which the model takes encoded images, if it does.
pub(super) fn with_images<T>(mut response: tonic::Response<T>, images: Option<&str>) -> tonic::Response<T> {
    if let Some(value) = images.and_then(|images| images.parse().ok()) {
        response.metadata_mut().insert(ENCODED_IMAGES, value);
    }
    response
}

/// Adds metadata. A value with characters that metadata cannot hold is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A text as the value of metadata, which holds only visible ASCII: other characters are escaped.
pub(super) fn metadata_value(text: &str) -> Option<MetadataValue<Ascii>> {
    let escaped = text.chars().flat_map(|it| -> Box<dyn Iterator<Item = char>> {
        if it.is_ascii_graphic() || it == ' ' { Box::new(std::iter::once(it)) } else { Box::new(it.escape_default()) }
    });
    escaped.take(MAX_MESSAGE_BYTES).collect::<String>().parse().ok()
}

/// A body of several parts and trailers.
struct Parts {
    parts: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    _charge: Charge,
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
    fn any_text_can_be_metadata() {
        let value = metadata_value("model 'd\u{e9}' failed:\n\"no file\"").unwrap();
        assert_eq!(value.to_str().unwrap(), "model 'd\\u{e9}' failed:\\n\"no file\"");
        assert_eq!(metadata_value(&"x".repeat(9999)).unwrap().len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = InferError::invalid("é".repeat(5000));
        let status = status(&error);
        assert_eq!((status.code(), status.message().len()), (tonic::Code::InvalidArgument, MAX_MESSAGE_BYTES));
        let response = failure(&InferError::invalid("a\nb"));
        assert_eq!(response.headers()["grpc-message"], "a%0Ab");
    }
}
