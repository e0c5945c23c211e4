//! Writes the model's outputs as the lane's JSON: embeddings, or ranked classes.

use std::time::Instant;

use axum::response::Response;
use http::{HeaderValue, header};
use quintet_engine::{InferError, Model, Stage, Tensor};
use serde::{Serialize, Serializer};

use super::outcome::Outcome;
use crate::{
    kserve::classify::{self, Class},
    transport::http1::reply,
};

/// The estimated size of a number in JSON, for the first allocation.
const BYTES_PER_NUMBER: usize = 14;

#[derive(Serialize)]
struct ModelInfo<'a> {
    model: &'a str,
    version: String,
    effective_provider: &'a str,
}

#[derive(Serialize)]
struct EmbedResponse<'a> {
    embeddings: Rows<'a>,
    model_info: ModelInfo<'a>,
    count: usize,
}

#[derive(Serialize)]
struct ClassifyResponse<'a> {
    classifications: Vec<Vec<Class<'a>>>,
    model_info: ModelInfo<'a>,
    count: usize,
}

/// FP32 tensors as one array of rows. NaN and infinities are null.
struct Rows<'a>(&'a [(usize, Tensor)]);

struct Row<'a>(&'a [u8]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flat_map(|(rows, tensor)| {
            let row_bytes = tensor.data().len() / (*rows).max(1);
            tensor.data().chunks(row_bytes.max(1)).map(Row)
        }))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }
}

/// `{"embeddings": [[...], ...], "model_info": {...}, "count": n}`
pub(super) fn embeddings(outcome: Outcome) -> Result<Response, InferError> {
    respond(&outcome, |outcome, model_info, count| {
        let embeddings = Rows(&outcome.batches);
        let numbers: usize = outcome.batches.iter().map(|(_, tensor)| tensor.data().len() / size_of::<f32>()).sum();
        write(numbers * BYTES_PER_NUMBER, &EmbedResponse { embeddings, model_info, count })
    })
}

/// `{"classifications": [[{"index", "label", "score", "logit"}, ...], ...], "model_info": {...}, "count": n}`:
/// the `classes` most likely classes of each image, or all classes if the model has fewer.
pub(super) fn classifications(outcome: Outcome, classes: usize) -> Result<Response, InferError> {
    respond(&outcome, |outcome, model_info, count| {
        let labels = outcome.model.spec().outputs().get(outcome.output).and_then(|output| output.labels.as_deref());
        let mut classifications = Vec::with_capacity(count);
        for (rows, tensor) in &outcome.batches {
            let logits = classify::numbers(tensor)?;
            let row = (logits.len() / (*rows).max(1)).max(1);
            classifications.extend(logits.chunks(row).map(|logits| classify::most_likely(logits, classes, labels)));
        }
        write(0, &ClassifyResponse { classifications, model_info, count })
    })
}

fn write(capacity: usize, body: &impl Serialize) -> Result<Vec<u8>, InferError> {
    let mut json = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut json, body).map_err(InferError::internal)?;
    Ok(json)
}

/// The response with the JSON that `body` writes, and with headers for stage times and provider.
fn respond(
    outcome: &Outcome,
    body: impl for<'a> FnOnce(&'a Outcome, ModelInfo<'a>, usize) -> Result<Vec<u8>, InferError>,
) -> Result<Response, InferError> {
    let encoding = Instant::now();
    let count = outcome.batches.iter().map(|(rows, _)| rows).sum();
    let json = body(outcome, model_info(&outcome.model), count)?;
    let mut response = Response::new(json.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut timings = outcome.timings;
    timings[Stage::Encode] = encoding.elapsed();
    Ok(reply::with_placement(reply::with_timing(response, &timings), outcome.model.placement()))
}

fn model_info(model: &Model) -> ModelInfo<'_> {
    ModelInfo {
        model: model.spec().name(),
        version: model.spec().version().to_string(),
        effective_provider: &model.placement().provider,
    }
}
