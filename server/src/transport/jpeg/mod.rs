//! The jpeg lane: encoded images over HTTP/1.1, embeddings and classes as JSON.

mod answer;
mod base64;
mod decode;
mod infer;
mod info;
mod input;
mod intake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use quintet_engine::{ErrorKind, InferError, Model};

pub use decode::Decoder;

use crate::{
    kserve::message,
    service::Service,
    transport::http::{metrics_router, reply},
};

/// What the routes share.
struct Lane {
    service: Arc<Service>,
    model: String,
    decoder: Decoder,
}

impl Lane {
    /// The model that the lane serves.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] while it is not in service.
    fn model(&self) -> Result<Arc<Model>, InferError> {
        let registry = self.service.registry();
        registry.resolve(&self.model, None).map_err(|error| {
            // No path names it: that it is not there is not the client's mistake.
            let known = registry.index().iter().any(|(name, ..)| *name == self.model);
            let words = if known {
                message::of(&error.into()).into_owned()
            } else {
                format!("model '{}' is not loaded yet", self.model)
            };
            InferError::new(ErrorKind::Unavailable, words)
        })
    }
}

/// The routes of the jpeg service, which answers with `model` and decodes with `decoder`.
pub fn router(service: Arc<Service>, model: impl Into<String>, decoder: Decoder) -> Router {
    let lane = Lane { service: Arc::clone(&service), model: model.into(), decoder };
    Router::new()
        .route("/embed", post(infer::embed))
        .route("/embed/base64", post(infer::embed_base64))
        .route("/embed/batch", post(infer::embed_batch))
        .route("/classify", post(infer::classify))
        .route("/health", get(info::health))
        .route("/healthz", get(info::live))
        .route("/model-info", get(info::model))
        .route("/gpu-info", get(info::gpu))
        .method_not_allowed_fallback(reply::method_not_allowed)
        .with_state(Arc::new(lane))
        .merge(metrics_router(service))
}
