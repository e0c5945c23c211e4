//! HTTP/1.1: KServe v2 requests with binary tensors, and plain GET and POST.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    rest::{ErrorBody, InferInput, InferRequest, InferResponse, Parameters, RequestedOutput},
};

use super::{CallError, INPUT, OUTPUT, Prepared, Reply, rows};
use crate::target::{Endpoint, Target};

/// Most of an answer's body that an error message repeats, in characters.
const MAX_QUOTED: usize = 300;

/// `GET path`.
///
/// # Errors
/// When the path or host is not valid in a request.
pub fn get(endpoint: &Endpoint, path: &str) -> Result<Prepared, CallError> {
    request(Method::GET, endpoint, path, &[], Vec::new())
}

/// `POST path` with a body in chunks.
///
/// # Errors
/// When the path, host or a header is not valid in a request.
pub fn post(
    endpoint: &Endpoint,
    path: &str,
    headers: &[(&str, &str)],
    chunks: Vec<Bytes>,
) -> Result<Prepared, CallError> {
    request(Method::POST, endpoint, path, headers, chunks)
}

fn request(
    method: Method,
    endpoint: &Endpoint,
    path: &str,
    headers: &[(&str, &str)],
    chunks: Vec<Bytes>,
) -> Result<Prepared, CallError> {
    let invalid = |what: &str| CallError::Malformed(format!("{what} is not valid in a request"));
    let uri: Uri = path.parse().map_err(|_| invalid(path))?;
    let mut map = HeaderMap::new();
    let host = endpoint.authority();
    for (name, value) in [(header::HOST.as_str(), host.as_str())].iter().chain(headers) {
        let name: HeaderName = name.parse().map_err(|_| invalid(name))?;
        map.insert(name, HeaderValue::from_str(value).map_err(|_| invalid(value))?);
    }
    Ok(Prepared { method, uri, headers: map, chunks: chunks.into() })
}

/// `POST /v2/models/{model}/infer` with a `[batch, 3, 224, 224]` FP32 tensor behind the JSON part,
/// asking for the embedding in binary.
///
/// # Errors
/// When the model's name is not valid in a request.
pub fn infer_request(target: &Target, batch: usize, tensor: Bytes) -> Result<Prepared, CallError> {
    let number = |n: usize| serde_json::Value::from(n);
    let json = serde_json::to_vec(&InferRequest {
        id: None,
        parameters: Parameters::new(),
        inputs: vec![InferInput {
            name: INPUT.into(),
            shape: crate::payload::tensor_shape(batch).to_vec(),
            datatype: "FP32".into(),
            parameters: [("binary_data_size".to_owned(), number(tensor.len()))].into(),
            data: None,
        }],
        outputs: Some(vec![RequestedOutput {
            name: OUTPUT.into(),
            parameters: [("binary_data".to_owned(), true.into())].into(),
        }]),
    })
    .map_err(|e| CallError::Malformed(e.to_string()))?;
    let length = json.len().to_string();
    let headers = [("content-type", "application/octet-stream"), (INFERENCE_HEADER_CONTENT_LENGTH, length.as_str())];
    let path = format!("/v2/models/{}/infer", target.model);
    post(&target.endpoint, &path, &headers, vec![json.into(), tensor])
}

/// Success, or the server's error.
///
/// # Errors
/// [`CallError::Status`].
pub fn check(reply: &Reply) -> Result<(), CallError> {
    if reply.status.is_success() {
        return Ok(());
    }
    let body = reply.body();
    let message = serde_json::from_slice::<ErrorBody>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).chars().take(MAX_QUOTED).collect(), |body| body.error);
    Err(CallError::Status { code: reply.status.as_u16().to_string(), message })
}

/// The embedding of an answer with binary outputs.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn embeddings(reply: &Reply) -> Result<Vec<Vec<f32>>, CallError> {
    let malformed = |what: &str| CallError::Malformed(what.to_owned());
    let body = reply.body();
    let json_bytes: usize = reply
        .headers
        .get(INFERENCE_HEADER_CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .filter(|&length| length <= body.len())
        .ok_or_else(|| malformed("no usable Inference-Header-Content-Length"))?;
    let response: InferResponse =
        serde_json::from_slice(&body[..json_bytes]).map_err(|e| CallError::Malformed(e.to_string()))?;
    let mut at = json_bytes;
    for output in &response.outputs {
        let Some(size) = output.parameters.get("binary_data_size").and_then(serde_json::Value::as_u64) else {
            continue;
        };
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= body.len());
        let end = end.ok_or_else(|| malformed("binary_data_size is beyond the body"))?;
        if output.name == OUTPUT {
            if output.datatype != "FP32" {
                return Err(CallError::Malformed(format!("`{OUTPUT}` is {}, not FP32", output.datatype)));
            }
            return rows(&body[at..end], &output.shape);
        }
        at = end;
    }
    Err(CallError::Malformed(format!("no binary output `{OUTPUT}`")))
}
