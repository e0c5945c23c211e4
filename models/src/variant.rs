//! The variants of a model, which differ in the type and layout of the input `image`, or in the arithmetic.

use std::fmt;

use crate::{arch::IMAGE_SIDE, onnx::DataType};

/// ImageNet's mean of each colour channel, for pixels between 0 and 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of each colour channel, for pixels between 0 and 1.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The format of a model's input, and whether it computes in INT8. The outputs are always FP32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Variant {
    /// FP32 `[N,3,224,224]`, normalised: 602,112 bytes an image.
    Fp32,
    /// FP16 `[N,3,224,224]`, normalised: 301,056 bytes an image.
    Fp16,
    /// UINT8 `[N,224,224,3]`, plain pixels: 150,528 bytes an image.
    U8,
    /// FP32 `[N,3,224,224]`, normalised, but convolutions and the linear layer compute in INT8, after a calibration.
    Int8,
}

impl Variant {
    /// Every variant, FP32 first.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::U8, Self::Int8];
    /// The variants that need no calibration, and so no ONNX Runtime to be made.
    pub const UNCALIBRATED: [Self; 3] = [Self::Fp32, Self::Fp16, Self::U8];

    /// The model's name is the depth's name followed by this suffix.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Fp32 => "",
            Self::Fp16 => "_fp16",
            Self::U8 => "_u8",
            Self::Int8 => "_int8",
        }
    }

    /// The shape of one image.
    pub fn dims(self) -> [usize; 3] {
        match self {
            Self::Fp32 | Self::Fp16 | Self::Int8 => [3, IMAGE_SIDE, IMAGE_SIDE],
            Self::U8 => [IMAGE_SIDE, IMAGE_SIDE, 3],
        }
    }

    /// The ONNX type of the image's elements.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Fp32 | Self::Int8 => DataType::Float,
            Self::Fp16 => DataType::Float16,
            Self::U8 => DataType::Uint8,
        }
    }

    /// Triton's name for [`Self::data_type`].
    pub fn triton_type(self) -> &'static str {
        match self {
            Self::Fp32 | Self::Int8 => "TYPE_FP32",
            Self::Fp16 => "TYPE_FP16",
            Self::U8 => "TYPE_UINT8",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::U8 => "u8",
            Self::Int8 => "int8",
        })
    }
}
