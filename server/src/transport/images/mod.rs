//! The jpeg lane: takes encoded images over HTTP/1.1, returns embeddings, classes or tensors.

mod answer;
mod decoded;
mod infer;
mod info;
mod intake;
mod lane;
mod outcome;
mod query;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::lane::Lane;
use crate::{
    service::Service,
    transport::http1::{metrics, reply},
};
use axum::{
    Router,
    routing::{get, post},
};

/// The routes of the jpeg service, which answers with `model`.
pub fn router(service: Arc<Service>, model: impl Into<String>) -> Router {
    let lane = Lane { service: Arc::clone(&service), model: model.into() };
    Router::new()
        .route("/embed", post(infer::embed))
        .route("/embed/base64", post(infer::embed_base64))
        .route("/embed/batch", post(infer::embed_batch))
        .route("/classify", post(infer::classify))
        .route("/infer", post(infer::infer))
        .route("/health", get(info::health))
        .route("/healthz", get(info::live))
        .route("/model-info", get(info::model))
        .route("/gpu-info", get(info::gpu))
        .method_not_allowed_fallback(reply::method_not_allowed)
        .with_state(Arc::new(lane))
        .merge(metrics::router(service))
}
