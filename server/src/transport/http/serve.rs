//! The HTTP/1.1 connection loop: accepts until told to stop, then lets open requests finish.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::transport::listener::Listener;

/// How long a client may take to send a request's head, and an idle connection to stay open.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes that one read may take: large bodies in few reads.
const MAX_BUFFER_BYTES: usize = 1 << 20;

/// Serves `router` until `stop`; then idle connections are closed and busy ones finish their request.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let listener = Arc::new(listener);
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = listener.accept() => connection,
        };
        let service = TowerToHyperService::new(router.clone());
        let (stop, name) = (stop.clone(), listener.name());
        connections.spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(MAX_BUFFER_BYTES);
            let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(connection), service));
            let outcome = tokio::select! {
                outcome = serving.as_mut() => outcome,
                () = stop.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(listener = name, %error, "connection ended early");
            }
        });
    }
    connections.close();
    connections.wait().await;
}
