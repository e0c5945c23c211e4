//! Requests and responses of KServe v2 over HTTP/1.1, and plain GET and POST.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    rest::{ErrorBody, InferInput, InferRequest, InferResponse, Parameters, RequestedOutput},
};
use serde_json::value::RawValue;

use crate::{
    client::{
        call::{CallError, Prepared, Reply},
        embedding::{INPUT, OUTPUT, rows, shared_rows},
        endpoint::Endpoint,
        placement::{self, Placement},
        target::Target,
    },
    model::encoding::Encoding,
};

/// Most characters of a response's body to quote in an error.
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
    if let Some(authorization) = endpoint.authorization() {
        map.insert(header::AUTHORIZATION, authorization.clone());
    }
    Ok(Prepared { method, uri, headers: map, chunks: chunks.into(), output: None })
}

/// `POST /v2/models/{model}/infer` with a binary tensor of the encoding's type and shape after the JSON part; requests the
/// embedding in binary.
///
/// # Errors
/// When the model's name is not valid in a request.
pub fn infer_request(target: &Target, encoding: Encoding, batch: usize, tensor: Bytes) -> Result<Prepared, CallError> {
    let size = ("binary_data_size".to_owned(), tensor.len().into());
    let json = infer_json(encoding, batch, [size].into(), binary(true), None)?;
    let length = json.len().to_string();
    let headers = [("content-type", "application/octet-stream"), (INFERENCE_HEADER_CONTENT_LENGTH, length.as_str())];
    post(&target.endpoint, &infer_path(target), &headers, vec![json.into(), tensor])
}

/// The same with the FP32 tensor as JSON numbers; requests the embedding in JSON.
///
/// # Errors
/// When the model's name is not valid in a request.
pub fn json_infer_request(target: &Target, batch: usize, numbers: String) -> Result<Prepared, CallError> {
    let numbers = RawValue::from_string(numbers).map_err(|e| CallError::Malformed(e.to_string()))?;
    let json = infer_json(Encoding::Json, batch, Parameters::new(), binary(false), Some(&numbers))?;
    post(&target.endpoint, &infer_path(target), &[("content-type", "application/json")], vec![json.into()])
}

/// The same with input and output in shared memory.
///
/// # Errors
/// When the model's name is not valid in a request.
pub fn shared_infer_request(
    target: &Target,
    encoding: Encoding,
    batch: usize,
    region: &str,
    [input, output]: [Placement; 2],
) -> Result<Prepared, CallError> {
    let parameters =
        |placement| placement::parameters(region, placement).map(|(name, value)| (name.to_owned(), value)).into();
    let json = infer_json(encoding, batch, parameters(input), parameters(output), None)?;
    let request =
        post(&target.endpoint, &infer_path(target), &[("content-type", "application/json")], vec![json.into()])?;
    Ok(Prepared { output: Some(output), ..request })
}

/// The parameter that requests the output in binary or in JSON.
fn binary(wanted: bool) -> Parameters {
    [("binary_data".to_owned(), wanted.into())].into()
}

fn infer_path(target: &Target) -> String {
    format!("/v2/models/{}/infer", target.model)
}

/// The JSON part of a request, with the parameters of its input and of its output.
fn infer_json(
    encoding: Encoding,
    batch: usize,
    parameters: Parameters,
    output: Parameters,
    data: Option<&RawValue>,
) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(&InferRequest {
        id: None,
        parameters: Parameters::new(),
        inputs: vec![InferInput {
            name: INPUT.into(),
            shape: encoding.shape(batch),
            datatype: encoding.datatype().into(),
            parameters,
            data,
        }],
        outputs: Some(vec![RequestedOutput { name: OUTPUT.into(), parameters: output }]),
    })
    .map_err(|e| CallError::Malformed(e.to_string()))
}

/// Checks the status; an error carries the server's message.
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

/// Checks that a response is a success and begins as the JSON object that every inference over HTTP answers with. A proxy's
/// or a login's page with status 200 does not.
///
/// # Errors
/// [`CallError::Status`], or [`CallError::Malformed`] with the beginning of the body.
pub fn check_inference(reply: &Reply) -> Result<(), CallError> {
    check(reply)?;
    let mut bytes = reply.chunks.iter().flat_map(|chunk| chunk.iter().copied());
    if bytes.find(|byte| !byte.is_ascii_whitespace()) == Some(b'{') {
        return Ok(());
    }
    let quoted: String = String::from_utf8_lossy(&reply.body()).chars().take(MAX_QUOTED).collect();
    let form =
        reply.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
    Err(CallError::Malformed(format!("not the JSON of an inference ({form}): {quoted}")))
}

/// The embedding in a response: binary after the JSON part, in JSON, or in shared memory.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn embeddings(reply: &Reply, shared: Option<&[u8]>) -> Result<Vec<Vec<f32>>, CallError> {
    let malformed = |what: &str| CallError::Malformed(what.to_owned());
    let body = reply.body();
    let json_bytes = match reply.headers.get(INFERENCE_HEADER_CONTENT_LENGTH) {
        None => body.len(),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|&length| length <= body.len())
            .ok_or_else(|| malformed("no usable Inference-Header-Content-Length"))?,
    };
    let response: InferResponse =
        serde_json::from_slice(&body[..json_bytes]).map_err(|e| CallError::Malformed(e.to_string()))?;
    let mut at = json_bytes;
    for output in &response.outputs {
        let size = output.parameters.get("binary_data_size").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= body.len());
        let end = end.ok_or_else(|| malformed("binary_data_size is beyond the body"))?;
        if output.name != OUTPUT {
            at = end;
            continue;
        }
        if output.datatype != "FP32" {
            return Err(CallError::Malformed(format!("`{OUTPUT}` is {}, not FP32", output.datatype)));
        }
        if let Some(bytes) = shared {
            return shared_rows(bytes, &output.shape);
        }
        let Some(data) = &output.data else { return rows(&body[at..end], &output.shape) };
        let numbers: Vec<f32> = serde_json::from_str(data.get()).map_err(|e| CallError::Malformed(e.to_string()))?;
        return rows(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(), &output.shape);
    }
    Err(CallError::Malformed(format!("no output `{OUTPUT}`")))
}
