//! HTTP responses that all routes share: errors by the status table, headers for stage times and placement.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use quintet_engine::{ErrorKind, InferError, Placement, StageTimings};
use quintet_proto::{EFFECTIVE_PROVIDER, PRECISION, PROVIDER_REASON, SERVER_TIMING, rest::ErrorBody};

use crate::{
    identity,
    kserve::message,
    status::{RETRY_AFTER_SECONDS, Status},
    transport::{access::Refusal, server_timing},
};

/// A failed request as an HTTP response: `{"error": "..."}`.
#[derive(Debug)]
pub struct Failure(pub InferError);

impl From<InferError> for Failure {
    fn from(error: InferError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = Status::from(self.0.kind());
        if self.0.kind() == ErrorKind::Internal {
            tracing::error!(error = %self.0, "request failed");
        }
        let mut response = error(status.http, &message::for_client(&self.0));
        if status.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(ErrorBody { error: message.to_owned() })).into_response()
}

/// The response to a request that may not be carried out.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let mut response = error(refusal.http(), &refusal.to_string());
    if let Some(challenge) = refusal.challenge() {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The error text for a path that does not exist.
pub const NOT_FOUND: &str = "Not Found";

/// The response to a path that does not exist.
pub async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, NOT_FOUND)
}

/// The response to a method that a path does not have.
pub async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Adds the stage times.
pub fn with_timing(mut response: Response, timings: &StageTimings) -> Response {
    insert(&mut response, SERVER_TIMING, &server_timing(timings));
    response
}

/// Adds the model's effective provider, its precision, and the reason for the provider.
pub fn with_placement(mut response: Response, placement: &Placement) -> Response {
    insert(&mut response, EFFECTIVE_PROVIDER, &placement.provider);
    if let Some(precision) = &placement.precision {
        insert(&mut response, PRECISION, precision);
    }
    if let Some(reason) = &placement.reason {
        insert(&mut response, PROVIDER_REASON, reason);
    }
    response
}

/// Adds the headers of a model's metadata: those of its placement, and what runs it.
pub fn with_origin(mut response: Response, placement: &Placement) -> Response {
    for (name, value) in identity::origin(placement) {
        insert(&mut response, name, &value);
    }
    with_placement(response, placement)
}

/// Adds a header. A value with characters that a header cannot hold is left out.
pub fn insert(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
