//! Requests and responses of the jpeg lane: images as files or base64, embeddings as JSON; of a model that has no embedding
//! its outputs as tensors.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    client::{
        call::{CallError, Prepared, Reply},
        http,
        target::Target,
    },
    model::{outputs::Output, signature::Signature},
};

#[derive(Serialize)]
struct EmbedRequest<'a> {
    images: &'a [&'a str],
}

#[derive(Deserialize)]
struct EmbedResponse {
    embeddings: Vec<Vec<f32>>,
}

/// `POST /embed/base64` with images in base64; `/infer` for a model without an embedding.
///
/// # Errors
/// When the request cannot be written.
pub fn infer_request(target: &Target, signature: &Signature, images: &[&str]) -> Result<Prepared, CallError> {
    let body = serde_json::to_vec(&EmbedRequest { images }).map_err(|e| CallError::Malformed(e.to_string()))?;
    let path = if signature.embedding.is_some() { "/embed/base64" } else { "/infer" };
    http::post(&target.endpoint, path, &[("content-type", "application/json")], vec![Bytes::from(body)])
}

/// Separates the files of a multipart body; no JPEG, PNG or WebP file contains it.
const BOUNDARY: &str = "quintet-bench-b1f0d3a9c24e";

/// `/infer` with its answer in binary, as the images are.
const INFER_BINARY: &str = "/infer?binary_data_output=true";

/// `POST /embed` with one image file, `POST /embed/batch` with several as multipart/form-data; `/infer` for a model without
/// an embedding. Each image is a separate chunk and is not copied.
///
/// # Errors
/// When the request cannot be written.
pub fn raw_infer_request(
    target: &Target,
    signature: &Signature,
    mut images: Vec<Bytes>,
) -> Result<Prepared, CallError> {
    let path = match (&signature.embedding, images.len()) {
        (None, _) => INFER_BINARY,
        (Some(_), 1) => "/embed",
        (Some(_), _) => "/embed/batch",
    };
    if images.len() == 1 {
        let content_type = if images[0].starts_with(&[0xff, 0xd8]) { "image/jpeg" } else { "application/octet-stream" };
        return http::post(&target.endpoint, path, &[("content-type", content_type)], images);
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
    http::post(&target.endpoint, path, &[("content-type", &content_type)], chunks)
}

/// The embeddings in a response, as the output that they are in the model; of a model without an embedding all outputs.
///
/// # Errors
/// [`CallError::Malformed`] when the response has another form.
pub fn outputs(reply: &Reply, signature: &Signature) -> Result<Vec<Output>, CallError> {
    let Some(name) = &signature.embedding else { return http::outputs(reply, None) };
    let response: EmbedResponse =
        serde_json::from_slice(&reply.body()).map_err(|e| CallError::Malformed(e.to_string()))?;
    let rows = response.embeddings.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect();
    Ok(vec![Output { name: name.clone(), rows }])
}
