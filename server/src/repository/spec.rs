//! A model's configuration and its file, checked against each other, become what the engine serves.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use quintet_engine::{DataType, ModelSpec, SpecError, TensorSpec};
use quintet_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelVersionPolicy,
    model_config::SchedulingChoice, model_instance_group::Kind, model_version_policy,
};

use super::{
    ModelSource, batching,
    config::{ConfigError, without_effect},
};

/// Batch size that Triton gives a model without a configuration whose tensors can be batched.
const AUTO_COMPLETE_MAX_BATCH_SIZE: i32 = 4;

/// What [`complete`] finds out.
#[derive(Debug)]
pub struct SpecDetails {
    /// What the engine serves.
    pub spec: ModelSpec,
    /// The configuration in force, defaults filled in.
    pub config: ModelConfig,
    /// Fields of the configuration that have no effect here.
    pub without_effect: Vec<&'static str>,
}

/// Fills in what `config.pbtxt` leaves out from the model file's own `inputs` and `outputs` (with their
/// batch dimension), by Triton's rules, and checks the rest against them.
///
/// # Errors
/// When configuration and model file contradict each other, or a label file cannot be read.
pub fn complete(
    source: &ModelSource,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<SpecDetails, ConfigError> {
    let mut config = source.config.clone();
    let without_effect = without_effect(&config);
    fill_in(&mut config, inputs, outputs);
    let max_batch_size = usize::try_from(config.max_batch_size)
        .map_err(|_| contradiction(format_args!("max_batch_size is {}, below 0", config.max_batch_size)))?;
    let batches = max_batch_size > 0;

    let mut labels = LabelFiles { folder: &source.folder, read: HashMap::new() };
    let spec_inputs = config
        .input
        .iter()
        .map(|input| check("input", &input.name, input.data_type, &input.dims, inputs, batches))
        .collect::<Result<Vec<_>, _>>()?;
    let spec_outputs = config
        .output
        .iter()
        .map(|output| {
            let mut spec = check("output", &output.name, output.data_type, &output.dims, outputs, batches)?;
            spec.labels = labels.get(&output.label_filename)?;
            Ok(spec)
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    if let Some(missing) = inputs.iter().find(|input| config.input.iter().all(|c| c.name != input.name)) {
        return Err(contradiction(format_args!("the model needs input '{}', which is not listed", missing.name)));
    }

    let policy = batching::policy(&config, max_batch_size);
    let instances = config.instance_group.iter().map(|group| group.count.max(0) as usize).sum();
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
    Ok(SpecDetails { spec, config, without_effect })
}

fn contradiction(what: impl std::fmt::Display) -> ConfigError {
    ConfigError::Contradiction(what.to_string())
}

/// Triton's defaults, and its rules for a configuration that leaves the tensors out.
fn fill_in(config: &mut ModelConfig, inputs: &[TensorSpec], outputs: &[TensorSpec]) {
    "onnxruntime".clone_into(&mut config.backend);
    "onnxruntime_onnx".clone_into(&mut config.platform);
    if config.default_model_filename.is_empty() {
        "model.onnx".clone_into(&mut config.default_model_filename);
    }
    config.version_policy.get_or_insert(ModelVersionPolicy {
        policy_choice: Some(model_version_policy::PolicyChoice::Latest(model_version_policy::Latest {
            num_versions: 1,
        })),
    });
    let bare = config.input.is_empty() && config.output.is_empty() && config.max_batch_size == 0;
    let can_batch = inputs.iter().chain(outputs).all(|tensor| tensor.dims.first() == Some(&None));
    if bare && can_batch {
        config.max_batch_size = AUTO_COMPLETE_MAX_BATCH_SIZE;
        config
            .scheduling_choice
            .get_or_insert_with(|| SchedulingChoice::DynamicBatching(ModelDynamicBatching::default()));
    }
    batching::fill_in(config);
    let skip = usize::from(config.max_batch_size > 0);
    let dims = |tensor: &TensorSpec| tensor.dims.iter().skip(skip).map(|dim| dim.map_or(-1, |n| n as i64)).collect();
    if config.input.is_empty() {
        config.input = inputs
            .iter()
            .map(|tensor| ModelInput {
                name: tensor.name.clone(),
                data_type: tensor.data_type.number(),
                dims: dims(tensor),
                ..ModelInput::default()
            })
            .collect();
    }
    if config.output.is_empty() {
        config.output = outputs
            .iter()
            .map(|tensor| ModelOutput {
                name: tensor.name.clone(),
                data_type: tensor.data_type.number(),
                dims: dims(tensor),
                ..ModelOutput::default()
            })
            .collect();
    }
    if config.instance_group.is_empty() {
        config.instance_group.push(ModelInstanceGroup::default());
    }
    for (index, group) in config.instance_group.iter_mut().enumerate() {
        if group.name.is_empty() {
            group.name = format!("{}_{index}", config.name);
        }
        group.count = group.count.max(1);
        if group.kind() == Kind::Auto {
            group.set_kind(Kind::Cpu);
        }
    }
}

/// One configured tensor against the model file's.
fn check(
    what: &str,
    name: &str,
    data_type: i32,
    dims: &[i64],
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
    let configured: Vec<Option<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
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
    Ok(TensorSpec::new(name, tensor.data_type, configured))
}

/// What `model_warmup` announces; else one, and the largest batch.
fn warmup_batch_sizes(config: &ModelConfig, max_batch_size: usize) -> Vec<usize> {
    if config.model_warmup.is_empty() {
        return vec![1, max_batch_size.max(1)];
    }
    config.model_warmup.iter().map(|warmup| (warmup.batch_size as usize).max(1)).collect()
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
        complete(&source, &[tensor("x")], &[tensor("y")])
    }

    #[test]
    fn without_a_configuration_tritons_rules_apply() {
        let details = completed("").unwrap();
        assert_eq!(details.spec.policy().max_batch_size, 4);
        assert!(details.spec.policy().dynamic);
        assert_eq!(details.spec.inputs()[0].announced_shape(true), [-1, 3]);
        assert_eq!(details.config.instance_group[0].name, "m_0");
    }

    #[test]
    fn announced_batch_sizes_are_those_of_model_warmup() {
        let text = "max_batch_size: 8 model_warmup { batch_size: 2 } model_warmup { batch_size: 8 }";
        assert_eq!(completed(text).unwrap().spec.warmup_batch_sizes(), [2, 8]);
        assert_eq!(completed("max_batch_size: 8").unwrap().spec.warmup_batch_sizes(), [1, 8]);
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
        assert_eq!(details.without_effect, ["optimization"]);
    }
}
