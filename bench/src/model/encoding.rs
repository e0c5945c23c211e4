//! The form of the images in a request: JPEG, small JPEG, FP32, FP16, UINT8 or JSON; or tensors that are no images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::protocol::Protocol;

/// What an image is in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A file.
    File,
    /// FP32 elements of the model's input.
    Numbers,
    /// The same as FP16.
    Halves,
    /// UINT8 elements of the model's input: levels.
    Levels,
    /// No image.
    None,
}

/// The form of a request's images.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The encoded files as they are: one as the body and several as multipart/form-data on the JPEG lane, a BYTES tensor
    /// `[N]` on KServe lanes.
    Jpeg,
    /// The part of each photograph that the model sees, resized by the client to the model's input (224 × 224 for ResNet) and
    /// encoded as JPEG of quality 90 with full chroma; sent as `jpeg` is. All lanes.
    #[serde(rename = "jpeg-224")]
    #[value(name = "jpeg-224")]
    Jpeg224,
    /// The encoded files in base64 in JSON. JPEG lane; its default.
    JpegBase64,
    /// FP32 `[N,3,224,224]`, normalised: 602,112 bytes an image. KServe lanes; their default.
    Fp32,
    /// FP16 `[N,3,224,224]`, normalised, to the model NAME_fp16: 301,056 bytes an image. KServe lanes.
    Fp16,
    /// UINT8 `[N,224,224,3]`, plain pixels, to the model NAME_u8: 150,528 bytes an image. KServe lanes.
    U8,
    /// The FP32 tensor as JSON numbers, and the response too. KServe over HTTP.
    Json,
    /// The model's own inputs in binary, of any type and shape (`--data random`, `zero` or a folder). KServe lanes.
    #[value(skip)]
    Tensors,
}

impl Encoding {
    /// The default form of a protocol.
    pub fn default_of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Jpeg => Self::JpegBase64,
            Protocol::KserveHttp | Protocol::KserveGrpc => Self::Fp32,
        }
    }

    /// Whether a protocol can carry it.
    pub fn fits(self, protocol: Protocol) -> bool {
        match self {
            Self::Jpeg | Self::Jpeg224 => true,
            Self::JpegBase64 => protocol == Protocol::Jpeg,
            Self::Fp32 | Self::Fp16 | Self::U8 | Self::Tensors => protocol != Protocol::Jpeg,
            Self::Json => protocol == Protocol::KserveHttp,
        }
    }

    /// The name of the model that takes it, given the model's plain name.
    pub fn model(self, name: &str) -> String {
        match self {
            Self::Fp16 => format!("{name}_fp16"),
            Self::U8 => format!("{name}_u8"),
            _ => name.to_owned(),
        }
    }

    /// The form of a protocol in which a photograph loses nothing: what others are compared with.
    pub fn exact(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Jpeg => Self::Jpeg,
            Protocol::KserveHttp | Protocol::KserveGrpc => Self::Fp32,
        }
    }

    /// Whether it is as exact as the exact form of a protocol: the same file, or the same numbers.
    pub fn is_exact(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Jpeg => self != Self::Jpeg224,
            Protocol::KserveHttp | Protocol::KserveGrpc => matches!(self, Self::Fp32 | Self::Json | Self::Tensors),
        }
    }

    /// What an image is in it.
    pub fn form(self) -> Form {
        match self {
            Self::Jpeg | Self::Jpeg224 | Self::JpegBase64 => Form::File,
            Self::Fp32 | Self::Json => Form::Numbers,
            Self::Fp16 => Form::Halves,
            Self::U8 => Form::Levels,
            Self::Tensors => Form::None,
        }
    }

    /// KServe's data type of its elements.
    pub fn datatype(self) -> &'static str {
        match self {
            Self::Fp16 => "FP16",
            Self::U8 => "UINT8",
            Self::Jpeg | Self::Jpeg224 => "BYTES",
            _ => "FP32",
        }
    }

    /// Shape of a batch of images, for a model whose input has these dimensions for each.
    pub fn shape(self, batch: usize, image: &[usize]) -> Vec<i64> {
        let image = if self.form() == Form::File { &[] } else { image };
        std::iter::once(batch).chain(image.iter().copied()).map(|dim| dim as i64).collect()
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "jpeg",
            Self::Jpeg224 => "jpeg-224",
            Self::JpegBase64 => "jpeg-base64",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::U8 => "u8",
            Self::Json => "json",
            Self::Tensors => "tensors",
        })
    }
}

/// Elements of one image's tensor: 3 channels of 224 × 224.
pub const IMAGE_ELEMENTS: usize = 3 * 224 * 224;
/// Bytes of one image's FP32 tensor.
pub const IMAGE_BYTES: usize = IMAGE_ELEMENTS * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_carries_its_default() {
        for protocol in [Protocol::Jpeg, Protocol::KserveHttp, Protocol::KserveGrpc] {
            assert!(Encoding::default_of(protocol).fits(protocol));
        }
        assert!(!Encoding::Json.fits(Protocol::KserveGrpc) && !Encoding::JpegBase64.fits(Protocol::KserveHttp));
    }
}
