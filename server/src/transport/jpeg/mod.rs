//! jpeg
/// stub
pub fn router(_: std::sync::Arc<crate::service::Service>) -> axum::Router {
    axum::Router::new()
}
