//! The payload axis: in which form a request carries its images.

use bytes::{BufMut as _, Bytes, BytesMut};
use half::f16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{payload::IMAGE_ELEMENTS, target::Protocol};

/// Mean and deviation of each colour channel that the preprocessing normalises by (ImageNet's).
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// Pixels of one image.
const PIXELS: usize = IMAGE_ELEMENTS / 3;

/// The form of a request's images.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The encoded files as they are: one as the body, several as multipart/form-data. JPEG lane.
    Jpeg,
    /// The encoded files in base64 in JSON. JPEG lane; its default.
    JpegBase64,
    /// FP32 `[N,3,224,224]`, normalised: 602,112 bytes an image. KServe lanes; their default.
    Fp32,
    /// FP16 `[N,3,224,224]`, normalised, to the model NAME_fp16: 301,056 bytes an image. KServe lanes.
    Fp16,
    /// UINT8 `[N,224,224,3]`, plain pixels, to the model NAME_u8: 150,528 bytes an image. KServe lanes.
    U8,
    /// The FP32 tensor as JSON numbers, the answer too. KServe over HTTP.
    Json,
}

impl Encoding {
    /// What a protocol carries when nothing else is asked for.
    pub fn default_of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Jpeg => Self::JpegBase64,
            Protocol::KserveHttp | Protocol::KserveGrpc => Self::Fp32,
        }
    }

    /// Whether a protocol can carry it.
    pub fn fits(self, protocol: Protocol) -> bool {
        match self {
            Self::Jpeg | Self::JpegBase64 => protocol == Protocol::Jpeg,
            Self::Fp32 | Self::Fp16 | Self::U8 => protocol != Protocol::Jpeg,
            Self::Json => protocol == Protocol::KserveHttp,
        }
    }

    /// The model that takes it, of a family's plain name.
    pub fn model(self, name: &str) -> String {
        match self {
            Self::Fp16 => format!("{name}_fp16"),
            Self::U8 => format!("{name}_u8"),
            Self::Jpeg | Self::JpegBase64 | Self::Fp32 | Self::Json => name.to_owned(),
        }
    }

    /// KServe's name of its elements' type.
    pub fn datatype(self) -> &'static str {
        match self {
            Self::Fp16 => "FP16",
            Self::U8 => "UINT8",
            Self::Jpeg | Self::JpegBase64 | Self::Fp32 | Self::Json => "FP32",
        }
    }

    /// Shape of a batch.
    pub fn shape(self, batch: usize) -> [i64; 4] {
        match self {
            Self::U8 => [batch as i64, 224, 224, 3],
            _ => [batch as i64, 3, 224, 224],
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "jpeg",
            Self::JpegBase64 => "jpeg-base64",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::U8 => "u8",
            Self::Json => "json",
        })
    }
}

/// FP32 elements in bytes as FP16 elements.
pub fn to_fp16(fp32: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(fp32.len() / 2);
    elements(fp32).for_each(|x| out.put_slice(&f16::from_f32(x).to_le_bytes()));
    out.freeze()
}

/// Normalised FP32 images `[n, 3, 224, 224]` in bytes as the pixels they were made of, `[n, 224, 224, 3]`.
pub fn to_pixels(fp32: &[u8]) -> Bytes {
    let normalised: Vec<f32> = elements(fp32).collect();
    let mut out = BytesMut::with_capacity(normalised.len());
    for image in normalised.chunks_exact(IMAGE_ELEMENTS) {
        for pixel in 0..PIXELS {
            for channel in 0..3 {
                let x = image[channel * PIXELS + pixel];
                out.put_u8(((x * DEVIATION[channel] + MEAN[channel]) * 255.0).round() as u8);
            }
        }
    }
    out.freeze()
}

/// FP32 elements in bytes as a flat JSON array.
///
/// # Errors
/// When serde_json cannot write it.
pub fn to_json(fp32: &[u8]) -> serde_json::Result<String> {
    serde_json::to_string(&elements(fp32).collect::<Vec<f32>>())
}

fn elements(fp32: &[u8]) -> impl Iterator<Item = f32> {
    let (elements, _) = fp32.as_chunks::<4>();
    elements.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::payload::compiled_in;

    /// Each tensor form is the same photograph: the pixels are the decoder's own, FP16 is within its precision.
    #[test]
    fn all_forms_carry_the_same_photograph() {
        let photograph = &compiled_in()[0];
        let mut pixels = vec![0_u8; IMAGE_ELEMENTS];
        quintet_preprocess::to_pixels(&photograph.bytes, 50_000_000, &mut pixels).unwrap();
        let mut tensor = vec![0.0_f32; IMAGE_ELEMENTS];
        quintet_preprocess::to_tensor(&photograph.bytes, 50_000_000, &mut tensor).unwrap();
        let fp32: Vec<u8> = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();

        assert!(to_pixels(&fp32) == pixels, "the pixels come back exactly");
        let fp16 = to_fp16(&fp32);
        let halves = fp16.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32());
        assert!(halves.zip(&tensor).all(|(half, x)| (half - x).abs() <= x.abs() * 1e-3 + 1e-4));
        let numbers: Vec<f32> = serde_json::from_str(&to_json(&fp32).unwrap()).unwrap();
        assert!(numbers == tensor, "JSON gives every number back");
    }

    #[test]
    fn every_protocol_carries_its_default() {
        for protocol in [Protocol::Jpeg, Protocol::KserveHttp, Protocol::KserveGrpc] {
            assert!(Encoding::default_of(protocol).fits(protocol));
        }
        assert!(!Encoding::Json.fits(Protocol::KserveGrpc) && !Encoding::Jpeg.fits(Protocol::KserveHttp));
    }
}
