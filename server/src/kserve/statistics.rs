//! The statistics extension: what the engine counted, in Triton's message.

use std::{sync::Arc, time::Duration};

use quintet_engine::{InferError, Model};
use quintet_proto::inference::{
    InferBatchStatistics, InferStatistics, ModelStatistics, ModelStatisticsResponse, StatisticDuration,
};

use super::models::resolve;
use crate::{catalog::Catalog, protobuf_json};

/// The statistics of a version of a model; of all its ready versions where `version` is empty, and of all
/// ready models where `name` is empty too.
///
/// # Errors
/// As [`resolve`].
pub fn read(catalog: &Catalog, name: &str, version: &str) -> Result<ModelStatisticsResponse, InferError> {
    let models = match (name, version) {
        ("", _) => catalog.registry().ready_models(),
        (name, "") => {
            resolve(catalog, name, "")?;
            let versions = catalog.registry().ready_versions(name);
            versions.into_iter().filter_map(|version| catalog.registry().resolve(name, Some(version)).ok()).collect()
        }
        (name, version) => vec![resolve(catalog, name, version)?],
    };
    Ok(ModelStatisticsResponse { model_stats: models.iter().map(of).collect() })
}

/// The same in the JSON of Triton's HTTP endpoint.
///
/// # Errors
/// As [`read`].
pub fn read_json(catalog: &Catalog, name: &str, version: &str) -> Result<serde_json::Value, InferError> {
    let statistics = read(catalog, name, version)?;
    protobuf_json::to_json("inference.ModelStatisticsResponse", &statistics).map_err(InferError::internal)
}

/// Where requests were answered from the response cache, the compute times count the others only. Memory use
/// is left out: ONNX Runtime does not tell it by model.
fn of(model: &Arc<Model>) -> ModelStatistics {
    let stats = model.stats();
    let over = |count: u64, time: Duration| Some(StatisticDuration { count, ns: time.as_nanos() as u64 });
    let computed = stats.computed();
    ModelStatistics {
        name: model.spec().name().to_owned(),
        version: model.spec().version().to_string(),
        last_inference: stats.last_inference_ms,
        inference_count: stats.inferences,
        execution_count: stats.executions,
        inference_stats: Some(InferStatistics {
            success: over(stats.success, stats.request),
            fail: over(stats.failures.total(), stats.failure),
            queue: over(stats.success, stats.queue),
            compute_input: over(computed, stats.compute_input),
            compute_infer: over(computed, stats.compute_infer),
            compute_output: over(computed, stats.compute_output),
            cache_hit: over(stats.cache_hits, stats.cache_hit),
            cache_miss: over(stats.cache_misses, stats.cache_miss),
        }),
        batch_stats: stats
            .batches
            .iter()
            .map(|batch| InferBatchStatistics {
                batch_size: batch.batch_size as u64,
                compute_input: over(batch.executions, batch.compute_input),
                compute_infer: over(batch.executions, batch.compute_infer),
                compute_output: over(batch.executions, batch.compute_output),
            })
            .collect(),
        ..ModelStatistics::default()
    }
}
