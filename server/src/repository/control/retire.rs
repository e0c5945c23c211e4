//! Models that were replaced or unloaded.

use std::{sync::Arc, time::Duration};

use quintet_engine::Model;

/// How often it is looked whether the last request of a replaced model has gone.
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);

/// Ends a model that no new request finds any more, once the last that has found it is done.
pub(super) async fn retire(model: Arc<Model>) {
    while Arc::strong_count(&model) > 1 {
        tokio::time::sleep(RETIRE_INTERVAL).await;
    }
    if let Err(error) = tokio::task::spawn_blocking(move || model.drain()).await {
        tracing::error!(%error, "an instance did not end");
    }
}
