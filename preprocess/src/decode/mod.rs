//! Decodes an image file to RGB pixels: chooses the decoder by the first bytes.

mod describe;
mod gif;
mod jpeg;
mod others;
mod png;
mod rgb;

use crate::{error::ImageError, image::Image, recipe::Recipe};

/// Decodes into `pixels`, RGB of [`Image::decoded_size`], replacing its content. The size is checked before memory is
/// allocated for pixels. Of an animation this is the first frame.
pub(crate) fn decode(
    encoded: &[u8],
    max_pixels: u64,
    recipe: &Recipe,
    pixels: &mut Vec<u8>,
) -> Result<Image, ImageError> {
    match encoded {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(encoded, max_pixels, recipe, pixels),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png::decode(encoded, max_pixels, pixels),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => others::webp(encoded, max_pixels, pixels),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => gif::decode(encoded, max_pixels, pixels),
        [b'B', b'M', ..] => others::bmp(encoded, max_pixels, pixels),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => others::tiff(encoded, max_pixels, pixels),
        _ => Err(ImageError::NotAnImage { found: describe::describe(encoded) }),
    }
}
