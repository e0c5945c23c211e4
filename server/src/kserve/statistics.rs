//! The statistics extension: the engine's counters in Triton's message.

use std::{sync::Arc, time::Duration};

use quintet_engine::{InferError, Model};
use quintet_proto::inference::{
    InferBatchStatistics, InferStatistics, MemoryUsage, ModelStatistics, ModelStatisticsResponse, StatisticDuration,
};

use super::models::resolve;
use crate::{catalog::Catalog, protobuf_json};

/// The statistics of one version of a model. An empty `version` stands for all ready versions, an empty `name` for all
/// ready models.
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
    Ok(ModelStatisticsResponse { model_stats: models.iter().map(model_statistics).collect() })
}

/// The same in the JSON of Triton's HTTP endpoint.
///
/// # Errors
/// As [`read`].
pub fn read_json(catalog: &Catalog, name: &str, version: &str) -> Result<serde_json::Value, InferError> {
    let statistics = read(catalog, name, version)?;
    protobuf_json::to_json("inference.ModelStatisticsResponse", &statistics).map_err(InferError::internal)
}

/// Compute times count only requests that the response cache did not answer. As in Triton, the memory is what loading the model
/// took on a GPU.
fn model_statistics(model: &Arc<Model>) -> ModelStatistics {
    let stats = model.stats();
    let duration = |count: u64, time: Duration| Some(StatisticDuration { count, ns: time.as_nanos() as u64 });
    let computed = stats.computed();
    ModelStatistics {
        name: model.spec().name().to_owned(),
        version: model.spec().version().to_string(),
        last_inference: stats.last_inference_ms,
        inference_count: stats.inferences,
        execution_count: stats.executions,
        inference_stats: Some(InferStatistics {
            success: duration(stats.success, stats.request),
            fail: duration(stats.failures.total(), stats.failure),
            queue: duration(stats.success, stats.queue),
            compute_input: duration(computed, stats.compute_input),
            compute_infer: duration(computed, stats.compute_infer),
            compute_output: duration(computed, stats.compute_output),
            cache_hit: duration(stats.cache_hits, stats.cache_hit),
            cache_miss: duration(stats.cache_misses, stats.cache_miss),
        }),
        batch_stats: stats
            .batches
            .iter()
            .map(|batch| InferBatchStatistics {
                batch_size: batch.batch_size as u64,
                compute_input: duration(batch.executions, batch.compute_input),
                compute_infer: duration(batch.executions, batch.compute_infer),
                compute_output: duration(batch.executions, batch.compute_output),
            })
            .collect(),
        memory_usage: model
            .gpu_memory()
            .iter()
            .map(|memory| MemoryUsage { r#type: "GPU".into(), id: memory.gpu as i64, byte_size: memory.bytes })
            .collect(),
        ..ModelStatistics::default()
    }
}
