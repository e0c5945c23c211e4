//! `POST /v2/repository/...`: the index, load and unload.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::StatusCode;
use quintet_engine::{ErrorKind, InferError};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json_body;
use crate::{
    repository::{FILE_PREFIX, Overrides},
    service::Service,
    transport::http1::reply::{self, Failure},
};

/// The body of these requests.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    ready: bool,
    parameters: Map<String, Value>,
}

/// `POST /v2/repository/index`.
pub(super) async fn index(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    refuse_repository_name(&path)?;
    let body: Body = json_body::read(&service, request).await?;
    let index = service.index(body.ready).await?;
    Ok(Json(index).into_response())
}

/// `POST /v2/repository/models/{model}/load`.
pub(super) async fn load(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    refuse_repository_name(&path)?;
    let body: Body = json_body::read(&service, request).await?;
    let mut overrides = Overrides::default();
    for (name, value) in body.parameters {
        let Value::String(text) = value else {
            return Err(InferError::invalid(format_args!(
                "Unable to parse '{name}': attempt to access JSON non-string as string"
            ))
            .into());
        };
        let content = if name.starts_with(FILE_PREFIX) {
            base64_simd::STANDARD
                .decode_to_vec(text.as_bytes())
                .map_err(|error| InferError::invalid(format_args!("load parameter '{name}' is not base64: {error}")))?
        } else {
            text.into_bytes()
        };
        overrides.insert(&name, Bytes::from(content))?;
    }
    let repository = service.repository()?;
    repository.load(model(&path), overrides).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /v2/repository/models/{model}/unload`.
pub(super) async fn unload(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    refuse_repository_name(&path)?;
    let body: Body = json_body::read(&service, request).await?;
    let dependents = match body.parameters.get("unload_dependents") {
        None => false,
        Some(Value::Bool(dependents)) => *dependents,
        Some(_) => {
            return Err(InferError::invalid(
                "Unable to parse 'unload_dependents': attempt to access JSON non-boolean as boolean",
            )
            .into());
        }
    };
    let repository = service.repository()?;
    repository.unload(model(&path), dependents).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// As Triton: the paths exist, but a repository's name is not supported.
fn refuse_repository_name(path: &HashMap<String, String>) -> Result<(), Failure> {
    match path.get("repository") {
        Some(_) => {
            let message = "'repository_name' specification is not supported";
            Err(InferError::new(ErrorKind::Unsupported, message).into())
        }
        None => Ok(()),
    }
}

fn model(path: &HashMap<String, String>) -> &str {
    path.get("model").map_or("", String::as_str)
}
