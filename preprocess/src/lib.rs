//! Encoded image to model input, as torchvision prepares images for ResNet: decode, turn as EXIF says, shorter side
//! to 256 by antialiased bilinear, centre 224 × 224, scale to 0..1, ImageNet mean and deviation.
//!
//! The reference is Pillow's `ImageOps.exif_transpose(image).convert("RGB")`: pixels are within 3 levels of it,
//! but for hard edges of colour at half resolution (`tests/pillow.rs`). One thing differs on purpose: Pillow clips 16-bit greyscale at 255, here its high byte counts.

mod decode;
mod jpeg;
mod normalise;
mod orient;
mod resize;

use std::cell::RefCell;

/// Side of the model's square input.
pub const SIDE: usize = 224;
/// Elements of one image's tensor `[3, 224, 224]`.
pub const ELEMENTS: usize = 3 * SIDE * SIDE;
/// Largest image by default, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 50_000_000;

/// Most bytes of decoded pixels that a thread keeps for its next image.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Why an image cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// None of the formats that are read.
    #[error("not a JPEG, PNG or WebP image: found {found}")]
    NotAnImage {
        /// What it looks like.
        found: String,
    },
    /// Too large to decode, by its header; nothing was decoded.
    #[error("{width}x{height} pixels are over the limit of {max_pixels}; send a smaller image")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Most pixels allowed.
        max_pixels: u64,
    },
    /// Truncated, damaged, or of a kind that is not read (arithmetic coding, lossless JPEG).
    #[error("cannot decode {format}: {reason}")]
    Decode {
        /// The format.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The slice for the result has the wrong length: a mistake of the caller.
    #[error("room for {actual} elements, needed is room for {ELEMENTS}")]
    OutputLength {
        /// Length of the slice.
        actual: usize,
    },
}

/// Decodes a JPEG, PNG or WebP image, turns, resizes and crops it: RGB `[224, 224, 3]` into `out`.
///
/// # Errors
/// See [`ImageError`]. What `out` holds then is unspecified.
pub fn to_pixels(encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
    if out.len() != ELEMENTS {
        return Err(ImageError::OutputLength { actual: out.len() });
    }
    SCRATCH.with_borrow_mut(|scratch| scratch.prepare(encoded, max_pixels, out))
}

/// The same, normalised as torchvision does: `[3, 224, 224]` into `out`.
///
/// # Errors
/// See [`ImageError`]. What `out` holds then is unspecified.
pub fn to_tensor(encoded: &[u8], max_pixels: u64, out: &mut [f32]) -> Result<(), ImageError> {
    if out.len() != ELEMENTS {
        return Err(ImageError::OutputLength { actual: out.len() });
    }
    let mut pixels = [0; ELEMENTS];
    to_pixels(encoded, max_pixels, &mut pixels)?;
    normalise::normalise(&pixels, out);
    Ok(())
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread keeps from image to image: fresh memory costs page faults.
#[derive(Default)]
struct Scratch {
    decoded: Vec<u8>,
    resizer: fast_image_resize::Resizer,
}

impl Scratch {
    fn prepare(&mut self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        let result = decode::decode(encoded, max_pixels, &mut self.decoded)
            .and_then(|image| resize::resize(&mut self.resizer, image, &self.decoded, out));
        if self.decoded.capacity() > MAX_KEPT_BYTES {
            *self = Self::default();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_another_length_is_refused() {
        assert_eq!(to_pixels(b"", 1, &mut [0; 3]), Err(ImageError::OutputLength { actual: 3 }));
        assert_eq!(to_tensor(b"", 1, &mut [0.0; 4]), Err(ImageError::OutputLength { actual: 4 }));
        let message = ImageError::OutputLength { actual: 3 }.to_string();
        assert_eq!(message, "room for 3 elements, needed is room for 150528");
    }
}
