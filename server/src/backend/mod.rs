//! What runs models: ONNX Runtime, on whichever provider it really gets.

pub mod onnx;
pub mod reshape;
#[cfg(feature = "torch")]
pub mod torch;
