//! Options of the GPU providers: the names and values of Triton's ONNX Runtime backend, to ONNX Runtime's own.

use std::{collections::BTreeMap, fmt};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider as _};
use quintet_onnxruntime::CUDA_DEFAULTS;

/// Options of a provider under ONNX Runtime's names, each with a value that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions(BTreeMap<&'static str, String>);

/// An option that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// There is no option of this name.
    Unknown,
    /// The value is none that it takes: what it takes.
    Value(String),
    /// The option is known, but would do harm here: why.
    Unusable(&'static str),
}

/// A provider that has options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    TensorRt,
}

/// What an option's value may be.
#[derive(Clone, Copy)]
enum Takes {
    Flag,
    Number,
    Text,
    /// One of these words, or its place in the list.
    Word(&'static [&'static str]),
}

use Takes::{Flag, Number, Text, Word};

const PRECISION: &str = "precision_mode";

const CUDA_GRAPH: &str = "enable_cuda_graph";

/// `TensorrtExecutionProvider::IsGraphCaptured` asks for no shape.
const ONE_GRAPH: &str =
    "ONNX Runtime's TensorRT provider keeps one CUDA graph for a session, and replays it whatever the batch";

const CUDA: &[(&str, Takes)] = &[
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

const TENSORRT: &[(&str, Takes)] = &[
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

/// Triton's names that differ from ONNX Runtime's.
const RENAMED: [(&str, &str); 3] = [
    ("max_workspace_size_bytes", "trt_max_workspace_size"),
    ("int8_calibration_table_name", "trt_int8_calibration_table_name"),
    ("int8_use_native_calibration_table", "trt_int8_use_native_calibration_table"),
];

/// Options that make a provider read or write files, or load code.
const OF_FILES: [&str; 11] = [
    "int8_calibration_table_name",
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
    let is_flag = TENSORRT.iter().any(|(known, takes)| *known == name && matches!(takes, Flag));
    let is_off = is_flag && read(Flag, value.trim()).is_ok_and(|flag| flag == "0");
    OF_FILES.contains(&name) && !is_off
}

impl Accelerator {
    /// Its name in `gpu_execution_accelerator`, if there is one of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cuda" => Some(Self::Cuda),
            "tensorrt" => Some(Self::TensorRt),
            _ => None,
        }
    }

    /// The names of its options, as a configuration writes them.
    pub fn option_names(self) -> impl Iterator<Item = &'static str> {
        let (table, more) = match self {
            Self::Cuda => (CUDA, None),
            Self::TensorRt => (TENSORRT, Some(PRECISION)),
        };
        let renamed = RENAMED.iter().filter(move |_| self == Self::TensorRt).map(|(triton, _)| *triton);
        table.iter().map(|(name, _)| *name).chain(more).chain(renamed)
    }
}

impl ProviderOptions {
    /// CUDA's, as [`CUDA_DEFAULTS`] has them.
    pub fn cuda() -> Self {
        Self(CUDA_DEFAULTS.map(|(name, value)| (name, value.into())).into())
    }

    /// Sets an option by Triton's name or ONNX Runtime's.
    ///
    /// # Errors
    /// When there is none, the value is none that it takes, or it would do harm.
    pub fn set(&mut self, accelerator: Accelerator, name: &str, value: &str) -> Result<(), OptionError> {
        let value = value.trim();
        if accelerator == Accelerator::TensorRt && name == PRECISION {
            return self.set_precision(value);
        }
        let table = match accelerator {
            Accelerator::Cuda => CUDA,
            Accelerator::TensorRt => TENSORRT,
        };
        let own = RENAMED.iter().find(|(triton, _)| *triton == name).map_or(name, |(_, own)| own);
        let &(name, takes) = table.iter().find(|(known, _)| *known == own).ok_or(OptionError::Unknown)?;
        let value = read(takes, value)?;
        if name == "trt_cuda_graph_enable" && value == "1" {
            return Err(OptionError::Unusable(ONE_GRAPH));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Sets an option by ONNX Runtime's name unless it is set.
    pub(crate) fn set_default(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.entry(name).or_insert_with(|| value.into());
    }

    /// Takes an option back, by ONNX Runtime's name.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The same, but no CUDA graph is recorded.
    pub(super) fn without_graphs(&self) -> Self {
        let mut options = self.clone();
        options.0.retain(|&name, value| name != CUDA_GRAPH || value == "0");
        options
    }

    /// The value of an option, by ONNX Runtime's name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// FP16, unless something is said of the precision.
    pub fn prefer_fp16(&mut self) {
        if ["trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"].iter().all(|name| self.get(name).is_none()) {
            self.set_default("trt_fp16_enable", "1");
        }
    }

    /// What is computed in where the model's own type is a wider one; `None` if nothing is narrowed.
    pub fn precision(&self) -> Option<&'static str> {
        let is_on = |name: &str| self.get(name) == Some("1");
        let narrower = [
            ("trt_int8_enable", "INT8"),
            ("trt_fp16_enable", "FP16"),
            ("trt_bf16_enable", "BF16"),
            ("use_tf32", "TF32"),
        ];
        narrower.into_iter().find(|(name, _)| is_on(name)).map(|(_, precision)| precision)
    }

    fn set_precision(&mut self, value: &str) -> Result<(), OptionError> {
        const MODES: [(&str, &str); 4] =
            [("FP32", ""), ("FP16", "trt_fp16_enable"), ("BF16", "trt_bf16_enable"), ("INT8", "trt_int8_enable")];
        let wrong = || OptionError::Value("takes FP32, FP16, BF16 or INT8".into());
        let (_, chosen) = MODES.into_iter().find(|(mode, _)| mode.eq_ignore_ascii_case(value)).ok_or_else(wrong)?;
        for (_, flag) in MODES.into_iter().filter(|(_, flag)| !flag.is_empty()) {
            self.0.insert(flag, u8::from(flag == chosen).to_string());
        }
        Ok(())
    }

    pub(super) fn on_cuda(&self, device: i32) -> ep::CUDA {
        let provider = ep::CUDA::default().with_device_id(device);
        self.0.iter().fold(provider, |provider, (name, value)| provider.with_arbitrary_config(name, value))
    }

    pub(super) fn on_tensorrt(&self, device: i32) -> ep::TensorRT {
        let provider = ep::TensorRT::default().with_device_id(device);
        self.0.iter().fold(provider, |provider, (name, value)| provider.with_arbitrary_config(name, value))
    }
}

/// One option a line, `name=value`.
impl fmt::Display for ProviderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name}={value}"))
    }
}

/// A value in ONNX Runtime's spelling.
fn read(takes: Takes, value: &str) -> Result<String, OptionError> {
    match takes {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(accelerator: Accelerator, pairs: &[(&str, &str)]) -> String {
        let mut options = match accelerator {
            Accelerator::Cuda => ProviderOptions::cuda(),
            Accelerator::TensorRt => ProviderOptions::default(),
        };
        pairs.iter().for_each(|(name, value)| options.set(accelerator, name, value).unwrap());
        options.to_string()
    }

    #[test]
    fn cudas_options_reach_onnx_runtime_under_its_names() {
        insta::assert_snapshot!(ProviderOptions::cuda().to_string(), @r"
        cudnn_conv_algo_search=HEURISTIC
        use_tf32=1
        ");
        let given = [
            ("cudnn_conv_algo_search", "0"),
            ("arena_extend_strategy", "1"),
            ("gpu_mem_limit", "4294967200"),
            ("do_copy_in_default_stream", "true"),
            ("use_tf32", "false"),
            ("enable_cuda_graph", "0"),
        ];
        insta::assert_snapshot!(set(Accelerator::Cuda, &given), @r"
        arena_extend_strategy=kSameAsRequested
        cudnn_conv_algo_search=EXHAUSTIVE
        do_copy_in_default_stream=1
        enable_cuda_graph=0
        gpu_mem_limit=4294967200
        use_tf32=0
        ");
    }

    #[test]
    fn tensorrts_options_have_tritons_names() {
        let given = [
            ("precision_mode", "fp16"),
            ("max_workspace_size_bytes", "1073741824"),
            ("trt_engine_cache_enable", "true"),
            ("trt_engine_cache_path", "/cache"),
            ("trt_profile_min_shapes", "x:1x3x224x224"),
            ("int8_calibration_table_name", "t"),
        ];
        insta::assert_snapshot!(set(Accelerator::TensorRt, &given), @r"
        trt_bf16_enable=0
        trt_engine_cache_enable=1
        trt_engine_cache_path=/cache
        trt_fp16_enable=1
        trt_int8_calibration_table_name=t
        trt_int8_enable=0
        trt_max_workspace_size=1073741824
        trt_profile_min_shapes=x:1x3x224x224
        ");
    }

    #[test]
    fn what_is_unknown_wrong_or_harmful_is_refused() {
        let refusal = |accelerator, name, value| ProviderOptions::default().set(accelerator, name, value).unwrap_err();
        assert_eq!(refusal(Accelerator::TensorRt, "max_batch", "8"), OptionError::Unknown);
        assert_eq!(refusal(Accelerator::Cuda, "precision_mode", "FP16"), OptionError::Unknown);
        let value = |what: &str| OptionError::Value(what.into());
        assert_eq!(refusal(Accelerator::TensorRt, "precision_mode", "FP8"), value("takes FP32, FP16, BF16 or INT8"));
        assert_eq!(
            refusal(Accelerator::Cuda, "cudnn_conv_algo_search", "3"),
            value("takes EXHAUSTIVE, HEURISTIC, DEFAULT (0 to 2)")
        );
        assert_eq!(refusal(Accelerator::Cuda, "gpu_mem_limit", "4GB"), value("takes a whole number"));
        assert_eq!(refusal(Accelerator::TensorRt, "trt_cuda_graph_enable", "1"), OptionError::Unusable(ONE_GRAPH));
    }

    #[test]
    fn the_precision_is_fp16_unless_it_is_said() {
        let mut options = ProviderOptions::default();
        options.prefer_fp16();
        assert_eq!(options.precision(), Some("FP16"));
        let mut options = ProviderOptions::default();
        options.set(Accelerator::TensorRt, "precision_mode", "FP32").unwrap();
        options.prefer_fp16();
        assert_eq!(options.precision(), None);
        assert_eq!(ProviderOptions::cuda().precision(), Some("TF32"));
    }

    #[test]
    fn every_text_is_known_to_be_of_files_or_not() {
        const OTHERS: [&str; 4] =
            ["trt_profile_max_shapes", "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_tactic_sources"];
        let texts = CUDA.iter().chain(TENSORRT).filter(|(_, takes)| matches!(takes, Text)).map(|(name, _)| *name);
        for name in texts {
            assert_ne!(OTHERS.contains(&name), touches_files(name, "x"), "{name}");
        }
        for name in OF_FILES {
            assert!(Accelerator::TensorRt.option_names().any(|known| known == name), "{name}");
        }
        assert!(touches_files("trt_dump_subgraphs", "1") && !touches_files("trt_dump_subgraphs", " false"));
        assert!(touches_files("trt_engine_cache_path", "0"));
    }

    #[test]
    fn every_name_can_be_set() {
        for accelerator in [Accelerator::Cuda, Accelerator::TensorRt] {
            for name in accelerator.option_names() {
                let taken = ["0", "FP16"].map(|value| ProviderOptions::default().set(accelerator, name, value));
                assert!(taken.contains(&Ok(())), "{name}");
            }
        }
    }
}
