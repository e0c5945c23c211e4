//! Reads the JSON bodies of all requests but inference.

use axum::extract::Request;
use quintet_engine::InferError;
use serde::de::DeserializeOwned;

use crate::{
    service::Service,
    transport::{
        http1::{body, reply::Failure},
        work,
    },
};

/// Reads a body. An empty body stands for `{}`.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(
    service: &Service,
    request: Request,
) -> Result<T, Failure> {
    let (head, sent) = request.into_parts();
    let body =
        body::receive(&head.headers, sent, 0, service.catalog().limits().max_input, service.catalog().pool()).await?;
    let body_length = body.len();
    let parse = move || {
        let json = if body.is_empty() { &b"{}"[..] } else { &body };
        serde_json::from_slice(json)
            .map_err(|error| InferError::invalid(format_args!("failed to parse the request JSON buffer: {error}")))
    };
    if body_length > work::LARGE_BYTES { Ok(work::run(move |_| parse()).await?) } else { Ok(parse()?) }
}
