//! The pipeline from an encoded image to the model's input, with buffers that each thread reuses.

use std::cell::RefCell;

use crate::{decode, error::ImageError, input::ELEMENTS, normalise, resize};

/// Default limit on the size of an image, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 50_000_000;

/// Maximum size of the decoded pixels' buffer that a thread keeps for its next image, in bytes.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Decodes, resizes, crops and orients a JPEG, PNG, WebP, GIF, BMP or TIFF image. Writes RGB `[224, 224, 3]` to `out`.
///
/// # Errors
/// See [`ImageError`]. The content of `out` is then unspecified.
pub fn to_pixels(encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
    if out.len() != ELEMENTS {
        return Err(ImageError::OutputLength { actual: out.len() });
    }
    SCRATCH.with_borrow_mut(|scratch| scratch.prepare(encoded, max_pixels, out))
}

/// As [`to_pixels`], then normalises as torchvision does. Writes `[3, 224, 224]` to `out`.
///
/// # Errors
/// See [`ImageError`]. The content of `out` is then unspecified.
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

/// Buffers that a thread reuses, because fresh memory costs page faults.
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
    fn rejects_an_output_of_the_wrong_length() {
        assert_eq!(to_pixels(b"", 1, &mut [0; 3]), Err(ImageError::OutputLength { actual: 3 }));
        assert_eq!(to_tensor(b"", 1, &mut [0.0; 4]), Err(ImageError::OutputLength { actual: 4 }));
        let message = ImageError::OutputLength { actual: 3 }.to_string();
        assert_eq!(message, "the output has room for 3 elements, but must have room for 150528");
    }
}
