//! Finds and loads the ONNX Runtime library, once for the process.
//!
//! The library is not linked: it comes from the PyPI wheel `onnxruntime` (or `onnxruntime-gpu`) and is
//! opened when the program starts. [`locate()`] says where it is looked for.

mod assignment;
mod cuda;
mod load;
mod locate;
mod message;

pub use assignment::{RECORD_ASSIGNMENT, nodes_by_provider};
pub use cuda::CUDA_DEFAULTS;
pub use load::{LoadError, Loaded, ThreadPool, load};
pub use locate::{FOLDER, LocateError, Places, locate};
pub use message::one_line;
