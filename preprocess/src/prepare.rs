//! From an encoded image to the model's input, with memory that each thread keeps for its next image.

use std::cell::RefCell;

use crate::{decode, error::ImageError, input::ELEMENTS, normalise, resize};

/// Largest image by default, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 50_000_000;

/// Most bytes of decoded pixels that a thread keeps for its next image.
const MAX_KEPT_BYTES: usize = 16 << 20;

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
