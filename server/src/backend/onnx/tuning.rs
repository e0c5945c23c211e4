//! The tuning of a session: a model's settings for the graph, threads and providers.

use ort::session::{
    Session,
    builder::{GraphOptimizationLevel, SessionBuilder},
};
use quintet_onnxruntime::Loaded;

use super::{options::ProviderOptions, profile::Profile};

/// ONNX Runtime's level of graph optimisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphLevel {
    /// All optimisations.
    #[default]
    All,
    /// Extended: no layout changes.
    Extended,
    /// Basic: only optimisations that keep results bit for bit.
    Basic,
    /// No optimisation.
    Off,
}

/// The tuning of a session. By default it runs in the threads that all sessions share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The level of graph optimisation.
    pub graph_level: GraphLevel,
    /// Own threads for one operator; `None` shares the process's threads.
    pub intra_op_threads: Option<usize>,
    /// Own threads for operators that run in parallel.
    pub inter_op_threads: Option<usize>,
    /// Whether operators run in parallel.
    pub parallel: bool,
    /// Whether memory is planned from the first run; `None` is ONNX Runtime's default, true.
    pub memory_pattern: Option<bool>,
    /// The GPU's number.
    pub device: i32,
    /// Options of the CUDA provider.
    pub cuda: ProviderOptions,
    /// Options of the TensorRT provider; profile and cache are added when the model is loaded.
    pub tensorrt: ProviderOptions,
    /// Options of the TensorRT-RTX provider; profile and cache are added when the model is loaded.
    pub tensorrt_rtx: ProviderOptions,
    /// Options of the OpenVINO provider; the cache is added when the model is loaded.
    pub openvino: ProviderOptions,
    /// The shapes to expect, for TensorRT.
    pub profile: Profile,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            graph_level: GraphLevel::default(),
            intra_op_threads: None,
            inter_op_threads: None,
            parallel: false,
            memory_pattern: None,
            device: 0,
            cuda: ProviderOptions::cuda(),
            tensorrt: ProviderOptions::default(),
            tensorrt_rtx: ProviderOptions::default(),
            openvino: ProviderOptions::openvino(),
            profile: Profile::default(),
        }
    }
}

impl Tuning {
    /// Whether a session has threads of its own.
    pub(super) fn has_own_threads(&self) -> bool {
        self.intra_op_threads.is_some() || self.inter_op_threads.is_some()
    }

    /// A builder with these settings, but for those of providers. Threads of its own spin if those that sessions share do.
    ///
    /// # Errors
    /// When ONNX Runtime does not take one.
    pub(super) fn builder(&self, library: &Loaded) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(&library.environment)?;
        builder = match self.graph_level {
            GraphLevel::All => builder,
            GraphLevel::Extended => builder.with_optimization_level(GraphOptimizationLevel::Level2)?,
            GraphLevel::Basic => builder.with_optimization_level(GraphOptimizationLevel::Level1)?,
            GraphLevel::Off => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        };
        if library.threads.spin {
            // Only while a model runs: after the last run the cores belong to transports and clients.
            builder = builder.with_config_entry("session.force_spinning_stop", "1")?;
        }
        if self.has_own_threads() {
            builder = builder.with_independent_thread_pool()?;
        }
        if let Some(threads) = self.intra_op_threads {
            builder = builder.with_intra_threads(threads)?.with_intra_op_spinning(library.threads.spin)?;
        }
        if let Some(threads) = self.inter_op_threads {
            builder = builder.with_inter_threads(threads)?;
        }
        if self.parallel {
            builder = builder.with_parallel_execution(true)?;
        }
        match self.memory_pattern {
            Some(enabled) => Ok(builder.with_memory_pattern(enabled)?),
            None => Ok(builder),
        }
    }
}
