//! How a session is tuned: what a model's configuration says of graph, threads and providers.

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::{options::ProviderOptions, profile::Profile};

/// How much ONNX Runtime rewrites a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphLevel {
    /// All it can.
    #[default]
    All,
    /// Extended: no layouts of its own.
    Extended,
    /// Basic: only what gives the same result bit for bit.
    Basic,
    /// Nothing.
    Off,
}

/// How a session is tuned; the default is in the threads that all sessions share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How much the graph is rewritten.
    pub graph_level: GraphLevel,
    /// Threads of its own for one operator; `None` shares the process's.
    pub intra_op_threads: Option<usize>,
    /// Threads of its own for operators side by side.
    pub inter_op_threads: Option<usize>,
    /// Whether operators run side by side.
    pub parallel: bool,
    /// Whether memory is planned from the first run on; `None` is ONNX Runtime's default, yes.
    pub memory_pattern: Option<bool>,
    /// The GPU, by its number.
    pub device: i32,
    /// Options of the CUDA provider.
    pub cuda: ProviderOptions,
    /// Options of the TensorRT provider; profile and cache are filled in at the load.
    pub tensorrt: ProviderOptions,
    /// The shapes that will come, for TensorRT.
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
            profile: Profile::default(),
        }
    }
}

impl Tuning {
    pub(super) fn apply(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        builder = match self.graph_level {
            GraphLevel::All => builder,
            GraphLevel::Extended => builder.with_optimization_level(GraphOptimizationLevel::Level2)?,
            GraphLevel::Basic => builder.with_optimization_level(GraphOptimizationLevel::Level1)?,
            GraphLevel::Off => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        };
        if self.intra_op_threads.is_some() || self.inter_op_threads.is_some() {
            builder = builder.with_independent_thread_pool()?;
        }
        if let Some(threads) = self.intra_op_threads {
            // As the shared pool: a thread that spins takes a core from the transports.
            builder = builder.with_intra_threads(threads)?.with_intra_op_spinning(false)?;
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
