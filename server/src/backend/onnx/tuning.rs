//! How a session is tuned: what a model's configuration says of graph, threads and providers.

use std::str::FromStr;

use ort::{
    ep,
    session::builder::{GraphOptimizationLevel, SessionBuilder},
};

/// How much ONNX Runtime rewrites a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphLevel {
    /// All it can.
    #[default]
    All,
    /// Extended: no layouts of its own.
    Extended,
    /// Basic: only what gives the same result bit for bit.
    Basic,
    /// Nothing.
    Off,
}

/// How a session is tuned; the default is ONNX Runtime's, in the threads that all sessions share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// How much the graph is rewritten.
    pub graph_level: GraphLevel,
    /// Threads of its own for one operator; `None` shares the process's.
    pub intra_op_threads: Option<usize>,
    /// Threads of its own for operators side by side.
    pub inter_op_threads: Option<usize>,
    /// Whether operators run side by side.
    pub parallel: bool,
    /// Whether memory is planned from the first run on; `None` is ONNX Runtime's default, yes.
    pub memory_pattern: Option<bool>,
    /// The GPU, by its number.
    pub device: i32,
    /// Options of the TensorRT provider under Triton's names; see [`check_tensorrt`].
    pub tensorrt: Vec<(String, String)>,
}

impl Tuning {
    pub(super) fn apply(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        builder = match self.graph_level {
            GraphLevel::All => builder,
            GraphLevel::Extended => builder.with_optimization_level(GraphOptimizationLevel::Level2)?,
            GraphLevel::Basic => builder.with_optimization_level(GraphOptimizationLevel::Level1)?,
            GraphLevel::Off => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        };
        if self.intra_op_threads.is_some() || self.inter_op_threads.is_some() {
            builder = builder.with_independent_thread_pool()?;
        }
        if let Some(threads) = self.intra_op_threads {
            // As the shared pool: a thread that spins takes a core from the transports.
            builder = builder.with_intra_threads(threads)?.with_intra_op_spinning(false)?;
        }
        if let Some(threads) = self.inter_op_threads {
            builder = builder.with_inter_threads(threads)?;
        }
        if self.parallel {
            builder = builder.with_parallel_execution(true)?;
        }
        match self.memory_pattern {
            Some(enabled) => Ok(builder.with_memory_pattern(enabled)?),
            None => Ok(builder),
        }
    }
}

/// Whether the TensorRT provider has this option and takes this value. Names are Triton's
/// (`precision_mode`, `trt_engine_cache_enable`, ...).
///
/// # Errors
/// What the value should be; `None` if the option is unknown.
pub fn check_tensorrt(name: &str, value: &str) -> Result<(), Option<String>> {
    with_option(ep::TensorRT::default(), name, value).map(|_| ())
}

/// The TensorRT provider with these options; those that it does not have are left out.
pub(super) fn tensorrt(options: &[(String, String)], device: i32) -> ep::TensorRT {
    options.iter().fold(ep::TensorRT::default().with_device_id(device), |provider, (name, value)| {
        with_option(provider.clone(), name, value).unwrap_or(provider)
    })
}

fn with_option(provider: ep::TensorRT, name: &str, value: &str) -> Result<ep::TensorRT, Option<String>> {
    let flag = || match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Some(format!("takes true or false, not '{value}'"))),
    };
    fn number<T: FromStr>(value: &str) -> Result<T, Option<String>> {
        value.parse().map_err(|_| Some(format!("takes a whole number, not '{value}'")))
    }
    Ok(match name.strip_prefix("trt_").unwrap_or(name) {
        "precision_mode" => match value.to_ascii_uppercase().as_str() {
            "FP32" => provider,
            "FP16" => provider.with_fp16(true),
            "BF16" => provider.with_bf16(true),
            "INT8" => provider.with_int8(true),
            _ => return Err(Some(format!("takes FP32, FP16, BF16 or INT8, not '{value}'"))),
        },
        "max_workspace_size_bytes" | "max_workspace_size" => provider.with_max_workspace_size(number(value)?),
        "min_subgraph_size" => provider.with_min_subgraph_size(number(value)?),
        "max_partition_iterations" => provider.with_max_partition_iterations(number(value)?),
        "fp16_enable" => provider.with_fp16(flag()?),
        "bf16_enable" => provider.with_bf16(flag()?),
        "int8_enable" => provider.with_int8(flag()?),
        "int8_calibration_table_name" => provider.with_int8_calibration_table_name(value),
        "int8_use_native_calibration_table" => provider.with_int8_use_native_calibration_table(flag()?),
        "dla_enable" => provider.with_dla(flag()?),
        "dla_core" => provider.with_dla_core(number(value)?),
        "engine_cache_enable" => provider.with_engine_cache(flag()?),
        "engine_cache_path" => provider.with_engine_cache_path(value),
        "engine_cache_prefix" => provider.with_engine_cache_prefix(value),
        "timing_cache_enable" => provider.with_timing_cache(flag()?),
        "timing_cache_path" => provider.with_timing_cache_path(value),
        "force_timing_cache" => provider.with_force_timing_cache(flag()?),
        "profile_min_shapes" => provider.with_profile_min_shapes(value),
        "profile_opt_shapes" => provider.with_profile_opt_shapes(value),
        "profile_max_shapes" => provider.with_profile_max_shapes(value),
        "cuda_graph_enable" => provider.with_cuda_graph(flag()?),
        "builder_optimization_level" => provider.with_builder_optimization_level(number(value)?),
        "build_heuristics_enable" => provider.with_build_heuristics(flag()?),
        "sparsity_enable" => provider.with_sparsity(flag()?),
        "auxiliary_streams" => provider.with_auxiliary_streams(number(value)?),
        "context_memory_sharing_enable" => provider.with_context_memory_sharing(flag()?),
        "layer_norm_fp32_fallback" => provider.with_layer_norm_fp32_fallback(flag()?),
        "force_sequential_engine_build" => provider.with_force_sequential_engine_build(flag()?),
        "detailed_build_log" => provider.with_detailed_build_log(flag()?),
        _ => return Err(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_by_name_and_value() {
        assert_eq!(check_tensorrt("precision_mode", "fp16"), Ok(()));
        assert_eq!(check_tensorrt("trt_engine_cache_enable", "true"), Ok(()));
        assert_eq!(check_tensorrt("trt_profile_min_shapes", "x:1x3x224x224"), Ok(()));
        let wrong = "takes FP32, FP16, BF16 or INT8, not 'FP8'".to_owned();
        assert_eq!(check_tensorrt("precision_mode", "FP8"), Err(Some(wrong)));
        assert_eq!(check_tensorrt("max_batch", "8"), Err(None));
    }
}
