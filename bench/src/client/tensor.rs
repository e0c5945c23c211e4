//! Converts FP32 tensors to FP16, pixels and JSON.

use bytes::{BufMut as _, Bytes, BytesMut};
use half::f16;

use crate::model::encoding::IMAGE_ELEMENTS;

/// FP32 elements in bytes as FP16 elements.
pub fn to_fp16(fp32: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(fp32.len() / 2);
    elements(fp32).for_each(|x| out.put_slice(&f16::from_f32(x).to_le_bytes()));
    out.freeze()
}

/// Normalised FP32 images `[n, 3, 224, 224]` in bytes as the original pixels, `[n, 224, 224, 3]`.
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

/// Mean of each colour channel in ImageNet, by which the preprocessing normalises.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of each colour channel in ImageNet.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Pixels of one image.
const PIXELS: usize = IMAGE_ELEMENTS / 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::payload::compiled_in;

    /// The pixels equal those of the decoder, and FP16 is within its precision.
    #[test]
    fn all_forms_carry_the_same_photograph() {
        let photograph = &compiled_in()[0];
        let mut pixels = vec![0_u8; IMAGE_ELEMENTS];
        quintet_preprocess::to_pixels(&photograph.bytes, 50_000_000, &mut pixels).unwrap();
        let mut tensor = vec![0.0_f32; IMAGE_ELEMENTS];
        quintet_preprocess::to_tensor(&photograph.bytes, 50_000_000, &mut tensor).unwrap();
        let fp32: Vec<u8> = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();

        assert!(to_pixels(&fp32) == pixels, "the pixels are restored exactly");
        let fp16 = to_fp16(&fp32);
        let halves = fp16.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32());
        assert!(halves.zip(&tensor).all(|(half, x)| (half - x).abs() <= x.abs() * 1e-3 + 1e-4));
        let numbers: Vec<f32> = serde_json::from_str(&to_json(&fp32).unwrap()).unwrap();
        assert!(numbers == tensor, "JSON restores every number");
    }
}
