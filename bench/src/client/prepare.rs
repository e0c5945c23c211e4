//! Prepares a lane's requests, which are built once and sent many times.

use crate::{
    client::{
        call::{CallError, Prepared},
        grpc, http, jpeg,
        payload::Payload,
        region::Region,
        target::Target,
        tensor,
    },
    model::{encoding::Encoding, protocol::Protocol},
};

/// Builds a lane's requests for one batch size, one for each photograph that a batch can begin with. The n-th request of
/// every lane carries the same photographs, or with a region refers to them in shared memory.
///
/// # Errors
/// When an address or model name cannot be part of a request.
pub fn prepare(
    target: &Target,
    encoding: Encoding,
    payload: &Payload,
    batch: usize,
    region: Option<&Region>,
) -> Result<Vec<Prepared>, CallError> {
    let build = |first| {
        if let Some(region) = region {
            let placements = [payload.placement(encoding, first, batch), region.output(first)];
            return match target.protocol() {
                Protocol::KserveGrpc => grpc::shared_infer_request(target, encoding, batch, region.name(), placements),
                _ => http::shared_infer_request(target, encoding, batch, region.name(), placements),
            };
        }
        let tensor = || payload.tensor_as(encoding, first, batch);
        match (target.protocol(), encoding) {
            (Protocol::Jpeg, Encoding::Jpeg) => jpeg::raw_infer_request(target, payload.encoded(first, batch)),
            (Protocol::Jpeg, _) => jpeg::infer_request(target, &payload.base64(first, batch)),
            (Protocol::KserveHttp, Encoding::Json) => {
                let numbers = tensor::to_json(&tensor()).map_err(|e| CallError::Malformed(e.to_string()))?;
                http::json_infer_request(target, batch, numbers)
            }
            (Protocol::KserveHttp, _) => http::infer_request(target, encoding, batch, tensor()),
            (Protocol::KserveGrpc, _) => grpc::infer_request(target, encoding, batch, tensor()),
        }
    };
    (0..payload.variants()).map(build).collect()
}
