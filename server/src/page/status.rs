//! `GET /page/status`: the lanes, and what their services serve; `GET /page/metrics/{service}`: the metrics of each service
//! of the process, whose own listeners are other origins to a browser.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::header;
use quintet_engine::InferError;
use serde::Serialize;

use super::{
    lane::{Lane, Payload, Protocol},
    state::Page,
};
use crate::{
    SERVER_NAME, VERSION,
    observe::metrics::Format,
    repository::IndexEntry,
    service::Service,
    transport::http1::reply::{self, Failure},
};

#[derive(Serialize)]
struct Status {
    server: String,
    max_input_bytes: usize,
    lanes: Vec<LaneStatus>,
    services: Vec<ServiceStatus>,
}

#[derive(Serialize)]
struct LaneStatus {
    name: &'static str,
    service: &'static str,
    /// The label of its requests in the metrics.
    protocol: &'static str,
    tls: bool,
    ready: bool,
    /// The payloads that a model in service takes.
    payloads: Vec<&'static str>,
}

#[derive(Serialize)]
struct ServiceStatus {
    name: &'static str,
    models: Vec<ModelStatus>,
}

#[derive(Serialize)]
struct ModelStatus {
    #[serde(flatten)]
    entry: IndexEntry,
    /// Of a model in service, which is warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    /// How long loading and warming took.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_s: Option<f64>,
}

/// Answers with the state of lanes and services.
pub(super) async fn status(State(page): State<Arc<Page>>) -> Result<Response, Failure> {
    let mut services = Vec::new();
    for service in page.services() {
        let models = service.index(false).await?.into_iter().map(|entry| model(service, entry)).collect();
        services.push(ServiceStatus { name: service.catalog().name().as_str(), models });
    }
    let limits = page.lanes.iter().map(|lane| lane.service.catalog().limits().max_input.bytes);
    let status = Status {
        server: format!("{SERVER_NAME} {VERSION}"),
        max_input_bytes: limits.min().unwrap_or_default(),
        lanes: page.lanes.iter().map(lane).collect(),
        services,
    };
    Ok(Json(status).into_response())
}

fn lane(lane: &Lane) -> LaneStatus {
    let takes = |payload: &Payload| lane.payload(*payload) == *payload && lane.taker(*payload).is_ok();
    LaneStatus {
        name: lane.name,
        service: lane.service.catalog().name().as_str(),
        protocol: if lane.protocol == Protocol::KserveGrpc { "grpc" } else { "http" },
        tls: lane.tls,
        ready: lane.service.is_ready(),
        payloads: Payload::ALL.iter().filter(|payload| takes(payload)).map(|payload| payload.name()).collect(),
    }
}

fn model(service: &Service, entry: IndexEntry) -> ModelStatus {
    let version = entry.version.as_deref().and_then(|version| version.parse().ok());
    let model = service.catalog().registry().resolve(&entry.name, version).ok().filter(|_| version.is_some());
    let placement = model.as_ref().map(|model| model.placement());
    ModelStatus {
        effective_provider: placement.map(|placement| placement.provider.clone()),
        provider_reason: placement.and_then(|placement| placement.reason.clone()),
        precision: placement.and_then(|placement| placement.precision.clone()),
        gpu: placement.and_then(|placement| placement.gpu.clone()),
        load_s: model.as_ref().map(|model| model.load_time().as_secs_f64()),
        entry,
    }
}

/// Answers with the metrics of a service, as its own listener does.
pub(super) async fn metrics(State(page): State<Arc<Page>>, Path(name): Path<String>) -> Result<Response, Failure> {
    let service = page.services().find(|service| service.catalog().name().as_str() == name);
    let Some(service) = service else { return Ok(reply::not_found().await) };
    let catalog = Arc::clone(service.catalog());
    // Reading the state of GPUs asks the driver.
    let text = tokio::task::spawn_blocking(move || catalog.render_metrics(Format::Text))
        .await
        .map_err(InferError::internal)?;
    Ok(([(header::CONTENT_TYPE, Format::Text.content_type())], text).into_response())
}
