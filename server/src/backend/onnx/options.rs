//! Options of the providers: maps the names and values of Triton's ONNX Runtime backend to ONNX Runtime's.

use std::{collections::BTreeMap, fmt};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider as _};
use quintet_onnxruntime::CUDA_DEFAULTS;

use super::option_table::{
    CUDA, CUDA_GRAPH, ONE_GRAPH, OPENVINO, OPENVINO_PRECISION, OptionError, PRECISION, RENAMED, TENSORRT, TENSORRT_RTX,
    UNCHECKED_GRAPH, ValueKind, read,
};

/// Options of a provider under ONNX Runtime's names, with valid values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions(BTreeMap<&'static str, String>);

/// A provider that has options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA TensorRT for RTX.
    TensorRtRtx,
    /// Intel OpenVINO.
    OpenVino,
}

impl Accelerator {
    /// The accelerator with this name in `gpu_execution_accelerator`.
    pub fn on_gpu(name: &str) -> Option<Self> {
        match name {
            "cuda" => Some(Self::Cuda),
            "tensorrt" => Some(Self::TensorRt),
            "tensorrt-rtx" => Some(Self::TensorRtRtx),
            _ => None,
        }
    }

    /// The accelerator with this name in `cpu_execution_accelerator`.
    pub fn on_cpu(name: &str) -> Option<Self> {
        (name == "openvino").then_some(Self::OpenVino)
    }

    fn table(self) -> &'static [(&'static str, ValueKind)] {
        match self {
            Self::Cuda => CUDA,
            Self::TensorRt => TENSORRT,
            Self::TensorRtRtx => TENSORRT_RTX,
            Self::OpenVino => OPENVINO,
        }
    }

    /// The names of its options in a configuration.
    pub fn option_names(self) -> impl Iterator<Item = &'static str> {
        let precision = (self == Self::TensorRt).then_some(PRECISION);
        let renamed = RENAMED.iter().filter(move |_| self == Self::TensorRt).map(|(triton, _)| *triton);
        self.table().iter().map(|(name, _)| *name).chain(precision).chain(renamed)
    }
}

impl ProviderOptions {
    /// CUDA's defaults, from [`CUDA_DEFAULTS`].
    pub fn cuda() -> Self {
        Self(CUDA_DEFAULTS.map(|(name, value)| (name, value.into())).into())
    }

    /// OpenVINO's defaults: the numbers of the model. OpenVINO's own default is BF16 where the processor has it.
    pub fn openvino() -> Self {
        Self([(OPENVINO_PRECISION, "FP32".to_owned())].into())
    }

    /// Sets an option by Triton's name or ONNX Runtime's.
    ///
    /// # Errors
    /// When the option is unknown, does not take the value, or must not be used.
    pub fn set(&mut self, accelerator: Accelerator, name: &str, value: &str) -> Result<(), OptionError> {
        let value = value.trim();
        if accelerator == Accelerator::TensorRt && name == PRECISION {
            return self.set_precision(value);
        }
        let table = accelerator.table();
        let own = RENAMED.iter().find(|(triton, _)| *triton == name).map_or(name, |(_, own)| own);
        let &(name, takes) = table.iter().find(|(known, _)| *known == own).ok_or(OptionError::Unknown)?;
        let value = read(takes, value)?;
        if name == "trt_cuda_graph_enable" && value == "1" {
            return Err(OptionError::Unusable(ONE_GRAPH));
        }
        if accelerator == Accelerator::TensorRtRtx && name == CUDA_GRAPH && value == "1" {
            return Err(OptionError::Unusable(UNCHECKED_GRAPH));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Sets an option by ONNX Runtime's name unless it is set.
    pub(crate) fn set_default(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.entry(name).or_insert_with(|| value.into());
    }

    /// Removes an option, by ONNX Runtime's name.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The same options without CUDA graphs.
    pub(super) fn without_graphs(&self) -> Self {
        let mut options = self.clone();
        options.0.retain(|&name, value| name != CUDA_GRAPH || value == "0");
        options
    }

    /// The value of an option, by ONNX Runtime's name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets FP16, unless an option for the precision is set.
    pub fn prefer_fp16(&mut self) {
        if ["trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"].iter().all(|name| self.get(name).is_none()) {
            self.set_default("trt_fp16_enable", "1");
        }
    }

    /// The precision of the computation if it is lower than the model's own.
    pub fn precision(&self) -> Option<&'static str> {
        let is_on = |name: &str| self.get(name) == Some("1");
        let narrower = [
            ("trt_int8_enable", "INT8"),
            ("trt_fp16_enable", "FP16"),
            ("trt_bf16_enable", "BF16"),
            ("use_tf32", "TF32"),
        ];
        let of_openvino = match self.get(OPENVINO_PRECISION) {
            Some("FP16") => Some("FP16"),
            Some("BF16") => Some("BF16"),
            _ => None,
        };
        narrower.into_iter().find(|(name, _)| is_on(name)).map(|(_, precision)| precision).or(of_openvino)
    }

    /// Names and values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
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

/// One `name=value` on each line.
impl fmt::Display for ProviderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::onnx::option_table::{FILE_OPTIONS, ValueKind::Text, touches_files};

    const ALL: [Accelerator; 4] =
        [Accelerator::Cuda, Accelerator::TensorRt, Accelerator::TensorRtRtx, Accelerator::OpenVino];

    fn set(accelerator: Accelerator, pairs: &[(&str, &str)]) -> String {
        let mut options = match accelerator {
            Accelerator::Cuda => ProviderOptions::cuda(),
            Accelerator::OpenVino => ProviderOptions::openvino(),
            Accelerator::TensorRt | Accelerator::TensorRtRtx => ProviderOptions::default(),
        };
        pairs.iter().for_each(|(name, value)| options.set(accelerator, name, value).unwrap());
        options.to_string()
    }

    #[test]
    fn sets_cudas_options_under_onnx_runtimes_names() {
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
    fn accepts_tritons_names_of_tensorrts_options() {
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
    fn refuses_unknown_wrong_and_unusable_options() {
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
    fn plugins_have_options_of_their_own() {
        let given =
            [("precision", "bf16"), ("num_of_threads", "2"), ("cache_dir", "/cache"), ("performance_hint", "latency")];
        insta::assert_snapshot!(set(Accelerator::OpenVino, &given), @r"
        cache_dir=/cache
        num_of_threads=2
        performance_hint=LATENCY
        precision=BF16
        ");
        let given =
            [("nv_max_workspace_size", "0"), ("nv_runtime_cache_path", "/cache"), ("enable_cuda_graph", "false")];
        insta::assert_snapshot!(set(Accelerator::TensorRtRtx, &given), @r"
        enable_cuda_graph=0
        nv_max_workspace_size=0
        nv_runtime_cache_path=/cache
        ");
        let refusal = |accelerator, name, value| ProviderOptions::default().set(accelerator, name, value).unwrap_err();
        // Addresses in memory, and a text that could name any property of OpenVINO.
        assert_eq!(refusal(Accelerator::TensorRtRtx, "user_compute_stream", "1"), OptionError::Unknown);
        assert_eq!(refusal(Accelerator::OpenVino, "load_config", "{}"), OptionError::Unknown);
        let value = OptionError::Value("takes FP32, FP16, BF16 (0 to 2)".into());
        assert_eq!(refusal(Accelerator::OpenVino, "precision", "INT8"), value);
        let unusable = OptionError::Unusable(UNCHECKED_GRAPH);
        assert_eq!(refusal(Accelerator::TensorRtRtx, "enable_cuda_graph", "1"), unusable);
        assert_eq!(ProviderOptions::openvino().precision(), None);
        let mut narrow = ProviderOptions::openvino();
        narrow.set(Accelerator::OpenVino, "precision", "FP16").unwrap();
        assert_eq!(narrow.precision(), Some("FP16"));
    }

    #[test]
    fn the_precision_is_fp16_unless_an_option_sets_it() {
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
    fn lists_every_option_that_names_a_file() {
        const OTHERS: [&str; 10] = [
            "nv_op_types_to_exclude",
            "nv_profile_max_shapes",
            "nv_profile_min_shapes",
            "nv_profile_opt_shapes",
            "nv_weight_streaming_budget",
            "reshape_input",
            "trt_profile_max_shapes",
            "trt_profile_min_shapes",
            "trt_profile_opt_shapes",
            "trt_tactic_sources",
        ];
        let tables = [CUDA, TENSORRT, TENSORRT_RTX, OPENVINO].into_iter().flatten();
        let texts = tables.filter(|(_, takes)| matches!(takes, Text)).map(|(name, _)| *name);
        for name in texts {
            assert_ne!(OTHERS.contains(&name), touches_files(name, "x"), "{name}");
        }
        for name in FILE_OPTIONS {
            assert!(ALL.into_iter().any(|it| it.option_names().any(|known| known == name)), "{name}");
        }
        assert!(touches_files("trt_dump_subgraphs", "1") && !touches_files("trt_dump_subgraphs", " false"));
        assert!(touches_files("trt_engine_cache_path", "0"));
        assert!(touches_files("ep_context_enable", "1") && !touches_files("ep_context_enable", "0"));
        assert!(touches_files("cache_dir", "x") && touches_files("nv_runtime_cache_path", "x"));
    }

    #[test]
    fn every_name_can_be_set() {
        for accelerator in ALL {
            for name in accelerator.option_names() {
                let taken = ["0", "FP16"].map(|value| ProviderOptions::default().set(accelerator, name, value));
                assert!(taken.contains(&Ok(())), "{name}");
            }
        }
    }
}
