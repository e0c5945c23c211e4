//! Checks a model's configuration against its file, and makes the engine's specification of them.

use quintet_engine::{ModelSettings, ModelSpec, SpecError, TensorSpec};
use quintet_preprocess::JpegDecode;
use quintet_proto::inference::ModelConfig;

use super::{
    backend::Backend,
    batching,
    defaults::{fill_in, set_defaults},
    error::ConfigError,
    fields,
    source::ModelSource,
    tensors::{Configured, LabelFiles},
    tuning,
};
use crate::{backend::reshape::Reshape, catalog::ServiceName, image_input::ImageInput, image_output};

/// The result of [`complete`].
#[derive(Clone, Debug)]
pub struct SpecDetails {
    /// The engine's specification of the model.
    pub spec: ModelSpec,
    /// The effective configuration, with defaults.
    pub config: ModelConfig,
    /// Fields of the configuration that have no effect here.
    pub without_effect: Vec<String>,
    /// For each input, from the client's shape to the model's.
    pub input_reshapes: Vec<Option<Reshape>>,
    /// For each output, from the model's shape to the client's.
    pub output_reshapes: Vec<Option<Reshape>>,
}

impl SpecDetails {
    /// Logs the fields that have no effect.
    pub(super) fn warn(&self, service: ServiceName, model: &str) {
        if !self.without_effect.is_empty() {
            let (service, fields) = (service.as_str(), self.without_effect.join(", "));
            tracing::warn!(service, model, fields, "fields of config.pbtxt that have no effect here");
        }
    }
}

/// Completes `config.pbtxt` from the model file's `inputs` and `outputs` (with their batch dimension) by Triton's
/// rules, and checks the other fields against them. `auto_complete` is the maximum batch size for a model that supports
/// batching and does not set one; without it, tensors must be listed.
///
/// # Errors
/// When configuration and model file contradict each other, the configuration is incomplete, or a label file cannot be
/// read.
pub fn complete(
    source: &ModelSource,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    auto_complete: Option<i32>,
) -> Result<SpecDetails, ConfigError> {
    let mut config = source.config.clone();
    let is_unbatched = config.max_batch_size == 0;
    let mut without_effect = fields::without_effect(&config)?;
    if Backend::of(&config) == Backend::OnnxRuntime {
        without_effect.extend(tuning::tuning(&config)?.1);
    } else if config.parameters.keys().all(|name| tuning::is_of_images(name)) {
        without_effect.retain(|field| field != "parameters");
    }
    if let Some(max_batch_size) = auto_complete {
        fill_in(&mut config, inputs, outputs, max_batch_size);
    } else if config.input.is_empty() || config.output.is_empty() {
        let message = "input and output must be listed: --disable-auto-complete-config is set";
        return Err(ConfigError::contradiction(message));
    }
    set_defaults(&mut config);
    let max_batch_size = usize::try_from(config.max_batch_size).map_err(|_| {
        ConfigError::contradiction(format_args!("max_batch_size is {}, below 0", config.max_batch_size))
    })?;
    let spec_inputs = check_inputs(&mut config, inputs, &mut without_effect)?;
    let mut labels = LabelFiles::new(&source.folder);
    if auto_complete.is_some() {
        without_effect.extend(labels.find(&mut config).err());
    }
    let spec_outputs = check_outputs(&config, outputs, labels)?;
    let mut required = inputs.iter().filter(|input| !input.optional);
    if let Some(missing) = required.find(|input| config.input.iter().all(|listed| listed.name != input.name)) {
        let message = format_args!("the model needs input '{}', which is not listed", missing.name);
        return Err(ConfigError::contradiction(message));
    }
    let spec = ModelSpec::new(
        &source.name,
        source.version,
        spec_inputs,
        spec_outputs,
        ModelSettings {
            policy: batching::policy(&config, max_batch_size),
            // An ensemble has no instance group.
            instances: tuning::instance_devices(&config.instance_group).len().max(1),
            warmup_batch_sizes: warmup_batch_sizes(&config, max_batch_size),
            batching_is_assumed: is_unbatched && max_batch_size > 0,
        },
    )
    .map_err(|error: SpecError| ConfigError::contradiction(error))?;
    ImageInput::new(&spec, &config.parameters, JpegDecode::Exact).map_err(ConfigError::contradiction)?;
    image_output::check(&spec, &config.parameters).map_err(ConfigError::contradiction)?;
    let input_reshapes = config.input.iter().map(|input| Configured::from(input).reshape()).collect();
    let to_client = |Reshape { from, to }| Reshape { from: to, to: from };
    let output_reshapes =
        config.output.iter().map(|output| Configured::from(output).reshape().map(to_client)).collect();
    Ok(SpecDetails { spec, config, without_effect, input_reshapes, output_reshapes })
}

/// The inputs that clients may send. Updates `optional` in the configuration.
fn check_inputs(
    config: &mut ModelConfig,
    model: &[TensorSpec],
    without_effect: &mut Vec<String>,
) -> Result<Vec<TensorSpec>, ConfigError> {
    let batches = config.max_batch_size > 0;
    let mut specs = Vec::with_capacity(config.input.len());
    for input in &mut config.input {
        let spec = Configured::from(&*input).check(model, batches)?;
        if input.optional && !spec.optional {
            without_effect.push(format!("input.optional (the model has no default for '{}')", input.name));
        }
        input.optional = spec.optional;
        specs.push(spec);
    }
    Ok(specs)
}

/// The outputs that clients may request, with their labels.
fn check_outputs(
    config: &ModelConfig,
    model: &[TensorSpec],
    mut labels: LabelFiles<'_>,
) -> Result<Vec<TensorSpec>, ConfigError> {
    let outputs = config.output.iter().map(|output| {
        let spec = Configured::from(output).check(model, config.max_batch_size > 0)?;
        Ok(TensorSpec { labels: labels.get(&output.label_filename)?, ..spec })
    });
    outputs.collect()
}

/// 1 and the maximum batch size; none if `model_warmup` has samples ([`super::warmup`]) or the model has no file.
fn warmup_batch_sizes(config: &ModelConfig, max_batch_size: usize) -> Vec<usize> {
    let warms = Backend::of(config).needs_file() && config.model_warmup.is_empty();
    if warms { vec![1, max_batch_size.max(1)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quintet_engine::DataType;
    use quintet_proto::inference::{model_config::SchedulingChoice, model_optimization_policy::PinnedMemoryBuffer};

    use super::*;
    use crate::repository::{AUTO_COMPLETE_MAX_BATCH_SIZE, parse_config, source::ConfigOrigin};

    fn completed(text: &str) -> Result<SpecDetails, ConfigError> {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config(text, "m").unwrap(),
            config_origin: ConfigOrigin::None,
        };
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None, Some(3)]);
        complete(&source, &[tensor("x")], &[tensor("y")], Some(AUTO_COMPLETE_MAX_BATCH_SIZE))
    }

    #[test]
    fn without_a_configuration_tritons_rules_apply() {
        let details = completed("").unwrap();
        assert_eq!(details.spec.policy().max_batch_size, 4);
        assert!(details.spec.policy().dynamic);
        assert_eq!(details.spec.inputs()[0].announced_shape(true), [-1, 3]);
        assert_eq!(details.config.instance_group[0].name, "m_0");
        let optimization = details.config.optimization.unwrap();
        assert_eq!(optimization.input_pinned_memory, Some(PinnedMemoryBuffer { enable: true }));
        let Some(SchedulingChoice::DynamicBatching(dynamic)) = details.config.scheduling_choice else { panic!() };
        assert_eq!(dynamic.preferred_batch_size, [4]);
    }

    #[test]
    fn parameters_of_images_have_an_effect_and_must_fit_the_model() {
        let completed = |value: &str| {
            let text = format!(
                "max_batch_size: 8 parameters {{ key: \"image_preprocess\" value {{ string_value: \"{value}\" }} }}"
            );
            let source = ModelSource {
                name: "m".into(),
                version: 1,
                model_file: PathBuf::new(),
                folder: PathBuf::new(),
                config: parse_config(text, "m").unwrap(),
                config_origin: ConfigOrigin::None,
            };
            let image = TensorSpec::new("x", DataType::Fp32, [None, Some(3), Some(64), Some(64)]);
            let output = TensorSpec::new("y", DataType::Fp32, [None, Some(3)]);
            complete(&source, &[image], &[output], Some(AUTO_COMPLETE_MAX_BATCH_SIZE))
        };
        assert!(completed("stretch").unwrap().without_effect.is_empty());
        assert_eq!(
            completed("stretched").unwrap_err().to_string(),
            "field 'parameters[\"image_preprocess\"]' takes torchvision, crop, stretch, letterbox, not 'stretched'"
        );
    }

    #[test]
    fn warms_one_and_the_largest_batch_without_model_warmup() {
        assert_eq!(completed("max_batch_size: 8").unwrap().spec.warmup_batch_sizes(), [1, 8]);
        assert!(
            completed("max_batch_size: 8 model_warmup { batch_size: 2 }").unwrap().spec.warmup_batch_sizes().is_empty()
        );
    }

    #[test]
    fn announces_a_scalar_row_as_one_element() {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config("", "m").unwrap(),
            config_origin: ConfigOrigin::None,
        };
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None]);
        let details = complete(&source, &[tensor("x")], &[tensor("y")], Some(AUTO_COMPLETE_MAX_BATCH_SIZE)).unwrap();
        assert_eq!(details.spec.inputs()[0].announced_shape(true), [-1, 1]);
        assert_eq!(details.input_reshapes, [Some(Reshape { from: vec![Some(1)], to: vec![] })]);
        assert_eq!(details.output_reshapes, [Some(Reshape { from: vec![], to: vec![Some(1)] })]);
    }

    #[test]
    fn an_input_is_optional_if_the_model_has_a_default_for_it() {
        let completed = |inputs: &str| {
            let source = ModelSource {
                name: "m".into(),
                version: 1,
                model_file: PathBuf::new(),
                folder: PathBuf::new(),
                config: parse_config(format!("max_batch_size: 8 {inputs}"), "m").unwrap(),
                config_origin: ConfigOrigin::None,
            };
            let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None, Some(3)]);
            let inputs = [tensor("x"), TensorSpec { optional: true, ..tensor("more") }];
            complete(&source, &inputs, &[tensor("y")], Some(AUTO_COMPLETE_MAX_BATCH_SIZE))
        };
        let names = |details: &SpecDetails| -> Vec<_> {
            details.spec.inputs().iter().map(|input| (input.name.clone(), input.optional)).collect()
        };
        assert_eq!(
            names(&completed("").unwrap()),
            [("x".to_owned(), false)],
            "an optional input is left out unless it is listed"
        );
        let listed = completed("input { name: \"more\" } input { name: \"x\" optional: true }").unwrap();
        assert_eq!(names(&listed), [("more".to_owned(), true), ("x".to_owned(), false)]);
        assert_eq!(listed.without_effect, ["input.optional (the model has no default for 'x')"]);
        let optional: Vec<_> = listed.config.input.iter().map(|input| input.optional).collect();
        assert_eq!(optional, [true, false], "the effective configuration is corrected");
        let error = completed("input { name: \"more\" optional: true }").unwrap_err();
        assert_eq!(error.to_string(), "the model needs input 'x', which is not listed");
    }

    #[test]
    fn a_reshape_must_fit_the_model_and_the_dims() {
        let input = |rest: &str| format!("max_batch_size: 8 input {{ name: \"x\" data_type: TYPE_FP32 {rest} }}");
        let details = completed(&input("dims: [ 1, 3 ] reshape { shape: [ 3 ] }")).unwrap();
        assert_eq!(details.spec.inputs()[0].announced_shape(true), [-1, 1, 3]);
        let refusal = |text: &str| completed(text).unwrap_err().to_string();
        assert_eq!(
            refusal(&input("dims: [ 2, 2 ] reshape { shape: [ 3 ] }")),
            "input 'x' with dims [2, 2] cannot have the reshape [3]"
        );
        assert!(refusal(&input("dims: [ 4 ] reshape { shape: [ 4 ] }")).contains("has dims [4]"));
    }

    #[test]
    fn without_auto_complete_tensors_must_be_listed() {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config("max_batch_size: 8", "m").unwrap(),
            config_origin: ConfigOrigin::None,
        };
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None, Some(3)]);
        let error = complete(&source, &[tensor("x")], &[tensor("y")], None).unwrap_err();
        assert!(error.to_string().contains("--disable-auto-complete-config"), "{error}");
    }

    #[test]
    fn contradictions_name_the_tensor() {
        let refusal = |text: &str| completed(text).unwrap_err().to_string();
        let input = |rest: &str| format!("max_batch_size: 8 input {{ name: \"x\" {rest} }}");
        assert_eq!(
            refusal(&input("data_type: TYPE_INT8 dims: 3")),
            "input 'x' is configured as INT8 but is FP32 in the model"
        );
        assert_eq!(
            refusal(&input("data_type: TYPE_FP32 dims: 4")),
            "input 'x' has dims [4] in the configuration but [3] in the model (without the batch dimension)"
        );
        assert_eq!(refusal("input { name: \"z\" }"), "the model has no input 'z'; its inputs are x");
    }

    #[test]
    fn ignored_fields_are_named() {
        let details = completed("max_batch_size: 8 optimization { cuda { graphs: true } }").unwrap();
        assert_eq!(details.without_effect, ["optimization.cuda.graphs"]);
    }
}
