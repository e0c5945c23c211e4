//! Writes the response to an inference request over HTTP.

use std::{borrow::Cow, time::Instant};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use quintet_engine::{Budget, InferError, Stage};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH,
    rest::{self, Parameters},
};
use serde_json::value::RawValue;

use super::{print::print as elements, request::OutputForm};
use crate::{
    kserve::{Answer, AnsweredOutput},
    service::Service,
    transport::{
        encoding::{Effort, Encoding},
        http1::{
            body::Chunks,
            reply::{self, Failure},
        },
        work,
    },
};

/// Writes the response: JSON, then the binary outputs, which are sent without a copy unless they are encoded.
pub(in crate::transport) async fn answer(
    answer: Answer,
    id: &str,
    form: OutputForm,
    accepted: Option<Encoding>,
    service: &Service,
) -> Result<Response, Failure> {
    let started = Instant::now();
    let mut timings = answer.timings;
    let budget = service.catalog().pool().budget();
    let (json, binary) = if printed_bytes(&answer, &form) > work::LARGE_BYTES {
        let (id, mut charge) = (id.to_owned(), budget.charge());
        let print = move |_: &_| {
            let (json, binary) = print(&answer, &id, &form)?;
            charge.force(json.len());
            Ok((charge.hold(json.into()), binary))
        };
        work::run(print).await?
    } else {
        let (json, binary) = print(&answer, id, &form)?;
        (json.into(), binary)
    };
    let response = assemble(json, binary, accepted, budget).await?;
    timings[Stage::Encode] = started.elapsed();
    Ok(reply::with_timing(response, &timings))
}

/// Bytes of the outputs that are printed as JSON.
fn printed_bytes(answer: &Answer, form: &OutputForm) -> usize {
    let printed = answer.outputs.iter().filter(|output| output.shared.is_none() && !form.is_binary(&output.name));
    printed.map(|output| output.tensor.data().len()).sum()
}

/// The JSON of an answer, and its binary outputs.
fn print(answer: &Answer, id: &str, form: &OutputForm) -> Result<(Vec<u8>, Vec<Bytes>), InferError> {
    let (outputs, binary) = describe(&answer.outputs, form)?;
    let spec = answer.model.spec();
    let json = serde_json::to_vec(&rest::InferResponse {
        id: (!id.is_empty()).then(|| id.into()),
        model_name: spec.name().into(),
        model_version: spec.version().to_string().into(),
        outputs,
    })
    .map_err(InferError::internal)?;
    Ok((json, binary))
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
            let text = RawValue::from_string(elements(tensor)?).map_err(InferError::internal)?;
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
async fn assemble(
    json: Bytes,
    binary: Vec<Bytes>,
    accepted: Option<Encoding>,
    budget: &Budget,
) -> Result<Response, InferError> {
    let json_length = json.len();
    let is_binary = !binary.is_empty();
    let parts = [json].into_iter().chain(binary);
    let body = match accepted {
        None => Body::new(Chunks::new(parts).charged(budget.charge())),
        Some(encoding) => Body::from(encoding.encode(parts.collect(), Effort::Medium, budget).await?),
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
