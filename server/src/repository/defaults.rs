//! Completes a model's configuration by Triton's rules.

use quintet_engine::TensorSpec;
use quintet_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelTensorReshape,
    ModelVersionPolicy, model_config::SchedulingChoice, model_optimization_policy::PinnedMemoryBuffer,
    model_version_policy,
};

use super::{backend::Backend, batching};

/// Triton's maximum batch size for a model that supports batching and has no configuration.
pub const AUTO_COMPLETE_MAX_BATCH_SIZE: i32 = 4;

/// Sets missing fields that do not depend on the model file to Triton's defaults.
pub(super) fn set_defaults(config: &mut ModelConfig) {
    let backend = Backend::of(config);
    backend.name_in(config);
    if config.default_model_filename.is_empty() {
        backend.default_file().clone_into(&mut config.default_model_filename);
    }
    config.version_policy.get_or_insert(ModelVersionPolicy {
        policy_choice: Some(model_version_policy::PolicyChoice::Latest(model_version_policy::Latest {
            num_versions: 1,
        })),
    });
    if backend == Backend::Ensemble {
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

/// Applies Triton's rules for a configuration without tensors: the model supports batching if every first dimension is
/// dynamic, and then batches dynamically. Inputs with defaults in the model are left out unless listed: some exporters
/// make an input of every weight.
pub(super) fn fill_in(config: &mut ModelConfig, inputs: &[TensorSpec], outputs: &[TensorSpec], max_batch_size: i32) {
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
        // Any shape is answered, and none can be announced.
        if tensor.is_some_and(|tensor| tensor.is_unranked) && output.dims.is_empty() && output.reshape.is_none() {
            output.dims = vec![-1];
        }
        fill_in_tensor(tensor, skip, &mut output.data_type, &mut output.dims, &mut output.reshape);
    }
}

/// Sets a missing type and missing dimensions. A scalar row is announced with shape `[1]`.
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
    if dims.is_empty() && reshape.is_none() && !tensor.is_unranked {
        *dims = tensor.dims.iter().skip(skip).map(|dim| dim.map_or(-1, |n| n as i64)).collect();
        if dims.is_empty() {
            *dims = vec![1];
            *reshape = Some(ModelTensorReshape { shape: Vec::new() });
        }
    }
}
