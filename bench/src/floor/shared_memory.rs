//! Requests with tensors in system shared memory, one region for each connection.

use anyhow::Context as _;

use crate::{
    client::{
        placement::{Placement, parameters},
        region::Region,
    },
    floor::payload::Payload,
};

/// A region with the input tensor, followed by space for the output tensor.
pub(super) fn region(payload: &Payload) -> anyhow::Result<Region> {
    Region::new(&payload.tensor, 1, payload.reply).context("cannot make shared memory")
}

/// The JSON of a request with its tensors in the region.
pub(super) fn request(region: &Region, payload: &Payload, output: &str) -> serde_json::Value {
    let parameters = |placement: Placement| serde_json::Value::from_iter(parameters(region.name(), placement));
    serde_json::json!({
        "inputs": [{
            "name": payload.input,
            "datatype": "FP32",
            "shape": payload.shape,
            "parameters": parameters(region.input()),
        }],
        "outputs": [{ "name": output, "parameters": parameters(region.output(0)) }],
    })
}
