//! Shuts down models that were replaced or unloaded.

use std::{sync::Arc, time::Duration};

use quintet_engine::Model;

use crate::backend::onnx::release_now;

/// Interval of the checks whether a replaced model is still used by a request.
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);

/// Shuts down a model that new requests cannot find, after the last request that uses it.
pub(super) async fn retire(model: Arc<Model>) {
    while Arc::strong_count(&model) > 1 {
        tokio::time::sleep(RETIRE_INTERVAL).await;
    }
    let end = move || {
        model.drain();
        drop(model);
        release_now();
    };
    if let Err(error) = tokio::task::spawn_blocking(end).await {
        tracing::error!(%error, "an instance did not stop");
    }
}
