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
        endpoint::Endpoint,
        inference::{Content, Inference, Input},
        outputs::Described,
        placement::{self, Placement},
        target::Target,
    },
    model::outputs::Output,
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
    let uri: Uri = format!("{}{path}", endpoint.prefix()).parse().map_err(|_| invalid(path))?;
    let mut map = HeaderMap::new();
    let host = endpoint.authority();
    for (name, value) in [(header::HOST.as_str(), host.as_str())].iter().chain(headers) {
        let name: HeaderName = name.parse().map_err(|_| invalid(name))?;
        map.insert(name, HeaderValue::from_str(value).map_err(|_| invalid(value))?);
    }
    map.extend(endpoint.headers().map(|(name, value)| (name.clone(), value.clone())));
    Ok(Prepared { method, uri, headers: map, chunks: chunks.into(), output: None })
}

/// `POST /v2/models/{model}/infer`: the JSON part, then the binary tensors, each as a chunk that is not copied.
///
/// # Errors
/// When the model's name is not valid in a request, or an input's JSON is none.
pub fn infer_request(target: &Target, inference: &Inference) -> Result<Prepared, CallError> {
    let malformed = |error: serde_json::Error| CallError::Malformed(error.to_string());
    let region = inference.shared.as_ref();
    let mut inputs = Vec::with_capacity(inference.inputs.len());
    let mut tensors = Vec::new();
    // The outputs are returned in the form of the inputs.
    let mut is_json = false;
    for Input { name, datatype, shape, content } in &inference.inputs {
        let mut parameters = Parameters::new();
        let mut data = None;
        match content {
            Content::Binary(tensor) => {
                parameters.insert("binary_data_size".into(), tensor.len().into());
                tensors.push(tensor.clone());
            }
            Content::Json(text) => {
                is_json = true;
                data = Some(serde_json::from_str::<&RawValue>(text).map_err(malformed)?);
            }
            Content::Shared(placement) => {
                parameters.extend(region.into_iter().flat_map(|(region, _)| shared(region, *placement)));
            }
        }
        inputs.push(InferInput {
            name: name.into(),
            shape: shape.clone(),
            datatype: datatype.into(),
            parameters,
            data,
        });
    }
    let in_message = || [("binary_data".to_owned(), (!is_json).into())].into();
    let returned: Parameters = region.map_or_else(in_message, |(region, output)| shared(region, *output).into());
    let outputs = inference.outputs.iter();
    let outputs = outputs.map(|name| RequestedOutput { name: name.into(), parameters: returned.clone() }).collect();
    let request = InferRequest { id: None, parameters: Parameters::new(), inputs, outputs: Some(outputs) };
    let json = serde_json::to_vec(&request).map_err(malformed)?;
    let path = format!("/v2/models/{}/infer", target.model);
    let length = json.len().to_string();
    let binary = [("content-type", "application/octet-stream"), (INFERENCE_HEADER_CONTENT_LENGTH, length.as_str())];
    let headers = if tensors.is_empty() { &[("content-type", "application/json")][..] } else { &binary };
    let chunks = std::iter::once(json.into()).chain(tensors.into_iter().filter(|tensor| !tensor.is_empty())).collect();
    Ok(Prepared { output: region.map(|(_, output)| *output), ..post(&target.endpoint, &path, headers, chunks)? })
}

/// The parameters of a tensor in shared memory.
fn shared(region: &str, placement: Placement) -> [(String, serde_json::Value); 3] {
    placement::parameters(region, placement).map(|(name, value)| (name.to_owned(), value))
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

/// The outputs in a response: binary after the JSON part, in JSON, or the first in shared memory.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn outputs(reply: &Reply, shared: Option<&[u8]>) -> Result<Vec<Output>, CallError> {
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
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for output in &response.outputs {
        let size = output.parameters.get("binary_data_size").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= body.len());
        let end = end.ok_or_else(|| malformed("binary_data_size is beyond the body"))?;
        let described = Described { name: &output.name, datatype: &output.datatype, shape: &output.shape };
        outputs.push(match (shared, &output.data) {
            (Some(placement), _) => described.read_shared(placement)?,
            (None, None) => described.read(&body[at..end])?,
            (None, Some(data)) => {
                let numbers = serde_json::from_str(data.get()).map_err(|e| CallError::Malformed(e.to_string()))?;
                described.read_numbers(numbers)?
            }
        });
        at = end;
    }
    if outputs.is_empty() { Err(malformed("no outputs")) } else { Ok(outputs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Lane;

    fn input(name: &str, datatype: &str, data: &'static [u8]) -> Input {
        let content = Content::Binary(Bytes::from_static(data));
        Input { name: name.into(), datatype: datatype.into(), shape: vec![1, 2], content }
    }

    #[test]
    fn several_inputs_follow_the_json_and_headers_and_prefix_are_sent() {
        let headers = HeaderMap::from_iter([
            (header::HOST, HeaderValue::from_static("model.example")),
            (HeaderName::from_static("x-route"), HeaderValue::from_static("canary")),
        ]);
        let endpoint = "http://127.0.0.1:1/serving/a".parse::<Endpoint>().unwrap().with_headers(&headers);
        let target = Target { lane: Lane::ONNX_HTTP, metrics: endpoint.clone(), endpoint, model: "m".into() };
        let inputs = vec![input("a", "UINT8", b"xy"), input("text", "BYTES", b"\x01\0\0\0q\0\0\0\0")];
        let outputs = vec!["sum".to_owned(), "difference".to_owned()];
        let request = infer_request(&target, &Inference { inputs, outputs, shared: None }).unwrap();
        assert_eq!(request.uri.path(), "/serving/a/v2/models/m/infer");
        assert_eq!(
            (&request.headers["host"], &request.headers["x-route"]),
            (&HeaderValue::from_static("model.example"), &HeaderValue::from_static("canary"))
        );
        let [json, a, text] = &request.chunks[..] else { panic!("three chunks") };
        assert_eq!((a.len(), text.len()), (2, 9));
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let tensors = serde_json::json!([
            {"name": "a", "datatype": "UINT8", "shape": [1, 2], "parameters": {"binary_data_size": 2}},
            {"name": "text", "datatype": "BYTES", "shape": [1, 2], "parameters": {"binary_data_size": 9}},
        ]);
        assert_eq!(json["inputs"], tensors);
        assert_eq!(json["outputs"][1], serde_json::json!({"name": "difference", "parameters": {"binary_data": true}}));
    }
}
