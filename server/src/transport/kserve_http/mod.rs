//! KServe v2 over HTTP/1.1, with Triton's paths, headers and error texts.

mod infer;
mod json_body;
mod metadata;
mod repository;
mod settings;
mod shared_memory;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use crate::{service::Service, transport::http1::reply};

/// The routes of a KServe service.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v2", get(metadata::server))
        .route("/v2/health/live", get(metadata::live))
        .route("/v2/health/ready", get(metadata::ready))
        .route("/v2/models/{model}", get(metadata::model))
        .route("/v2/models/{model}/versions/{version}", get(metadata::model))
        .route("/v2/models/{model}/ready", get(metadata::model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(metadata::model_ready))
        .route("/v2/models/{model}/config", get(metadata::config))
        .route("/v2/models/{model}/versions/{version}/config", get(metadata::config))
        .route("/v2/models/stats", get(metadata::all_statistics))
        .route("/v2/models/{model}/stats", get(metadata::statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(metadata::statistics))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/{repository}/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/{repository}/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .route("/v2/repository/{repository}/models/{model}/unload", post(repository::unload))
        .route("/v2/trace/setting", get(settings::trace).post(settings::update_trace))
        .route("/v2/models/{model}/trace/setting", get(settings::trace).post(settings::update_trace))
        .route("/v2/logging", get(settings::logging).post(settings::update_logging))
        .merge(shared_memory())
        .fallback(reply::not_found)
        .method_not_allowed_fallback(reply::method_not_allowed)
        .with_state(service)
}

fn shared_memory() -> Router<Arc<Service>> {
    let system = |path: &str| format!("/v2/systemsharedmemory{path}");
    let cuda = |path: &str| format!("/v2/cudasharedmemory{path}");
    Router::new()
        .route(&system("/status"), get(shared_memory::status))
        .route(&system("/region/{region}/status"), get(shared_memory::status))
        .route(&system("/region/{region}/register"), post(shared_memory::register))
        .route(&system("/unregister"), post(shared_memory::unregister))
        .route(&system("/region/{region}/unregister"), post(shared_memory::unregister))
        .route(&cuda("/status"), get(shared_memory::cuda_status))
        .route(&cuda("/region/{region}/status"), get(shared_memory::cuda_status))
        .route(&cuda("/region/{region}/register"), post(shared_memory::cuda_register))
        .route(&cuda("/unregister"), post(shared_memory::cuda_unregister))
        .route(&cuda("/region/{region}/unregister"), post(shared_memory::cuda_unregister))
}
