//! The options of the providers, by name, and the values that they take.

/// An option that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// No option has this name.
    Unknown,
    /// The option does not take the value; says what it takes.
    Value(String),
    /// The option is known but must not be used here; says why.
    Unusable(&'static str),
}

/// The values that an option takes.
#[derive(Clone, Copy)]
pub(super) enum ValueKind {
    Flag,
    Number,
    Text,
    /// One of these words, or its index in the list.
    Word(&'static [&'static str]),
}

use ValueKind::{Flag, Number, Text, Word};

pub(super) const PRECISION: &str = "precision_mode";

pub(super) const CUDA_GRAPH: &str = "enable_cuda_graph";

/// Why TensorRT's own CUDA graphs are not usable: `TensorrtExecutionProvider::IsGraphCaptured` ignores the shape.
pub(super) const ONE_GRAPH: &str =
    "ONNX Runtime's TensorRT provider keeps one CUDA graph for a session and replays it for batches of any shape";

pub(super) const CUDA: &[(&str, ValueKind)] = &[
    ("arena_extend_strategy", Word(&["kNextPowerOfTwo", "kSameAsRequested"])),
    ("cudnn_conv1d_pad_to_nc1d", Flag),
    ("cudnn_conv_algo_search", Word(&["EXHAUSTIVE", "HEURISTIC", "DEFAULT"])),
    ("cudnn_conv_use_max_workspace", Flag),
    ("do_copy_in_default_stream", Flag),
    (CUDA_GRAPH, Flag),
    ("enable_skip_layer_norm_strict_mode", Flag),
    ("fuse_conv_bias", Flag),
    ("gpu_mem_limit", Number),
    ("prefer_nhwc", Flag),
    ("sdpa_kernel", Number),
    ("tunable_op_enable", Flag),
    ("tunable_op_max_tuning_duration_ms", Number),
    ("tunable_op_tuning_enable", Flag),
    ("use_ep_level_unified_stream", Flag),
    ("use_tf32", Flag),
];

pub(super) const TENSORRT: &[(&str, ValueKind)] = &[
    ("trt_auxiliary_streams", Number),
    ("trt_bf16_enable", Flag),
    ("trt_build_heuristics_enable", Flag),
    ("trt_builder_optimization_level", Number),
    ("trt_context_memory_sharing_enable", Flag),
    ("trt_cuda_graph_enable", Flag),
    ("trt_detailed_build_log", Flag),
    ("trt_dla_core", Number),
    ("trt_dla_enable", Flag),
    ("trt_dump_ep_context_model", Flag),
    ("trt_dump_subgraphs", Flag),
    ("trt_engine_cache_enable", Flag),
    ("trt_engine_cache_path", Text),
    ("trt_engine_cache_prefix", Text),
    ("trt_engine_hw_compatible", Flag),
    ("trt_ep_context_embed_mode", Number),
    ("trt_ep_context_file_path", Text),
    ("trt_extra_plugin_lib_paths", Text),
    ("trt_force_sequential_engine_build", Flag),
    ("trt_force_timing_cache", Flag),
    ("trt_fp16_enable", Flag),
    ("trt_int8_calibration_table_name", Text),
    ("trt_int8_enable", Flag),
    ("trt_int8_use_native_calibration_table", Flag),
    ("trt_layer_norm_fp32_fallback", Flag),
    ("trt_max_partition_iterations", Number),
    ("trt_max_workspace_size", Number),
    ("trt_min_subgraph_size", Number),
    ("trt_profile_max_shapes", Text),
    ("trt_profile_min_shapes", Text),
    ("trt_profile_opt_shapes", Text),
    ("trt_sparsity_enable", Flag),
    ("trt_tactic_sources", Text),
    ("trt_timing_cache_enable", Flag),
    ("trt_timing_cache_path", Text),
];

/// Why CUDA graphs of the TensorRT-RTX provider are not usable.
pub(super) const UNCHECKED_GRAPH: &str =
    "the server checks recorded CUDA graphs against plain runs, which it cannot do with the TensorRT-RTX provider";

/// Whether the compiled model is saved as an EP context, which later loads use.
pub(super) const EP_CONTEXT: &str = "ep_context_enable";

/// As in `tensorrt_rtx_provider_options.h` of the plug-in's wheel, without those that are addresses in memory or need no GPU.
pub(super) const TENSORRT_RTX: &[(&str, ValueKind)] = &[
    (CUDA_GRAPH, Flag),
    (EP_CONTEXT, Flag),
    ("nv_detailed_build_log", Flag),
    ("nv_dump_subgraphs", Flag),
    ("nv_enable_profiling", Flag),
    ("nv_max_shared_mem_size", Number),
    ("nv_max_workspace_size", Number),
    ("nv_multi_profile_enable", Flag),
    ("nv_op_types_to_exclude", Text),
    ("nv_persistent_context_memory", Flag),
    ("nv_profile_max_shapes", Text),
    ("nv_profile_min_shapes", Text),
    ("nv_profile_opt_shapes", Text),
    ("nv_profiling_output_file", Text),
    ("nv_runtime_cache_path", Text),
    ("nv_use_external_data_initializer", Flag),
    ("nv_use_sync_gpu_allocator", Flag),
    ("nv_weight_streaming_budget", Text),
    ("nv_weight_stripped_engine_enable_experimental", Flag),
];

/// OpenVINO's precision; the plug-in takes it as a property.
pub(super) const OPENVINO_PRECISION: &str = "precision";

/// The folder of OpenVINO's compiled models.
pub(super) const OPENVINO_CACHE: &str = "cache_dir";

/// The kind of device that OpenVINO runs on.
pub(super) const OPENVINO_DEVICE: &str = "device_type";

/// As ONNX Runtime's documentation names them. Those of `plugin::PROPERTIES` are properties of OpenVINO.
pub(super) const OPENVINO: &[(&str, ValueKind)] = &[
    (OPENVINO_CACHE, Text),
    (OPENVINO_DEVICE, Word(&["CPU", "GPU", "NPU"])),
    (EP_CONTEXT, Flag),
    ("num_of_threads", Number),
    ("num_streams", Number),
    ("performance_hint", Word(&["LATENCY", "THROUGHPUT"])),
    (OPENVINO_PRECISION, Word(&["FP32", "FP16", "BF16"])),
    ("reshape_input", Text),
];

/// Triton's names that differ from ONNX Runtime's.
pub(super) const RENAMED: [(&str, &str); 3] = [
    ("max_workspace_size_bytes", "trt_max_workspace_size"),
    ("int8_calibration_table_name", "trt_int8_calibration_table_name"),
    ("int8_use_native_calibration_table", "trt_int8_use_native_calibration_table"),
];

/// Options that make a provider read or write files, or load code.
pub(super) const FILE_OPTIONS: [&str; 17] = [
    OPENVINO_CACHE,
    EP_CONTEXT,
    "int8_calibration_table_name",
    "nv_dump_subgraphs",
    "nv_enable_profiling",
    "nv_profiling_output_file",
    "nv_runtime_cache_path",
    "trt_dump_ep_context_model",
    "trt_dump_subgraphs",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_ep_context_file_path",
    "trt_extra_plugin_lib_paths",
    "trt_int8_calibration_table_name",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
];

/// Whether an option with this value makes a provider read or write files, or load code.
pub fn touches_files(name: &str, value: &str) -> bool {
    let mut tables = [TENSORRT, TENSORRT_RTX, OPENVINO].into_iter().flatten();
    let is_flag = tables.any(|(known, kind)| *known == name && matches!(kind, Flag));
    let is_off = is_flag && read(Flag, value.trim()).is_ok_and(|flag| flag == "0");
    FILE_OPTIONS.contains(&name) && !is_off
}

/// A value in ONNX Runtime's spelling.
pub(super) fn read(kind: ValueKind, value: &str) -> Result<String, OptionError> {
    match kind {
        Flag => match value.to_ascii_lowercase().as_str() {
            "1" | "true" => Ok("1".into()),
            "0" | "false" => Ok("0".into()),
            _ => Err(OptionError::Value("takes true or false".into())),
        },
        Number => match value.parse::<i128>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(OptionError::Value("takes a whole number".into())),
        },
        Text if value.is_empty() => Err(OptionError::Value("takes a text".into())),
        Text => Ok(value.to_owned()),
        Word(words) => words
            .iter()
            .enumerate()
            .find(|(index, word)| word.eq_ignore_ascii_case(value) || index.to_string() == value)
            .map(|(_, word)| (*word).to_owned())
            .ok_or_else(|| OptionError::Value(format!("takes {} (0 to {})", words.join(", "), words.len() - 1))),
    }
}
