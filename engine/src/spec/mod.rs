//! The specification of a model: tensors, instances and batching. It is checked once, when it is made.

mod output_set;
mod policy;

use std::{collections::HashSet, sync::Arc};

use quintet_proto::DataType;

pub use self::{
    output_set::OutputSet,
    policy::{BatchPolicy, Discipline, PolicyError, QueuePolicy, TimeoutAction},
};

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Dimensions without the batch dimension; `None` is a dynamic one.
    pub dims: Vec<Option<usize>>,
    /// Whether the model file does not say how many dimensions there are, so that `dims` is empty.
    pub is_unranked: bool,
    /// For inputs: whether requests may leave it out, because the model has a default for it.
    pub optional: bool,
    /// For inputs: whether `dims` is `[1]` for a scalar of the model, so that requests may also leave out the dimension.
    pub scalar: bool,
    /// For outputs: the names of the classes, one for each element of the last dimension.
    pub labels: Option<Arc<[String]>>,
}

impl TensorSpec {
    /// A required tensor without labels.
    pub fn new(name: impl Into<String>, data_type: DataType, dims: impl Into<Vec<Option<usize>>>) -> Self {
        Self {
            name: name.into(),
            data_type,
            dims: dims.into(),
            is_unranked: false,
            optional: false,
            scalar: false,
            labels: None,
        }
    }

    /// The shape in metadata: -1 for dynamic dimensions, and for the batch dimension if there is one.
    pub fn announced_shape(&self, batches: bool) -> Vec<i64> {
        let dims = self.dims.iter().map(|dim| dim.map_or(-1, |n| n as i64));
        batches.then_some(-1).into_iter().chain(dims).collect()
    }
}

/// How a model is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// How requests wait and share batches.
    pub policy: BatchPolicy,
    /// Number of instances, at least 1.
    pub instances: usize,
    /// The batch sizes that the model announces: each runs once on zeros before the model is ready, if the model takes
    /// those.
    pub warmup_batch_sizes: Vec<usize>,
    /// Whether nobody has said that the first dimension is the batch: it was concluded from dynamic first dimensions.
    pub batching_is_assumed: bool,
}

/// One instance without a warm-up.
impl From<BatchPolicy> for ModelSettings {
    fn from(policy: BatchPolicy) -> Self {
        Self { policy, instances: 1, warmup_batch_sizes: Vec::new(), batching_is_assumed: false }
    }
}

/// The specification of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    name: String,
    version: u64,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    settings: ModelSettings,
}

/// A contradiction in a model's specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No input or no output.
    #[error("model '{model}' has no {what}")]
    Empty {
        /// The model.
        model: String,
        /// "inputs" or "outputs".
        what: &'static str,
    },
    /// Two tensors of one name.
    #[error("model '{model}' has two {what} named '{name}'")]
    Duplicate {
        /// The model.
        model: String,
        /// "inputs" or "outputs".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// More outputs than an [`OutputSet`] holds.
    #[error("model '{model}' has {count} outputs; at most {max} are supported", max = OutputSet::MAX_OUTPUTS)]
    TooManyOutputs {
        /// The model.
        model: String,
        /// How many it has.
        count: usize,
    },
    /// No instance to run on.
    #[error("model '{0}': instance count must be at least 1")]
    NoInstance(String),
    /// A policy that cannot be followed.
    #[error("model '{model}': {error}")]
    Policy {
        /// The model.
        model: String,
        /// What is wrong with it.
        error: PolicyError,
    },
    /// A warm-up batch size that no request may have.
    #[error("model '{model}': warm-up batch size {size} is not between 1 and the maximum batch size {max}")]
    Warmup {
        /// The model.
        model: String,
        /// The batch size.
        size: usize,
        /// The maximum (1 for a model without a batch dimension).
        max: usize,
    },
}

impl ModelSpec {
    /// Checks a specification. Its warm-up batch sizes are sorted and made unique.
    ///
    /// # Errors
    /// When tensors or settings contradict each other.
    pub fn new(
        name: impl Into<String>,
        version: u64,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        settings: impl Into<ModelSettings>,
    ) -> Result<Self, SpecError> {
        let ModelSettings { policy, instances, mut warmup_batch_sizes, batching_is_assumed } = settings.into();
        let model: String = name.into();
        for (what, tensors) in [("inputs", &inputs), ("outputs", &outputs)] {
            if tensors.is_empty() {
                return Err(SpecError::Empty { model, what });
            }
            let mut seen = HashSet::new();
            if let Some(twice) = tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
                return Err(SpecError::Duplicate { model, what, name: twice.name.clone() });
            }
        }
        if outputs.len() > OutputSet::MAX_OUTPUTS {
            return Err(SpecError::TooManyOutputs { model, count: outputs.len() });
        }
        if instances == 0 {
            return Err(SpecError::NoInstance(model));
        }
        if let Err(error) = policy.check() {
            return Err(SpecError::Policy { model, error });
        }
        warmup_batch_sizes.sort_unstable();
        warmup_batch_sizes.dedup();
        let max = policy.max_batch_size.max(1);
        if let Some(&size) = warmup_batch_sizes.iter().find(|size| !(1..=max).contains(size)) {
            return Err(SpecError::Warmup { model, size, max });
        }
        let settings = ModelSettings { policy, instances, warmup_batch_sizes, batching_is_assumed };
        Ok(Self { name: model, version, inputs, outputs, settings })
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the model.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// How requests are batched.
    pub fn policy(&self) -> &BatchPolicy {
        &self.settings.policy
    }

    /// Whether the first dimension of tensors is the batch's.
    pub fn batches(&self) -> bool {
        self.settings.policy.max_batch_size > 0
    }

    /// Whether it was concluded from dynamic first dimensions that they are the batch's.
    pub fn batching_is_assumed(&self) -> bool {
        self.settings.batching_is_assumed
    }

    /// Number of instances.
    pub fn instances(&self) -> usize {
        self.settings.instances
    }

    /// The batch sizes that run once before the model is ready, ascending.
    pub fn warmup_batch_sizes(&self) -> &[usize] {
        &self.settings.warmup_batch_sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(warmup_batch_sizes: Vec<usize>, max_batch_size: usize) -> Result<ModelSpec, SpecError> {
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(4)]);
        let policy = BatchPolicy { max_batch_size, ..BatchPolicy::default() };
        let settings = ModelSettings { warmup_batch_sizes, ..policy.into() };
        ModelSpec::new("m", 1, vec![tensor("x")], vec![tensor("y")], settings)
    }

    #[test]
    fn warmup_sizes_are_ones_that_requests_may_have() {
        assert_eq!(spec(vec![4, 1, 4], 8).unwrap().warmup_batch_sizes(), [1, 4]);
        assert!(matches!(spec(vec![9], 8), Err(SpecError::Warmup { size: 9, max: 8, .. })));
        assert!(matches!(spec(vec![2], 0), Err(SpecError::Warmup { size: 2, max: 1, .. })));
    }

    #[test]
    fn announced_shapes() {
        let tensor = TensorSpec::new("x", DataType::Fp32, [Some(3), None]);
        assert_eq!(tensor.announced_shape(true), [-1, 3, -1]);
        assert_eq!(tensor.announced_shape(false), [3, -1]);
    }
}
