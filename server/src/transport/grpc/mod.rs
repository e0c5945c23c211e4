//! grpc
/// stub
pub async fn serve(
    _: super::listener::Listener,
    _: std::sync::Arc<crate::service::Service>,
    stop: tokio_util::sync::CancellationToken,
) {
    stop.cancelled().await
}
