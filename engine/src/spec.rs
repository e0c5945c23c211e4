//! What a model is: its tensors and how its requests are batched. Checked once, when it is made.

use std::{collections::HashSet, sync::Arc, time::Duration};

use quintet_proto::DataType;

use crate::request::OutputSet;

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Dimensions without the batch's; `None` is a dynamic one.
    pub dims: Vec<Option<usize>>,
    /// For outputs: the names of the classes, one for each element of the last dimension.
    pub labels: Option<Arc<[String]>>,
}

impl TensorSpec {
    /// A tensor without labels.
    pub fn new(name: impl Into<String>, data_type: DataType, dims: impl Into<Vec<Option<usize>>>) -> Self {
        Self { name: name.into(), data_type, dims: dims.into(), labels: None }
    }

    /// The shape that the protocol announces: -1 for dynamic dimensions, and for the batch's where there is one.
    pub fn announced_shape(&self, batches: bool) -> Vec<i64> {
        let dims = self.dims.iter().map(|dim| dim.map_or(-1, |n| n as i64));
        batches.then_some(-1).into_iter().chain(dims).collect()
    }
}

/// When requests wait and how many run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Rows of a batch at most; 0 for a model without a batch dimension.
    pub max_batch_size: usize,
    /// Whether requests may share a batch at all.
    pub dynamic: bool,
    /// How long the oldest request may wait for company while an instance is idle.
    pub max_queue_delay: Duration,
    /// Requests that may wait at once; one more is refused.
    pub max_queue_size: usize,
}

impl BatchPolicy {
    /// Requests that may wait at once unless the configuration says otherwise.
    pub const DEFAULT_MAX_QUEUE_SIZE: usize = 1024;
}

/// How long a request may wait in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTimeout {
    /// At most this long; `None` is for ever.
    pub limit: Option<Duration>,
    /// Whether a request may ask for less.
    pub may_ask: bool,
}

impl QueueTimeout {
    /// The timeout of a request that asks for this one.
    pub fn of(self, asked: Option<Duration>) -> Option<Duration> {
        asked.filter(|_| self.may_ask).into_iter().chain(self.limit).min()
    }
}

/// A model as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    name: String,
    version: u64,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    policy: BatchPolicy,
    queue_timeout: QueueTimeout,
    instances: usize,
    warmup_batch_sizes: Vec<usize>,
}

/// A model that cannot be served as it is described.
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
    /// No instance to run on, or no room to wait in.
    #[error("model '{model}': {what} must be at least 1")]
    Zero {
        /// The model.
        model: String,
        /// The setting.
        what: &'static str,
    },
    /// A batch size to warm that requests may not have.
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
    /// A model that is fit to serve. `warmup_batch_sizes` are the batch sizes that it announces: each
    /// is run once before the model is ready. They are sorted and made unique.
    ///
    /// # Errors
    /// When tensors or settings contradict each other.
    pub fn new(
        name: impl Into<String>,
        version: u64,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        policy: BatchPolicy,
        instances: usize,
        mut warmup_batch_sizes: Vec<usize>,
    ) -> Result<Self, SpecError> {
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
        for (what, value) in [("instance count", instances), ("max_queue_size", policy.max_queue_size)] {
            if value == 0 {
                return Err(SpecError::Zero { model, what });
            }
        }
        warmup_batch_sizes.sort_unstable();
        warmup_batch_sizes.dedup();
        let max = policy.max_batch_size.max(1);
        if let Some(&size) = warmup_batch_sizes.iter().find(|size| !(1..=max).contains(size)) {
            return Err(SpecError::Warmup { model, size, max });
        }
        let queue_timeout = QueueTimeout::default();
        Ok(Self { name: model, version, inputs, outputs, policy, queue_timeout, instances, warmup_batch_sizes })
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
        &self.policy
    }

    /// The same model with this timeout; without it, requests wait for ever.
    pub fn with_queue_timeout(self, queue_timeout: QueueTimeout) -> Self {
        Self { queue_timeout, ..self }
    }

    /// How long requests may wait.
    pub fn queue_timeout(&self) -> QueueTimeout {
        self.queue_timeout
    }

    /// Whether tensors have a batch dimension in front.
    pub fn batches(&self) -> bool {
        self.policy.max_batch_size > 0
    }

    /// How many copies of the model run side by side.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// The batch sizes that are run once before the model is ready, ascending.
    pub fn warmup_batch_sizes(&self) -> &[usize] {
        &self.warmup_batch_sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(warmup: Vec<usize>, max_batch_size: usize) -> Result<ModelSpec, SpecError> {
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(4)]);
        let policy = BatchPolicy { max_batch_size, dynamic: true, max_queue_delay: Duration::ZERO, max_queue_size: 8 };
        ModelSpec::new("m", 1, vec![tensor("x")], vec![tensor("y")], policy, 1, warmup)
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
