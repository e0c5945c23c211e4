//! Backends that run models: ONNX Runtime, libtorch, the built-in image backend, reshaped tensors, and models that rest.

mod gpu_work;
pub mod image;
pub mod onnx;
pub mod reshape;
pub mod resting;
mod run_error;
#[cfg(feature = "torch")]
pub mod torch;

pub use run_error::run_error;
