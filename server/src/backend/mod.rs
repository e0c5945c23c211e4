//! What runs models: ONNX Runtime, on whichever provider it really gets; what is built in; other models.

mod gpu_work;
pub mod image;
pub mod onnx;
pub mod reshape;
#[cfg(feature = "torch")]
pub mod torch;
