//! Health, model and devices of the jpeg service.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use quintet_proto::rest::TensorMetadata;
use serde::Serialize;

use super::lane::Lane;
use crate::{
    image_output::ImageOutput,
    kserve::{describe_tensors, message},
    status::{RETRY_AFTER_SECONDS, Status},
    transport::http1::reply::{self, Failure},
};

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    model: &'a str,
    /// Why the service is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// `GET /health`: whether the model is loaded and warm and the server is not shutting down.
pub(super) async fn health(State(lane): State<Arc<Lane>>) -> Response {
    let model = lane.model().and_then(|model| lane.service.check_ready().map(|()| model));
    match model {
        Ok(model) => {
            let body = Json(Health { status: "ok", model: &lane.model, error: None });
            reply::with_placement(body.into_response(), model.placement())
        }
        Err(error) => {
            let body = Json(Health {
                status: "not ready",
                model: &lane.model,
                error: Some(message::for_client(&error).into_owned()),
            });
            let mut response = (Status::from(error.kind()).http, body).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            response
        }
    }
}

/// `GET /healthz`: succeeds while the process runs.
pub(super) async fn live() -> Response {
    (StatusCode::OK, "ok").into_response()
}

#[derive(Serialize)]
struct ModelDescription<'a> {
    model: &'a str,
    version: String,
    server: String,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
    max_batch_size: usize,
    preprocess: String,
    /// The output that `/embed` answers with.
    embedding_output: Option<&'a str>,
    /// The output that `/classify` ranks.
    logits_output: Option<&'a str>,
    effective_provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<&'a str>,
    provider_reason: Option<&'a str>,
    nodes: BTreeMap<&'a str, usize>,
}

/// `GET /model-info`.
pub(super) async fn model(State(lane): State<Arc<Lane>>) -> Result<Response, Failure> {
    let model = lane.model()?;
    let (spec, placement) = (model.spec(), model.placement());
    let output = |output| {
        let found = lane.service.catalog().image_output(&model, output);
        found.ok().map(|(_, output)| output.name.as_str())
    };
    let body = Json(ModelDescription {
        model: spec.name(),
        version: spec.version().to_string(),
        server: format!("{} {}", crate::SERVER_NAME, crate::VERSION),
        inputs: describe_tensors(spec.inputs(), spec.batches()),
        outputs: describe_tensors(spec.outputs(), spec.batches()),
        max_batch_size: spec.policy().max_batch_size,
        preprocess: lane.image_input(&model)?.description(),
        embedding_output: output(ImageOutput::Embedding),
        logits_output: output(ImageOutput::Logits),
        effective_provider: &placement.provider,
        precision: placement.precision.as_deref(),
        provider_reason: placement.reason.as_deref(),
        nodes: placement.nodes.iter().map(|(provider, nodes)| (provider.as_str(), *nodes)).collect(),
    });
    Ok(reply::with_origin(body.into_response(), placement))
}

#[derive(Serialize)]
struct Devices<'a> {
    /// Providers other than ONNX Runtime's for the CPU that run nodes of the model.
    devices: Vec<Device<'a>>,
    /// What the libraries of `--ep-library` offer; left out without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    libraries: Vec<Library>,
    effective_provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<&'a str>,
    provider_reason: Option<&'a str>,
    /// The GPU that runs the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<&'a str>,
    /// Versions of the libraries that run it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    software: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Device<'a> {
    provider: &'a str,
    nodes: usize,
    /// `GPU NVIDIA GeForce RTX 4090`; left out where the provider's name says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

/// A library of `--ep-library`, or a provider's device that it lists.
#[derive(Serialize)]
#[serde(untagged)]
enum Library {
    Device { provider: String, kind: &'static str, vendor: String, name: String, version: String },
    Failed { library: String, reason: String },
}

/// The devices of registered libraries, then the libraries that failed.
fn libraries() -> Vec<Library> {
    let Some(library) = quintet_onnxruntime::loaded() else { return Vec::new() };
    let devices = library.devices().into_iter().filter(|listed| listed.provider != "CPUExecutionProvider");
    let devices = devices.map(|it| Library::Device {
        provider: it.provider,
        kind: it.kind,
        vendor: it.vendor,
        name: it.name,
        version: it.version,
    });
    let failed = library.plugins().into_iter().filter_map(|(library, outcome)| {
        let reason = outcome.err()?;
        Some(Library::Failed { library, reason })
    });
    devices.chain(failed).collect()
}

/// `GET /gpu-info`: the providers that run the model besides ONNX Runtime's for the CPU, and what registered libraries offer.
pub(super) async fn gpu(State(lane): State<Arc<Lane>>) -> Result<Response, Failure> {
    let model = lane.model()?;
    let placement = model.placement();
    let devices = placement.nodes.iter().filter(|(provider, _)| provider != "CPUExecutionProvider");
    let device = |provider: &str| {
        let device = placement.device.as_ref().filter(|_| provider == placement.provider)?;
        Some(format!("{} {}", device.kind, device.name))
    };
    let body = Json(Devices {
        devices: devices
            .map(|(provider, nodes)| Device { provider, nodes: *nodes, device: device(provider) })
            .collect(),
        libraries: libraries(),
        effective_provider: &placement.provider,
        precision: placement.precision.as_deref(),
        provider_reason: placement.reason.as_deref(),
        gpu: placement.gpu.as_deref(),
        software: placement.software.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect(),
    });
    Ok(reply::with_origin(body.into_response(), placement))
}
