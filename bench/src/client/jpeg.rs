//! Requests and responses of the jpeg lane: images as files or base64, embeddings as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    client::{
        call::{CallError, Prepared, Reply},
        http,
        target::Target,
    },
    model::{outputs::Output, signature::EMBEDDING},
};

#[derive(Serialize)]
struct EmbedRequest<'a> {
    images: &'a [&'a str],
}

#[derive(Deserialize)]
struct EmbedResponse {
    embeddings: Vec<Vec<f32>>,
}

/// `POST /embed/base64` with images in base64.
///
/// # Errors
/// When the request cannot be written.
pub fn infer_request(target: &Target, images: &[&str]) -> Result<Prepared, CallError> {
    let body = serde_json::to_vec(&EmbedRequest { images }).map_err(|e| CallError::Malformed(e.to_string()))?;
    http::post(&target.endpoint, "/embed/base64", &[("content-type", "application/json")], vec![Bytes::from(body)])
}

/// Separates the files of a multipart body; no JPEG, PNG or WebP file contains it.
const BOUNDARY: &str = "quintet-bench-b1f0d3a9c24e";

/// `POST /embed` with one image file, `POST /embed/batch` with several as multipart/form-data.
/// Each image is a separate chunk and is not copied.
///
/// # Errors
/// When the request cannot be written.
pub fn raw_infer_request(target: &Target, mut images: Vec<Bytes>) -> Result<Prepared, CallError> {
    if images.len() == 1 {
        let content_type = if images[0].starts_with(&[0xff, 0xd8]) { "image/jpeg" } else { "application/octet-stream" };
        return http::post(&target.endpoint, "/embed", &[("content-type", content_type)], images);
    }
    let mut chunks = Vec::with_capacity(2 * images.len() + 1);
    for (i, image) in images.drain(..).enumerate() {
        let line = if i == 0 { "" } else { "\r\n" };
        let head = format!(
            "{line}--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"files\"; filename=\"{i}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        chunks.extend([head.into(), image]);
    }
    chunks.push(format!("\r\n--{BOUNDARY}--\r\n").into());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    http::post(&target.endpoint, "/embed/batch", &[("content-type", &content_type)], chunks)
}

/// The embeddings in a response, as the output of that name.
///
/// # Errors
/// [`CallError::Malformed`] when the JSON has another form.
pub fn outputs(reply: &Reply) -> Result<Vec<Output>, CallError> {
    let response: EmbedResponse =
        serde_json::from_slice(&reply.body()).map_err(|e| CallError::Malformed(e.to_string()))?;
    let rows = response.embeddings.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect();
    Ok(vec![Output { name: EMBEDDING.to_owned(), rows }])
}
