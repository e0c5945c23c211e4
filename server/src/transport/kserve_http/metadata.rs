//! Health, metadata, configuration and statistics over HTTP.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use quintet_engine::{ErrorKind, InferError, Model};
use quintet_proto::{ENCODED_IMAGES, rest};

use crate::{
    kserve, repository,
    service::Service,
    transport::http1::reply::{self, Failure},
};

/// `GET /v2`.
pub(super) async fn server(State(service): State<Arc<Service>>) -> Json<rest::ServerMetadata> {
    Json(rest::ServerMetadata {
        name: service.id().to_owned(),
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
    match service.check_ready() {
        Ok(()) => reply::empty(StatusCode::OK),
        Err(error) => Failure(error).into_response(),
    }
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
    let mut response = reply::with_origin(Json(body).into_response(), model.placement());
    if let Some(images) = kserve::describe_images(service.catalog(), &model) {
        reply::insert(&mut response, ENCODED_IMAGES, &images);
    }
    Ok(response)
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`.
pub(super) async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let version = version(&path)?;
    match kserve::resolve(service.catalog(), part(&path, "model"), version) {
        Ok(_) => Ok(reply::empty(StatusCode::OK)),
        // As Triton: the same answer for every reason.
        Err(_) => Err(Failure(InferError::invalid("Model version not ready"))),
    }
}

/// `GET /v2/models/{model}[/versions/{version}]/config`: the effective configuration.
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
    let (model, version) = (part(&path, "model"), part(&path, "version"));
    Ok(Json(kserve::statistics::read_json(service.catalog(), model, version)?).into_response())
}

/// `GET /v2/models/stats`.
pub(super) async fn all_statistics(State(service): State<Arc<Service>>) -> Result<Response, Failure> {
    Ok(Json(kserve::statistics::read_json(service.catalog(), "", "")?).into_response())
}

/// The model that a path names.
///
/// # Errors
/// As [`version`] and [`kserve::resolve`].
pub(super) fn find(service: &Service, path: &HashMap<String, String>) -> Result<Arc<Model>, Failure> {
    Ok(kserve::resolve(service.catalog(), part(path, "model"), version(path)?)?)
}

/// The version in a path; empty if it names none.
///
/// # Errors
/// "Not Found" for a version that is not a number: the protocol has no such path.
fn version(path: &HashMap<String, String>) -> Result<&str, Failure> {
    let version = part(path, "version");
    if version.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(version)
    } else {
        Err(Failure(InferError::new(ErrorKind::NotFound, reply::NOT_FOUND)))
    }
}

fn part<'a>(path: &'a HashMap<String, String>, name: &str) -> &'a str {
    path.get(name).map_or("", String::as_str)
}
