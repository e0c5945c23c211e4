//! The jpeg lane: base64 images in JSON, embeddings in JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{CallError, Prepared, Reply, http};
use crate::target::Target;

#[derive(Serialize)]
struct EmbedRequest<'a> {
    images: &'a [&'a str],
}

#[derive(Deserialize)]
struct EmbedResponse {
    embeddings: Vec<Vec<f32>>,
}

/// `POST /embed/base64` for some images in base64.
///
/// # Errors
/// When the request cannot be written.
pub fn infer_request(target: &Target, images: &[&str]) -> Result<Prepared, CallError> {
    let body = serde_json::to_vec(&EmbedRequest { images }).map_err(|e| CallError::Malformed(e.to_string()))?;
    http::post(&target.endpoint, "/embed/base64", &[("content-type", "application/json")], vec![Bytes::from(body)])
}

/// The embeddings of an answer.
///
/// # Errors
/// [`CallError::Malformed`] when it is not the contract's JSON.
pub fn embeddings(reply: &Reply) -> Result<Vec<Vec<f32>>, CallError> {
    let response: EmbedResponse =
        serde_json::from_slice(&reply.body()).map_err(|e| CallError::Malformed(e.to_string()))?;
    Ok(response.embeddings)
}
