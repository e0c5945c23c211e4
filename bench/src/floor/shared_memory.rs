//! A request's tensors in system shared memory: one region for each connection.

use anyhow::Context as _;

use crate::{
    client::{
        placement::{Placement, parameters},
        region::Region,
    },
    floor::payload::Payload,
};

/// A region with the input's tensor, followed by room for the output's.
pub(super) fn region(payload: &Payload) -> anyhow::Result<Region> {
    Region::new(&payload.tensor, 1, payload.reply).context("cannot make shared memory")
}

/// The JSON of a request whose tensors are in it.
pub(super) fn request(region: &Region, payload: &Payload, output: &str) -> serde_json::Value {
    let at = |place: Placement| serde_json::Value::from_iter(parameters(region.name(), place));
    serde_json::json!({
        "inputs": [{
            "name": payload.input,
            "datatype": "FP32",
            "shape": payload.shape,
            "parameters": at(region.input()),
        }],
        "outputs": [{ "name": output, "parameters": at(region.output(0)) }],
    })
}
