//! `/v2/trace/setting`, `/v2/models/{model}/trace/setting` and `/v2/logging`: returns and changes settings.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use quintet_engine::InferError;
use serde_json::{Map, Value};

use super::json_body;
use crate::{
    kserve::trace::{TraceSettings, Update},
    observe::logging,
    service::Service,
    transport::http1::reply::Failure,
};

/// `GET .../trace/setting`.
pub(super) async fn trace(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, Failure> {
    Ok(Json(to_json(service.trace_settings(model(&path))?)).into_response())
}

/// `POST .../trace/setting`.
pub(super) async fn update_trace(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    let body: Map<String, Value> = json_body::read(&service, request).await?;
    let update = body.iter().map(|(name, value)| Ok((name.clone(), values(name, value)?)));
    let update = update.collect::<Result<Update, InferError>>()?;
    Ok(Json(to_json(service.update_trace_settings(model(&path), &update)?)).into_response())
}

/// `GET /v2/logging`.
pub(super) async fn logging() -> Response {
    Json(logging::settings()).into_response()
}

/// `POST /v2/logging`.
pub(super) async fn update_logging(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Failure> {
    let changes: Map<String, Value> = json_body::read(&service, request).await?;
    logging::update(&changes)?;
    Ok(Json(logging::settings()).into_response())
}

fn model(path: &HashMap<String, String>) -> Option<&str> {
    path.get("model").map(String::as_str)
}

/// The values of a setting: `trace_level` is a list, the others are strings; `null` resets it to the default.
fn values(name: &str, value: &Value) -> Result<Vec<String>, InferError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let values = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) if name == "trace_level" => values.iter().map(text).collect(),
        value if name != "trace_level" => text(value).map(|text| vec![text]),
        _ => None,
    };
    let expected = if name == "trace_level" { "an array of strings" } else { "a string" };
    values.ok_or_else(|| InferError::invalid(format_args!("trace setting '{name}' is {value}; it must be {expected}")))
}

fn to_json(settings: TraceSettings) -> Map<String, Value> {
    let value = |name: &str, values: Vec<String>| match name {
        "trace_level" => Value::from(values),
        _ => values.join(",").into(),
    };
    settings.into_iter().map(|(name, values)| (name.to_owned(), value(name, values))).collect()
}
