//! `/v2/systemsharedmemory` and `/v2/cudasharedmemory`: registers regions, and returns their status.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use quintet_engine::InferError;
use serde::Deserialize;
use serde_json::json;

use super::json_body;
use crate::{
    kserve::shared_memory,
    service::Service,
    transport::http1::reply::{self, Failure},
};

/// The body of a registration.
#[derive(Debug, Deserialize)]
struct Registration {
    key: Option<String>,
    #[serde(default)]
    offset: u64,
    byte_size: Option<u64>,
}

/// `GET /v2/systemsharedmemory[/region/{region}]/status`.
pub(super) async fn status(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let regions = service.shared_memory().status(region(&path))?;
    let entries = regions.iter().map(|(name, region)| {
        json!({"name": name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size})
    });
    Ok(Json(entries.collect::<Vec<_>>()).into_response())
}

/// `POST /v2/systemsharedmemory/region/{region}/register`.
pub(super) async fn register(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    let body: Registration = json_body::read(&service, request).await?;
    let missing =
        |field: &str| InferError::invalid(format_args!("Shared memory register request has no '{field}' field"));
    let key = body.key.ok_or_else(|| missing("key"))?;
    let byte_size = body.byte_size.ok_or_else(|| missing("byte_size"))?;
    service.shared_memory().register(region(&path).unwrap_or_default(), &key, body.offset, byte_size)?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /v2/systemsharedmemory[/region/{region}]/unregister`.
pub(super) async fn unregister(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    service.shared_memory().unregister(region(&path))?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /v2/cudasharedmemory[/region/{region}]/status`: there are none.
pub(super) async fn cuda_status(Path(path): Path<HashMap<String, String>>) -> Result<Response, Failure> {
    shared_memory::cuda_status(region(&path))?;
    Ok(Json(json!([])).into_response())
}

/// `POST /v2/cudasharedmemory/region/{region}/register`.
pub(super) async fn cuda_register() -> Failure {
    Failure(shared_memory::cuda_unsupported())
}

/// `POST /v2/cudasharedmemory[/region/{region}]/unregister`: succeeds, as for any unknown region.
pub(super) async fn cuda_unregister() -> Response {
    reply::empty(StatusCode::OK)
}

/// The region that a path names.
fn region(path: &HashMap<String, String>) -> Option<&str> {
    path.get("region").map(String::as_str)
}
