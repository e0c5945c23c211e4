//! Health, metadata, configuration and metrics over HTTP.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use quintet_engine::{ErrorKind, InferError, Model};
use quintet_proto::rest;

use crate::{
    kserve, repository,
    service::Service,
    transport::http1::reply::{self, Failure},
};

/// `GET /v2`.
pub(super) async fn server(State(service): State<Arc<Service>>) -> Json<rest::ServerMetadata> {
    Json(rest::ServerMetadata {
        name: crate::SERVER_NAME.into(),
        version: crate::VERSION.into(),
        extensions: service.extensions(),
    })
}

/// `GET /v2/health/live`: the process answers.
pub(super) async fn live() -> Response {
    reply::empty(StatusCode::OK)
}

/// `GET /v2/health/ready`: all models are loaded and warm, and the server is not shutting down.
pub(super) async fn ready(State(service): State<Arc<Service>>) -> Response {
    if service.is_ready() {
        return reply::empty(StatusCode::OK);
    }
    Failure(InferError::new(ErrorKind::Unavailable, "not ready: models are loading or the server is shutting down"))
        .into_response()
}

/// `GET /v2/models/{model}[/versions/{version}]`.
pub(super) async fn model(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let model = find(&service, &path)?;
    let spec = model.spec();
    let body = rest::ModelMetadata {
        name: spec.name().to_owned(),
        versions: service.catalog().registry().ready_versions(spec.name()).iter().map(u64::to_string).collect(),
        platform: kserve::platform(service.catalog(), &model),
        inputs: kserve::describe_tensors(spec.inputs(), spec.batches()),
        outputs: kserve::describe_tensors(spec.outputs(), spec.batches()),
    };
    Ok(reply::with_placement(Json(body).into_response(), model.placement()))
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`.
pub(super) async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    match find(&service, &path) {
        Ok(_) => Ok(reply::empty(StatusCode::OK)),
        Err(Failure(error)) if error.to_string() == reply::NOT_FOUND => Err(Failure(error)),
        // Triton's answer whatever the reason, so that clients that wait for a model can poll.
        Err(_) => Err(Failure(InferError::invalid("Model version not ready"))),
    }
}

/// `GET /v2/models/{model}[/versions/{version}]/config`: the configuration in force.
pub(super) async fn config(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let model = find(&service, &path)?;
    let config = service.catalog().config(&model).unwrap_or_default();
    let json = repository::config_to_json(&config).map_err(InferError::internal)?;
    Ok(reply::with_placement(Json(json).into_response(), model.placement()))
}

/// `GET /v2/models/{model}[/versions/{version}]/stats`.
pub(super) async fn statistics(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    find(&service, &path)?;
    let part = |name| path.get(name).map_or("", String::as_str);
    Ok(Json(kserve::statistics::read_json(service.catalog(), part("model"), part("version"))?).into_response())
}

/// `GET /v2/models/stats`.
pub(super) async fn all_statistics(State(service): State<Arc<Service>>) -> Result<Response, Failure> {
    Ok(Json(kserve::statistics::read_json(service.catalog(), "", "")?).into_response())
}

/// The model of a path. A version that is not a number is not a path of the protocol.
pub(super) fn find(service: &Service, path: &HashMap<String, String>) -> Result<Arc<Model>, Failure> {
    let part = |name| path.get(name).map_or("", String::as_str);
    let version = part("version");
    if !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure(InferError::new(ErrorKind::NotFound, reply::NOT_FOUND)));
    }
    Ok(kserve::resolve(service.catalog(), part("model"), version)?)
}
