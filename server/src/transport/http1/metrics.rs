//! `GET /metrics`, a route of every service.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, header};

use super::reply;
use crate::{observe::metrics::Format, service::Service};

/// The routes of a metrics listener.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/metrics", get(read))
        .fallback(reply::not_found)
        .method_not_allowed_fallback(reply::method_not_allowed)
        .with_state(service)
}

async fn read(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")];
    (head, service.catalog().render_metrics(format)).into_response()
}
