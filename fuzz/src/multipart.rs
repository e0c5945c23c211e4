//! Bodies with images: multipart files, JSON with base64, and raw images.

use std::sync::OnceLock;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use quintet_server::transport::images;
use tower::ServiceExt as _;

use crate::{
    input::Input,
    models::{self, runtime},
};

fn router() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| images::router(models::images().clone(), "zeros")).clone()
}

/// The input: the content type, and the body.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.byte();
    let mut request = Request::post(if kind & 8 == 0 { "/embed" } else { "/classify?k=2" });
    request = match kind & 7 {
        0 => request.header("content-type", "application/json"),
        1 => request.header("content-type", "image/png"),
        // A boundary of the client's choice.
        2 => {
            let length = input.byte();
            let boundary = [b"multipart/form-data; boundary=", input.take(length.into())].concat();
            request.header("content-type", boundary)
        }
        _ => request.header("content-type", "multipart/form-data; boundary=X"),
    };
    let Ok(request) = request.body(Body::from(input.0.to_vec())) else { return };
    let (status, body) = runtime().block_on(async {
        let response = router().oneshot(request).await.unwrap_or_else(|never| match never {});
        (response.status(), response.into_body().collect().await.map(http_body_util::Collected::to_bytes))
    });
    let Ok(body) = body else { unreachable!("a response that breaks") };
    assert!(status == StatusCode::OK || status.is_client_error(), "{status}: {}", body.escape_ascii());
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "not JSON: {}", body.escape_ascii());
}
