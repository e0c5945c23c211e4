//! Writes the response to an inference request over HTTP.

use std::{borrow::Cow, time::Instant};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use quintet_engine::{InferError, Stage};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    rest::{self, Parameters},
};
use serde_json::value::RawValue;

use super::{json, request::OutputForm};
use crate::{
    kserve::{Answer, AnsweredOutput},
    transport::{
        encoding::Encoding,
        http1::{
            body::Chunks,
            reply::{self, Failure},
        },
    },
};

/// Writes the response: JSON, then the binary outputs, which are sent without a copy unless they are encoded.
pub(super) async fn answer(
    answer: Answer,
    id: &str,
    form: &OutputForm,
    accepted: Option<Encoding>,
) -> Result<Response, Failure> {
    let started = Instant::now();
    let (outputs, binary) = describe(&answer.outputs, form)?;
    let spec = answer.model.spec();
    let json = serde_json::to_vec(&rest::InferResponse {
        id: (!id.is_empty()).then(|| id.into()),
        model_name: spec.name().into(),
        model_version: spec.version().to_string().into(),
        outputs,
    })
    .map_err(InferError::internal)?;
    let response = assemble(json, binary, accepted).await?;
    let mut timings = answer.timings;
    timings[Stage::Encode] = started.elapsed();
    Ok(reply::with_timing(response, &timings))
}

/// The outputs as the JSON describes them, and the data of the binary ones.
fn describe<'a>(
    outputs: &'a [AnsweredOutput],
    form: &OutputForm,
) -> Result<(Vec<rest::InferOutput<'a>>, Vec<Bytes>), InferError> {
    let mut binary = Vec::new();
    let mut described = Vec::with_capacity(outputs.len());
    for AnsweredOutput { name, tensor, shared } in outputs {
        let mut parameters = Parameters::new();
        // An output in shared memory has no parameters: Triton's C++ client reads any as those of binary data.
        let data = if shared.is_some() {
            None
        } else if form.is_binary(name) {
            parameters.insert("binary_data_size".into(), tensor.data().len().into());
            binary.push(tensor.data().clone());
            None
        } else {
            let text = RawValue::from_string(json::print(tensor)?).map_err(InferError::internal)?;
            Some(Cow::Owned(text))
        };
        described.push(rest::InferOutput {
            name: name.into(),
            datatype: tensor.data_type().name().into(),
            shape: tensor.shape().dims().iter().map(|&dim| dim as i64).collect(),
            parameters,
            data,
        });
    }
    Ok((described, binary))
}

/// The response with this JSON and these binary outputs, in the encoding that the client accepts.
async fn assemble(json: Vec<u8>, binary: Vec<Bytes>, accepted: Option<Encoding>) -> Result<Response, InferError> {
    let json_length = json.len();
    let is_binary = !binary.is_empty();
    let parts = [Bytes::from(json)].into_iter().chain(binary);
    let body = match accepted {
        None => Body::new(Chunks::new(parts)),
        Some(encoding) => Body::from(encoding.encode(parts.collect()).await?),
    };
    let mut response = Response::new(body);
    if let Some(encoding) = accepted {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    *response.status_mut() = StatusCode::OK;
    let content_type = if is_binary { "application/octet-stream" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_binary {
        response
            .headers_mut()
            .insert(HeaderName::from_static(INFERENCE_HEADER_CONTENT_LENGTH), HeaderValue::from(json_length));
    }
    Ok(response)
}
