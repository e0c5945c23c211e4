//! What a server without room for more connections still answers, and how it refuses the rest.

use axum::response::{IntoResponse as _, Response};
use http::{Method, request};
use quintet_engine::{ErrorKind, InferError};

use super::reply::Failure;
use crate::transport::guard::{Guard, NO_ROOM};

/// The paths that a connection in reserve may ask for.
const PROBES: [&str; 5] = ["/v2/health/live", "/v2/health/ready", "/health", "/healthz", "/metrics"];

/// What a connection gets that is not even in reserve.
pub(super) const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 61\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\r\n\
    {\"error\":\"too many connections are open (--max-connections)\"}";

/// The response to a request on a connection in reserve, unless it is a probe.
pub(super) fn refusal(guard: &Guard, request: &request::Parts) -> Option<Response> {
    let is_probe = request.method == Method::GET && PROBES.contains(&request.uri.path());
    (guard.is_reserve() && !is_probe).then(|| Failure(InferError::new(ErrorKind::Unavailable, NO_ROOM)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_a_complete_response() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{} {head}", body.len());
        assert!(body.contains(NO_ROOM), "{body}");
    }
}
