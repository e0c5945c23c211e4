//! Inference over HTTP: JSON, JSON with binary tensors after it, and raw tensors, to models that answer with their input.

use std::sync::OnceLock;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use quintet_proto::{INFERENCE_HEADER_CONTENT_LENGTH, rest};
use quintet_server::transport::kserve_http;
use tower::ServiceExt as _;

use crate::{
    input::Input,
    models::{self, ECHOES, runtime},
};

fn router() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| kserve_http::router(models::echoes().clone())).clone()
}

/// The input: the model, flags, the length of the JSON, and the body.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut names = ECHOES.map(|(name, _)| name).to_vec();
    names.extend(["pair", "vast"]);
    let name = names[usize::from(input.byte()) % names.len()];
    let (flags, json_length) = (input.byte(), input.short());
    let mut request = Request::post(format!("/v2/models/{name}/infer"));
    if flags & 1 != 0 {
        request = request.header(INFERENCE_HEADER_CONTENT_LENGTH, json_length);
    }
    if flags & 2 != 0 {
        request = request.header("content-encoding", ["gzip", "deflate", "zstd"][usize::from(flags >> 2) % 3]);
    }
    let Ok(request) = request.body(Body::from(input.0.to_vec())) else { return };
    let (head, body) = runtime().block_on(async {
        let response = router().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (head, body) = response.into_parts();
        (head, body.collect().await.map(http_body_util::Collected::to_bytes))
    });
    let Ok(body) = body else { unreachable!("a response that breaks") };
    let length = head.headers.get(INFERENCE_HEADER_CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let json = &body[..length.unwrap_or(body.len())];
    match head.status {
        StatusCode::OK => {
            let answer: Result<rest::InferResponse<'_>, _> = serde_json::from_slice(json);
            assert_eq!(answer.map(|answer| answer.outputs.len()).unwrap_or(0), 1, "not the model's output");
        }
        // As Triton: a negative size is an internal error.
        StatusCode::INTERNAL_SERVER_ERROR => {
            assert!(json.windows(16).any(|part| part == b"binary_data_size"), "{}", json.escape_ascii());
        }
        status => {
            // Shared memory is off.
            let is_expected = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
            assert!(is_expected, "{status}: {}", json.escape_ascii());
            let error: Result<rest::ErrorBody, _> = serde_json::from_slice(json);
            assert!(error.is_ok(), "{}", json.escape_ascii());
        }
    }
}
