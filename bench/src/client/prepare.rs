//! Prepares a lane's requests, which are built once and sent many times.

use crate::{
    client::{
        call::{CallError, Prepared},
        grpc, http,
        inference::{Content, Inference},
        inputs::Inputs,
        jpeg,
        payload::Payload,
        region::Region,
        target::Target,
        tensor,
    },
    model::{encoding::Encoding, protocol::Protocol, signature::Signature},
};

/// Builds a lane's requests for one batch size, one for each photograph that a batch can begin with. The n-th request of
/// every lane carries the same photographs, or with a region refers to them in shared memory.
///
/// # Errors
/// When an address or model name cannot be part of a request.
pub fn prepare(
    (target, signature): (&Target, &Signature),
    encoding: Encoding,
    payload: &Payload,
    batch: usize,
    region: Option<&Region>,
) -> Result<Vec<Prepared>, CallError> {
    let build = |first| {
        let content = match (target.protocol(), encoding, region) {
            (Protocol::Jpeg, Encoding::Jpeg | Encoding::Jpeg224, _) => {
                return jpeg::raw_infer_request(target, signature, payload.encoded(encoding, first, batch));
            }
            (Protocol::Jpeg, ..) => return jpeg::infer_request(target, signature, &payload.base64(first, batch)),
            (_, _, Some(_)) => Content::Shared(payload.placement(encoding, first, batch)),
            (_, Encoding::Json, None) => {
                let numbers = tensor::to_json(&payload.tensor(first, batch));
                Content::Json(numbers.map_err(|e| CallError::Malformed(e.to_string()))?)
            }
            _ => Content::Binary(payload.tensor_as(encoding, first, batch)),
        };
        let shared = region.map(|region| (region.name().to_owned(), region.output(first)));
        let mut inference = Inference { shared, ..Inference::images(signature, encoding, batch, content) };
        if inference.shared.is_some() {
            inference.outputs.truncate(1);
        }
        infer_request(target, &inference)
    };
    (0..payload.variants()).map(build).collect()
}

/// Builds a lane's requests for one batch size with a model's own inputs. The n-th request of every lane carries the same
/// tensors.
///
/// # Errors
/// For a batch, if the model takes none, and as [`prepare`].
pub fn prepare_inputs(target: &Target, inputs: &Inputs, batch: usize) -> Result<Vec<Prepared>, CallError> {
    let requests = inputs.requests(batch).map_err(|error| CallError::Malformed(error.to_string()))?;
    requests.iter().map(|inference| infer_request(target, inference)).collect()
}

fn infer_request(target: &Target, inference: &Inference) -> Result<Prepared, CallError> {
    match target.protocol() {
        Protocol::KserveGrpc => grpc::infer_request(target, inference),
        _ => http::infer_request(target, inference),
    }
}
