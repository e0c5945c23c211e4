//! Finds and loads the ONNX Runtime library, once per process.
//!
//! The library is not linked: it comes from the PyPI wheel `onnxruntime` (or `onnxruntime-gpu`), and the program opens
//! it at start. [`locate()`] documents where the program searches.

mod assignment;
mod cuda;
mod load;
mod locate;
mod message;
mod plugins;
mod preload;
mod stated;
mod telemetry;

pub use assignment::{RECORD_ASSIGNMENT, nodes_by_provider};
pub use cuda::CUDA_DEFAULTS;
pub use load::{LoadError, Loaded, ThreadPool, load, loaded};
pub use locate::{
    FOLDER, GPU_FOLDER, LocateError, SearchPaths, TENSORRT_RTX_FOLDER, VARIABLE, locate, tensorrt_rtx_of,
};
pub use message::one_line;
pub use plugins::ListedDevice;
pub use stated::{PRECISION_KEY, WEIGHTS_KEY, stated_precision, stated_weights};
pub use telemetry::disable_telemetry;
