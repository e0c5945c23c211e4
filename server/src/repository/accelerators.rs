//! The accelerators of a model's configuration: providers, their options, and the shapes to expect.

use std::collections::BTreeMap;

use quintet_proto::inference::{
    ModelConfig, ModelInstanceGroup, ModelTensorReshape, model_config::SchedulingChoice, model_instance_group::Kind,
    model_optimization_policy::execution_accelerators::Accelerator as Configured,
};

use super::error::ConfigError;
use crate::backend::onnx::{Accelerator, OptionError, Plugin, Profile, Provider, ProviderOptions, Tuning};

/// Parameters of a model that Triton's ONNX Runtime backend uses as options of CUDA.
pub(super) const CUDA_PARAMETERS: [&str; 4] =
    ["arena_extend_strategy", "cudnn_conv_algo_search", "do_copy_in_default_stream", "gpu_mem_limit"];

/// The providers that a configuration requests, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// From the instance groups, and those that are accelerators.
    pub(super) providers: Vec<Provider>,
    /// Whether the first is requested by name, and not only used if it is available.
    pub(super) is_explicit: bool,
}

/// The providers that a configuration requests: without an instance group a GPU, if there is one.
pub(super) fn wanted(config: &ModelConfig) -> Wanted {
    let on_cpu = accelerators(config).into_iter().filter(|it| it.on_cpu).filter_map(|it| provider(it.kind?));
    let on_cpu = on_cpu.chain([Provider::Cpu]);
    if !wants_gpu(&config.instance_group) {
        return Wanted { providers: on_cpu.collect(), is_explicit: true };
    }
    let gpu: Vec<_> =
        accelerators(config).into_iter().filter(|it| !it.on_cpu).filter_map(|it| provider(it.kind?)).collect();
    let names_gpu = config.instance_group.iter().any(|group| group.kind() == Kind::Gpu);
    Wanted {
        is_explicit: !gpu.is_empty() || names_gpu,
        providers: gpu.into_iter().chain([Provider::Cuda]).chain(on_cpu).collect(),
    }
}

/// The provider of an accelerator; CUDA is one in any case.
fn provider(accelerator: Accelerator) -> Option<Provider> {
    match accelerator {
        Accelerator::TensorRt => Some(Provider::TensorRt),
        Accelerator::TensorRtRtx => Some(Provider::Plugin(Plugin::TensorRtRtx)),
        Accelerator::OpenVino => Some(Provider::Plugin(Plugin::OpenVino)),
        Accelerator::Cuda => None,
    }
}

/// Whether any instance is to run on a GPU.
fn wants_gpu(groups: &[ModelInstanceGroup]) -> bool {
    groups.is_empty() || groups.iter().any(|group| matches!(group.kind(), Kind::Gpu | Kind::Auto))
}

/// An accelerator of a configuration.
struct Listed<'a> {
    on_cpu: bool,
    kind: Option<Accelerator>,
    configured: &'a Configured,
}

impl Listed<'_> {
    fn list(&self) -> &'static str {
        if self.on_cpu { "cpu_execution_accelerator" } else { "gpu_execution_accelerator" }
    }

    /// Its place in the configuration.
    fn field(&self) -> String {
        format!("optimization.execution_accelerators.{} \"{}\"", self.list(), self.configured.name)
    }

    /// The field of an option.
    fn option(&self, name: &str) -> String {
        format!("{}.parameters[\"{name}\"]", self.list())
    }
}

/// The accelerators of a configuration, those of the GPU first.
fn accelerators(config: &ModelConfig) -> Vec<Listed<'_>> {
    let optimization = config.optimization.as_ref();
    let Some(lists) = optimization.and_then(|optimization| optimization.execution_accelerators.as_ref()) else {
        return Vec::new();
    };
    let gpu = lists.gpu_execution_accelerator.iter().map(|configured| Listed {
        on_cpu: false,
        kind: Accelerator::on_gpu(&configured.name),
        configured,
    });
    let cpu = lists.cpu_execution_accelerator.iter().map(|configured| Listed {
        on_cpu: true,
        kind: Accelerator::on_cpu(&configured.name),
        configured,
    });
    gpu.chain(cpu).collect()
}

/// The providers that accelerators ask for, each with its place in the configuration.
pub(super) fn asked(config: &ModelConfig) -> Vec<(Provider, String)> {
    accelerators(config).iter().filter_map(|it| Some((provider(it.kind?)?, it.field()))).collect()
}

/// The options of all accelerators, each as field, name and value.
pub(super) fn options(config: &ModelConfig) -> Vec<(String, &str, &str)> {
    let all = accelerators(config);
    let options = all.iter().flat_map(|it| {
        it.configured.parameters.iter().map(|(name, value)| (it.option(name), name.as_str(), value.as_str()))
    });
    options.collect()
}

/// Applies the options of accelerators to the tuning. Returns the fields that have no effect.
///
/// # Errors
/// For an unknown option, with the most similar known one, or a value that it does not take.
pub(super) fn tune(config: &ModelConfig, tuning: &mut Tuning) -> Result<Vec<String>, ConfigError> {
    let mut without_effect = Vec::new();
    for name in CUDA_PARAMETERS {
        if let Some(value) = config.parameters.get(name) {
            let field = format!("parameters[\"{name}\"]");
            without_effect.extend(set(&mut tuning.cuda, Accelerator::Cuda, name, &value.string_value, &field)?);
        }
    }
    for accelerator in accelerators(config) {
        let is_used = accelerator.on_cpu || wants_gpu(&config.instance_group);
        let Some(kind) = accelerator.kind.filter(|_| is_used) else {
            without_effect.push(accelerator.field());
            continue;
        };
        let options = match kind {
            Accelerator::Cuda => &mut tuning.cuda,
            Accelerator::TensorRt => &mut tuning.tensorrt,
            Accelerator::TensorRtRtx => &mut tuning.tensorrt_rtx,
            Accelerator::OpenVino => &mut tuning.openvino,
        };
        let parameters: BTreeMap<_, _> = accelerator.configured.parameters.iter().collect();
        for (name, value) in parameters {
            let field = accelerator.option(name);
            without_effect.extend(set(options, kind, name, value, &field)?);
        }
    }
    Ok(without_effect)
}

/// Sets one option. Returns its field if it cannot have an effect here.
fn set(
    options: &mut ProviderOptions,
    accelerator: Accelerator,
    name: &str,
    value: &str,
    field: &str,
) -> Result<Option<String>, ConfigError> {
    let wrong = |what: String| ConfigError::Contradiction(format!("field '{field}' {what}"));
    match options.set(accelerator, name, value) {
        Ok(()) => Ok(None),
        Err(OptionError::Unusable(why)) => Ok(Some(format!("{field} ({why})"))),
        Err(OptionError::Value(takes)) => Err(wrong(format!("{takes}, not '{value}'"))),
        Err(OptionError::Unknown) => {
            let near = accelerator.option_names().min_by_key(|known| strsim::damerau_levenshtein(known, name));
            Err(wrong(format!("is unknown; did you mean '{}'?", near.unwrap_or_default())))
        }
    }
}

/// The shapes to expect for a configuration. `auto_complete` is the maximum batch size of an empty one.
pub(super) fn profile(config: &ModelConfig, auto_complete: Option<i32>) -> Profile {
    let is_empty = config.max_batch_size == 0 && config.input.is_empty() && config.output.is_empty();
    let max_batch_size = if is_empty { auto_complete.unwrap_or(0) } else { config.max_batch_size };
    let preferred = match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(dynamic)) => dynamic.preferred_batch_size.iter().max().copied(),
        _ => None,
    };
    let size = |size: i32| usize::try_from(size).unwrap_or(0);
    let dims = |dims: &[i64], reshape: Option<&ModelTensorReshape>| {
        let dims = reshape.map_or(dims, |reshape| &reshape.shape);
        dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
    };
    let inputs = config.input.iter().map(|input| (input.name.clone(), dims(&input.dims, input.reshape.as_ref())));
    Profile {
        opt_batch_size: size(preferred.unwrap_or(max_batch_size)),
        max_batch_size: size(max_batch_size),
        dims: inputs.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::parse_config;

    fn tuned(text: &str) -> Result<(Tuning, Vec<String>), String> {
        let mut tuning = Tuning::default();
        let without_effect = tune(&parse_config(text, "m").unwrap(), &mut tuning).map_err(|error| error.to_string())?;
        Ok((tuning, without_effect))
    }

    fn accelerator(name: &str, parameters: &[(&str, &str)]) -> String {
        let parameters =
            parameters.iter().map(|(key, value)| format!("parameters {{ key: \"{key}\" value: \"{value}\" }}"));
        let parameters: Vec<_> = parameters.collect();
        format!(
            "optimization {{ execution_accelerators {{ gpu_execution_accelerator [ {{ name: \"{name}\" {} }} ] }} }}",
            parameters.join(" ")
        )
    }

    #[test]
    fn instance_groups_and_accelerators_choose_the_providers() {
        let chosen = |text: &str| {
            let Wanted { providers, is_explicit } = wanted(&parse_config(text, "m").unwrap());
            (providers, is_explicit)
        };
        let (tensorrt, cuda, cpu) = (Provider::TensorRt, Provider::Cuda, Provider::Cpu);
        let accelerated = accelerator("tensorrt", &[]);
        assert_eq!(chosen(""), (vec![cuda, cpu], false));
        assert_eq!(chosen("instance_group { kind: KIND_CPU }"), (vec![cpu], true));
        assert_eq!(chosen("instance_group { kind: KIND_GPU gpus: 0 }"), (vec![cuda, cpu], true));
        assert_eq!(chosen(&accelerated), (vec![tensorrt, cuda, cpu], true));
        assert_eq!(chosen(&format!("instance_group {{ kind: KIND_CPU }} {accelerated}")), (vec![cpu], true));
        let (rtx, openvino) = (Provider::Plugin(Plugin::TensorRtRtx), Provider::Plugin(Plugin::OpenVino));
        assert_eq!(chosen(&accelerator("tensorrt-rtx", &[])), (vec![rtx, cuda, cpu], true));
        let accelerated = accelerator("openvino", &[]).replace("gpu_", "cpu_");
        assert_eq!(chosen(&accelerated), (vec![cuda, openvino, cpu], false));
        let on_cpu = format!("instance_group {{ kind: KIND_CPU }} {accelerated}");
        assert_eq!(chosen(&on_cpu), (vec![openvino, cpu], true));
    }

    #[test]
    fn passes_options_to_their_providers() {
        let (tuning, without_effect) = tuned(&accelerator(
            "tensorrt",
            &[("precision_mode", "FP16"), ("trt_engine_cache_enable", "true"), ("trt_engine_cache_path", "/cache")],
        ))
        .unwrap();
        assert_eq!(tuning.tensorrt.precision(), Some("FP16"));
        assert_eq!(tuning.tensorrt.get("trt_engine_cache_path"), Some("/cache"));
        assert!(without_effect.is_empty());
        let (tuning, _) = tuned(&accelerator("cuda", &[("use_tf32", "0"), ("arena_extend_strategy", "1")])).unwrap();
        assert_eq!(tuning.cuda.get("use_tf32"), Some("0"));
        assert_eq!(tuning.cuda.get("cudnn_conv_algo_search"), Some("HEURISTIC"));
        let openvino = accelerator("openvino", &[("num_streams", "2")]).replace("gpu_", "cpu_");
        let (tuning, without_effect) = tuned(&openvino).unwrap();
        assert_eq!((tuning.openvino.get("num_streams"), tuning.openvino.get("precision")), (Some("2"), Some("FP32")));
        assert!(without_effect.is_empty());
        let old = "parameters { key: \"cudnn_conv_algo_search\" value { string_value: \"0\" } }";
        assert_eq!(tuned(old).unwrap().0.cuda.get("cudnn_conv_algo_search"), Some("EXHAUSTIVE"));
    }

    #[test]
    fn rejects_an_unknown_option_and_suggests_a_similar_one() {
        let refusal = |name, parameter| tuned(&accelerator(name, &[parameter])).unwrap_err();
        let refusals = [
            refusal("tensorrt", ("precison_mode", "FP16")),
            refusal("tensorrt", ("engine_cache_path", "/cache")),
            refusal("tensorrt", ("precision_mode", "FP8")),
            refusal("cuda", ("cudnn_conv_algo", "1")),
            refusal("cuda", ("gpu_mem_limit", "4 GB")),
            refusal("tensorrt-rtx", ("nv_runtime_cache", "/cache")),
            tuned(&accelerator("openvino", &[("num_threads", "2")]).replace("gpu_", "cpu_")).unwrap_err(),
        ];
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        field 'gpu_execution_accelerator.parameters["precison_mode"]' is unknown; did you mean 'precision_mode'?
        field 'gpu_execution_accelerator.parameters["engine_cache_path"]' is unknown; did you mean 'trt_engine_cache_path'?
        field 'gpu_execution_accelerator.parameters["precision_mode"]' takes FP32, FP16, BF16 or INT8, not 'FP8'
        field 'gpu_execution_accelerator.parameters["cudnn_conv_algo"]' is unknown; did you mean 'cudnn_conv_algo_search'?
        field 'gpu_execution_accelerator.parameters["gpu_mem_limit"]' takes a whole number, not '4 GB'
        field 'gpu_execution_accelerator.parameters["nv_runtime_cache"]' is unknown; did you mean 'nv_runtime_cache_path'?
        field 'cpu_execution_accelerator.parameters["num_threads"]' is unknown; did you mean 'num_of_threads'?
        "#);
    }

    #[test]
    fn names_fields_without_effect_with_the_reason() {
        let without_effect = |text: &str| tuned(text).unwrap().1;
        let named = [
            without_effect(&accelerator("tensorrt", &[("trt_cuda_graph_enable", "1")])),
            without_effect(&accelerator("auto_io_binding", &[])),
            without_effect(&format!(
                "instance_group {{ kind: KIND_CPU }} {}",
                accelerator("tensorrt", &[("any", "1")])
            )),
            without_effect(
                "optimization { execution_accelerators { cpu_execution_accelerator [ { name: \"tvm\" } ] } }",
            ),
        ];
        insta::assert_snapshot!(named.concat().join("\n"), @r#"
        gpu_execution_accelerator.parameters["trt_cuda_graph_enable"] (ONNX Runtime's TensorRT provider keeps one CUDA graph for a session and replays it for batches of any shape)
        optimization.execution_accelerators.gpu_execution_accelerator "auto_io_binding"
        optimization.execution_accelerators.gpu_execution_accelerator "tensorrt"
        optimization.execution_accelerators.cpu_execution_accelerator "tvm"
        "#);
    }

    #[test]
    fn the_profile_covers_the_largest_batch_and_is_optimal_at_the_largest_preferred_one() {
        let profile_of = |text: &str| profile(&parse_config(text, "m").unwrap(), Some(4));
        assert_eq!((profile_of("").opt_batch_size, profile_of("").max_batch_size), (4, 4));
        let seed = profile_of(
            "max_batch_size: 32 dynamic_batching { preferred_batch_size: [ 4, 8, 16 ] }
            input { name: \"image\" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }",
        );
        assert_eq!((seed.opt_batch_size, seed.max_batch_size), (16, 32));
        assert_eq!(seed.dims["image"], [Some(3), Some(224), Some(224)]);
    }
}
