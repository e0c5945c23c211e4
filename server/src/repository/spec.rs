//! A model's configuration and its file, checked against each other, become what the engine serves.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use quintet_engine::{DataType, ModelSpec, SpecError, TensorSpec};
use quintet_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelTensorReshape,
    ModelVersionPolicy, model_config::SchedulingChoice, model_optimization_policy::PinnedMemoryBuffer,
    model_version_policy,
};

use super::{ModelSource, batching, config::ConfigError, fields, loader::needs_file, open, tuning};
use crate::{
    backend::{image, reshape::Reshape},
    kserve::ensemble,
    process::settings::ServiceName,
};

/// Batch size that Triton gives a model without a configuration whose tensors can be batched.
pub const AUTO_COMPLETE_MAX_BATCH_SIZE: i32 = 4;

/// What [`complete`] finds out.
#[derive(Debug)]
pub struct SpecDetails {
    /// What the engine serves.
    pub spec: ModelSpec,
    /// The configuration in force, defaults filled in.
    pub config: ModelConfig,
    /// Fields of the configuration that have no effect here.
    pub without_effect: Vec<String>,
    /// For each input, from the client's shape to the model's.
    pub input_reshapes: Vec<Option<Reshape>>,
    /// For each output, from the model's shape to the client's.
    pub output_reshapes: Vec<Option<Reshape>>,
}

impl SpecDetails {
    /// Says in the log which fields have no effect.
    pub(super) fn warn(&self, service: ServiceName, model: &str) {
        if !self.without_effect.is_empty() {
            let (service, fields) = (service.as_str(), self.without_effect.join(", "));
            tracing::warn!(service, model, fields, "fields of config.pbtxt that have no effect here");
        }
    }
}

/// Fills in what `config.pbtxt` leaves out from the model file's own `inputs` and `outputs` (with their
/// batch dimension), by Triton's rules, and checks the rest against them. `auto_complete` is
/// the largest batch of a model that says nothing and can batch; without it, tensors must be listed.
///
/// # Errors
/// When configuration and model file contradict each other, the configuration is not complete where it
/// has to be, or a label file cannot be read.
pub fn complete(
    source: &ModelSource,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    auto_complete: Option<i32>,
) -> Result<SpecDetails, ConfigError> {
    let mut config = source.config.clone();
    let mut without_effect = fields::without_effect(&config)?;
    if needs_file(&config) && !open::is_pytorch(&config) {
        without_effect.extend(tuning::tuning(&config)?.1);
    }
    if let Some(max_batch_size) = auto_complete {
        fill_in(&mut config, inputs, outputs, max_batch_size);
    } else if config.input.is_empty() || config.output.is_empty() {
        return Err(contradiction("input and output must be listed: --disable-auto-complete-config is set"));
    }
    set_defaults(&mut config);
    let max_batch_size = usize::try_from(config.max_batch_size)
        .map_err(|_| contradiction(format_args!("max_batch_size is {}, below 0", config.max_batch_size)))?;
    let batches = max_batch_size > 0;

    let mut labels = LabelFiles { folder: &source.folder, read: HashMap::new() };
    let spec_inputs = config
        .input
        .iter_mut()
        .map(|input| {
            let reshape = input.reshape.as_ref();
            let spec = check("input", &input.name, input.data_type, &input.dims, reshape, inputs, batches)?;
            if input.optional && !spec.optional {
                without_effect.push(format!("input.optional (the model has no default for '{}')", input.name));
            }
            input.optional = spec.optional;
            Ok(spec)
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    let spec_outputs = config
        .output
        .iter()
        .map(|output| {
            let reshape = output.reshape.as_ref();
            let mut spec = check("output", &output.name, output.data_type, &output.dims, reshape, outputs, batches)?;
            spec.labels = labels.get(&output.label_filename)?;
            Ok(spec)
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    let mut required = inputs.iter().filter(|input| !input.optional);
    if let Some(missing) = required.find(|input| config.input.iter().all(|c| c.name != input.name)) {
        return Err(contradiction(format_args!("the model needs input '{}', which is not listed", missing.name)));
    }

    let policy = batching::policy(&config, max_batch_size);
    // An ensemble has none.
    let instances = tuning::instance_devices(&config.instance_group).len().max(1);
    let spec = ModelSpec::new(
        &source.name,
        source.version,
        spec_inputs,
        spec_outputs,
        policy,
        instances,
        warmup_batch_sizes(&config, max_batch_size),
    )
    .map_err(|error: SpecError| ConfigError::Contradiction(error.to_string()))?;
    let inputs = config.input.iter().map(|input| reshape(&input.dims, input.reshape.as_ref()));
    let outputs = config.output.iter().map(|output| {
        reshape(&output.dims, output.reshape.as_ref()).map(|Reshape { from, to }| Reshape { from: to, to: from })
    });
    let (input_reshapes, output_reshapes) = (inputs.collect(), outputs.collect());
    Ok(SpecDetails { spec, config, without_effect, input_reshapes, output_reshapes })
}

fn reshape(dims: &[i64], reshape: Option<&ModelTensorReshape>) -> Option<Reshape> {
    reshape.map(|reshape| Reshape { from: known(dims), to: known(&reshape.shape) })
}

/// -1 is a dynamic dimension.
fn known(dims: &[i64]) -> Vec<Option<usize>> {
    dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}

fn contradiction(what: impl std::fmt::Display) -> ConfigError {
    ConfigError::Contradiction(what.to_string())
}

/// What Triton calls a model's settings when nobody has named them.
fn set_defaults(config: &mut ModelConfig) {
    let ensemble = matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_)));
    if ensemble {
        ensemble::PLATFORM.clone_into(&mut config.platform);
    } else if open::is_pytorch(config) {
        (config.backend, config.platform) = (open::PYTORCH.0.to_owned(), open::PYTORCH.1.to_owned());
    } else if config.backend != image::NAME {
        "onnxruntime".clone_into(&mut config.backend);
        "onnxruntime_onnx".clone_into(&mut config.platform);
    }
    if config.default_model_filename.is_empty() {
        open::default_file(config).clone_into(&mut config.default_model_filename);
    }
    config.version_policy.get_or_insert(ModelVersionPolicy {
        policy_choice: Some(model_version_policy::PolicyChoice::Latest(model_version_policy::Latest {
            num_versions: 1,
        })),
    });
    if ensemble {
        return;
    }
    let optimization = config.optimization.get_or_insert_default();
    optimization.input_pinned_memory.get_or_insert(PinnedMemoryBuffer { enable: true });
    optimization.output_pinned_memory.get_or_insert(PinnedMemoryBuffer { enable: true });
    batching::fill_in(config);
    if config.instance_group.is_empty() {
        config.instance_group.push(ModelInstanceGroup::default());
    }
    for (index, group) in config.instance_group.iter_mut().enumerate() {
        if group.name.is_empty() {
            group.name = format!("{}_{index}", config.name);
        }
        group.count = group.count.max(1);
    }
}

/// Triton's rules for a configuration that leaves tensors out: it can batch if every first dimension is
/// dynamic, and then it does, dynamically. Inputs that the model has defaults for are no part of it unless listed:
/// some exporters make one of every weight.
fn fill_in(config: &mut ModelConfig, inputs: &[TensorSpec], outputs: &[TensorSpec], max_batch_size: i32) {
    let required = || inputs.iter().filter(|input| !input.optional);
    let can_batch = required().chain(outputs).all(|tensor| tensor.dims.first() == Some(&None));
    if can_batch && config.input.is_empty() && config.output.is_empty() && config.max_batch_size == 0 {
        config.max_batch_size = max_batch_size;
    }
    let incomplete = config.input.is_empty() || config.output.is_empty();
    if can_batch && incomplete && config.max_batch_size > 1 {
        config
            .scheduling_choice
            .get_or_insert_with(|| SchedulingChoice::DynamicBatching(ModelDynamicBatching::default()));
    }
    if config.input.is_empty() {
        let named = |tensor: &TensorSpec| ModelInput { name: tensor.name.clone(), ..ModelInput::default() };
        config.input = required().map(named).collect();
    }
    if config.output.is_empty() {
        let named = |tensor: &TensorSpec| ModelOutput { name: tensor.name.clone(), ..ModelOutput::default() };
        config.output = outputs.iter().map(named).collect();
    }
    let skip = usize::from(config.max_batch_size > 0);
    for input in &mut config.input {
        let tensor = inputs.iter().find(|tensor| tensor.name == input.name);
        fill_in_tensor(tensor, skip, &mut input.data_type, &mut input.dims, &mut input.reshape);
    }
    for output in &mut config.output {
        let tensor = outputs.iter().find(|tensor| tensor.name == output.name);
        fill_in_tensor(tensor, skip, &mut output.data_type, &mut output.dims, &mut output.reshape);
    }
}

/// Type and dimensions where they are left out. A row that is a scalar is announced as one of shape `[1]`.
fn fill_in_tensor(
    tensor: Option<&TensorSpec>,
    skip: usize,
    data_type: &mut i32,
    dims: &mut Vec<i64>,
    reshape: &mut Option<ModelTensorReshape>,
) {
    let Some(tensor) = tensor else { return };
    if *data_type == 0 {
        *data_type = tensor.data_type.number();
    }
    if dims.is_empty() && reshape.is_none() {
        *dims = tensor.dims.iter().skip(skip).map(|dim| dim.map_or(-1, |n| n as i64)).collect();
        if dims.is_empty() {
            *dims = vec![1];
            *reshape = Some(ModelTensorReshape { shape: Vec::new() });
        }
    }
}

/// One configured tensor against the model file's.
fn check(
    what: &str,
    name: &str,
    data_type: i32,
    dims: &[i64],
    reshaped: Option<&ModelTensorReshape>,
    model: &[TensorSpec],
    batches: bool,
) -> Result<TensorSpec, ConfigError> {
    let Some(tensor) = model.iter().find(|tensor| tensor.name == name) else {
        let names: Vec<_> = model.iter().map(|tensor| tensor.name.as_str()).collect();
        return Err(contradiction(format_args!(
            "the model has no {what} '{name}'; its {what}s are {}",
            names.join(", ")
        )));
    };
    if DataType::from_number(data_type) != Some(tensor.data_type) {
        let configured = DataType::from_number(data_type).map_or("TYPE_INVALID", DataType::name);
        return Err(contradiction(format_args!(
            "{what} '{name}' is configured as {configured} but is {} in the model",
            tensor.data_type
        )));
    }
    let model_dims = match (batches, tensor.dims.split_first()) {
        (false, _) => &tensor.dims[..],
        (true, Some((None, rest))) => rest,
        (true, _) => {
            return Err(contradiction(format_args!(
                "max_batch_size is above 0 but the first dimension of {what} '{name}' is not dynamic in the model"
            )));
        }
    };
    if let Some(reshape) = reshape(dims, reshaped)
        && !reshape.fits()
    {
        let to = reshaped.map(|reshape| &reshape.shape[..]).unwrap_or_default();
        return Err(contradiction(format_args!("{what} '{name}' with dims {dims:?} cannot have the reshape {to:?}")));
    }
    let configured = known(reshaped.map_or(dims, |reshape| &reshape.shape));
    let fits = configured.len() == model_dims.len()
        && configured.iter().zip(model_dims).all(|(c, m)| c.is_none() || m.is_none() || c == m);
    if !fits {
        let print = |dims: &[Option<usize>]| TensorSpec::new("", tensor.data_type, dims).announced_shape(false);
        return Err(contradiction(format_args!(
            "{what} '{name}' has dims {:?} in the configuration but {:?} in the model{}",
            print(&configured),
            print(model_dims),
            if batches { " (without the batch dimension)" } else { "" }
        )));
    }
    Ok(TensorSpec { optional: tensor.optional, ..TensorSpec::new(name, tensor.data_type, known(dims)) })
}

/// One, and the largest batch; nothing where `model_warmup` says how to warm ([`super::warmup`]), or where there is
/// nothing to warm.
fn warmup_batch_sizes(config: &ModelConfig, max_batch_size: usize) -> Vec<usize> {
    let warms = needs_file(config) && config.model_warmup.is_empty();
    if warms { vec![1, max_batch_size.max(1)] } else { Vec::new() }
}

/// Label files: one name a line. Read once each.
struct LabelFiles<'a> {
    folder: &'a Path,
    read: HashMap<String, Arc<[String]>>,
}

impl LabelFiles<'_> {
    fn get(&mut self, file: &str) -> Result<Option<Arc<[String]>>, ConfigError> {
        if file.is_empty() {
            return Ok(None);
        }
        if !self.read.contains_key(file) {
            let path = self.folder.join(file);
            let text = fs::read_to_string(&path)
                .map_err(|error| contradiction(format_args!("cannot read label file {}: {error}", path.display())))?;
            self.read.insert(file.to_owned(), text.lines().map(|line| line.trim().to_owned()).collect());
        }
        Ok(self.read.get(file).cloned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::repository::parse_config;

    fn completed(text: &str) -> Result<SpecDetails, ConfigError> {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config(text, "m").unwrap(),
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
    fn one_and_the_largest_batch_are_warmed_unless_the_configuration_says_how() {
        assert_eq!(completed("max_batch_size: 8").unwrap().spec.warmup_batch_sizes(), [1, 8]);
        assert!(
            completed("max_batch_size: 8 model_warmup { batch_size: 2 }").unwrap().spec.warmup_batch_sizes().is_empty()
        );
    }

    #[test]
    fn a_row_that_is_a_scalar_is_announced_as_one_element() {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config("", "m").unwrap(),
        };
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None]);
        let details = complete(&source, &[tensor("x")], &[tensor("y")], Some(AUTO_COMPLETE_MAX_BATCH_SIZE)).unwrap();
        assert_eq!(details.spec.inputs()[0].announced_shape(true), [-1, 1]);
        assert_eq!(details.input_reshapes, [Some(Reshape { from: vec![Some(1)], to: vec![] })]);
        assert_eq!(details.output_reshapes, [Some(Reshape { from: vec![], to: vec![Some(1)] })]);
    }

    #[test]
    fn an_input_is_optional_where_the_model_has_a_default_for_it() {
        let completed = |inputs: &str| {
            let source = ModelSource {
                name: "m".into(),
                version: 1,
                model_file: PathBuf::new(),
                folder: PathBuf::new(),
                config: parse_config(format!("max_batch_size: 8 {inputs}"), "m").unwrap(),
            };
            let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None, Some(3)]);
            let inputs = [tensor("x"), TensorSpec { optional: true, ..tensor("more") }];
            complete(&source, &inputs, &[tensor("y")], Some(AUTO_COMPLETE_MAX_BATCH_SIZE))
        };
        let names = |details: &SpecDetails| -> Vec<_> {
            details.spec.inputs().iter().map(|input| (input.name.clone(), input.optional)).collect()
        };
        assert_eq!(names(&completed("").unwrap()), [("x".to_owned(), false)], "it is left out where it is not listed");
        let listed = completed("input { name: \"more\" } input { name: \"x\" optional: true }").unwrap();
        assert_eq!(names(&listed), [("more".to_owned(), true), ("x".to_owned(), false)]);
        assert_eq!(listed.without_effect, ["input.optional (the model has no default for 'x')"]);
        let told: Vec<_> = listed.config.input.iter().map(|input| input.optional).collect();
        assert_eq!(told, [true, false], "the configuration in force tells what is so");
        let error = completed("input { name: \"more\" optional: true }").unwrap_err();
        assert_eq!(error.to_string(), "the model needs input 'x', which is not listed");
    }

    #[test]
    fn what_is_reshaped_fits_the_model_and_itself() {
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
    fn without_auto_complete_tensors_have_to_be_listed() {
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_file: PathBuf::new(),
            folder: PathBuf::new(),
            config: parse_config("max_batch_size: 8", "m").unwrap(),
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
