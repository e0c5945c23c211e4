//! The pipeline from an encoded image to the model's input, with buffers that each thread reuses.

use std::cell::RefCell;

use crate::{
    decode,
    error::ImageError,
    normalise,
    recipe::{ColorOrder, Layout, Levels, Recipe},
    resize,
};

/// Default limit on the size of an image, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 50_000_000;

/// Maximum size of the decoded pixels' buffer that a thread keeps for its next image, in bytes.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Decodes, resizes, crops and orients a JPEG, PNG, WebP, GIF, BMP or TIFF image. Writes RGB `[224, 224, 3]` to `out`.
///
/// # Errors
/// See [`ImageError`]. The content of `out` is then unspecified.
pub fn to_pixels(encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
    Recipe::TORCHVISION.to_u8(encoded, max_pixels, out)
}

/// As [`to_pixels`], then normalises as torchvision does. Writes `[3, 224, 224]` to `out`.
///
/// # Errors
/// See [`ImageError`]. The content of `out` is then unspecified.
pub fn to_tensor(encoded: &[u8], max_pixels: u64, out: &mut [f32]) -> Result<(), ImageError> {
    static LEVELS: Levels = Levels::IMAGENET;
    Recipe { layout: Layout::Chw, ..Recipe::TORCHVISION }.to_f32(&LEVELS, encoded, max_pixels, out)
}

impl Recipe {
    /// Prepares an encoded image of at most `max_pixels`, and writes its levels to `out`, of [`Recipe::elements`].
    ///
    /// # Errors
    /// See [`ImageError`]. The content of `out` is then unspecified.
    pub fn to_u8(&self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        self.check_length(out.len())?;
        if (self.layout, self.color_order) == (Layout::Hwc, ColorOrder::Rgb) {
            return SCRATCH.with_borrow_mut(|scratch| scratch.decode(self, encoded, max_pixels, Some(out)));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.decode(self, encoded, max_pixels, None)?;
            normalise::rearrange(self, &scratch.prepared, out);
            Ok(())
        })
    }

    /// As [`Recipe::to_u8`], with the number that stands for each level.
    ///
    /// # Errors
    /// See [`ImageError`]. The content of `out` is then unspecified.
    pub fn to_f32(&self, levels: &Levels, encoded: &[u8], max_pixels: u64, out: &mut [f32]) -> Result<(), ImageError> {
        self.check_length(out.len())?;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.decode(self, encoded, max_pixels, None)?;
            normalise::normalise(self, levels, &scratch.prepared, out);
            Ok(())
        })
    }

    fn check_length(&self, actual: usize) -> Result<(), ImageError> {
        let expected = self.elements();
        if actual == expected { Ok(()) } else { Err(ImageError::OutputLength { actual, expected }) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers that a thread reuses, because fresh memory costs page faults.
#[derive(Default)]
struct Scratch {
    /// The decoded pixels.
    decoded: Vec<u8>,
    /// The pixels of the input, RGB `[height, width, 3]`.
    prepared: Vec<u8>,
    resizer: fast_image_resize::Resizer,
}

impl Scratch {
    /// Writes RGB `[height, width, 3]` to `out`, or else to `prepared`.
    fn decode(
        &mut self,
        recipe: &Recipe,
        encoded: &[u8],
        max_pixels: u64,
        out: Option<&mut [u8]>,
    ) -> Result<(), ImageError> {
        let result = decode::decode(encoded, max_pixels, recipe, &mut self.decoded).and_then(|image| {
            let out = out.unwrap_or_else(|| {
                self.prepared.resize(recipe.elements(), 0);
                &mut self.prepared
            });
            resize::resize(&mut self.resizer, recipe, image, &self.decoded, out)
        });
        if self.decoded.capacity() > MAX_KEPT_BYTES {
            (self.decoded, self.resizer) = (Vec::new(), fast_image_resize::Resizer::default());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_an_output_of_the_wrong_length() {
        assert_eq!(to_pixels(b"", 1, &mut [0; 3]), Err(ImageError::OutputLength { actual: 3, expected: 150_528 }));
        assert_eq!(to_tensor(b"", 1, &mut [0.0; 4]), Err(ImageError::OutputLength { actual: 4, expected: 150_528 }));
        let message = ImageError::OutputLength { actual: 3, expected: 150_528 }.to_string();
        assert_eq!(message, "the output has room for 3 elements, but must have room for 150528");
    }
}
