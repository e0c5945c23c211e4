//! Checks who may do what for the requests that hyper serves, before their bodies are read, and answers the pages of
//! allowed sites as browsers need it (CORS).

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Method, Request, StatusCode, header, request};
use tower::ServiceExt as _;

use super::{body, reply};
use crate::transport::access::Access;

/// The bytes of a refused request's body that are read and dropped, so that its connection can be used again. After more
/// the connection ends.
const MAX_DISCARDED_BYTES: usize = 64 << 10;

/// How long a browser may remember what a site may send.
const PREFLIGHT_SECONDS: &str = "600";

/// Routes behind a check.
#[derive(Clone)]
pub(super) struct Checked {
    router: Router,
    access: Access,
}

impl Checked {
    /// These routes, guarded.
    pub(super) fn new(router: Router, access: Access) -> Self {
        Self { router, access }
    }

    /// Answers a request, or refuses it.
    pub(super) async fn answer(self, request: Request<Body>) -> Response {
        let (head, body) = request.into_parts();
        let origin = self.access.origin(&head).cloned();
        let response = if origin.is_some() && is_preflight(&head) && self.access.check_site(&head).is_ok() {
            preflight(&head)
        } else if let Err(refusal) = self.access.check(&head) {
            // A client that expects "100 Continue" has not sent its body.
            if !head.headers.contains_key(header::EXPECT) {
                body::discard(body, MAX_DISCARDED_BYTES).await;
            }
            return reply::refused(&refusal);
        } else {
            self.router.oneshot(Request::from_parts(head, body)).await.unwrap_or_else(|never| match never {})
        };
        match origin {
            Some(origin) => readable(response, origin),
            None => response,
        }
    }
}

/// Whether a browser asks what a page may send (Fetch §3.2.2). It asks without a token.
fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(head: &request::Parts) -> Response {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    if let Some(wanted) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

/// Lets the page of this origin read a response, headers included.
fn readable(mut response: Response, origin: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}
