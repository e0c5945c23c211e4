//! An image as the small JPEG of which a recipe makes the same input, but for what the JPEG loses.

use mozjpeg::{ColorSpace, Compress};

use crate::{
    error::ImageError,
    recipe::{ColorOrder, Fit, JpegDecode, Layout, Recipe},
};

/// Quality of the JPEG, on libjpeg's scale to 100.
const QUALITY: f32 = 90.0;

impl Recipe {
    /// The part of an encoded image of at most `max_pixels` that becomes the input, at the size of the input, as a JPEG of
    /// quality 90 that this recipe does not resize again. Chroma has the full size (4:4:4): at the size of an input half of it
    /// is detail that the model sees, and what every decoder makes of it is the same.
    ///
    /// Where the recipe crops, the JPEG is a square of the shorter side; the pixels of its border, which the crop takes off,
    /// are those of the edge, which cost few bytes.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn to_jpeg(&self, encoded: &[u8], max_pixels: u64) -> Result<Vec<u8>, ImageError> {
        let plain = Self { layout: Layout::Hwc, color_order: ColorOrder::Rgb, jpeg_decode: JpegDecode::Exact, ..*self };
        let mut pixels = vec![0; plain.elements()];
        plain.to_u8(encoded, max_pixels, &mut pixels)?;
        let size = [self.width, self.height];
        match self.fit {
            Fit::Crop { shorter_side } => encode(&framed(&pixels, size, shorter_side), [shorter_side; 2]),
            Fit::Stretch | Fit::Letterbox => encode(&pixels, size),
        }
    }
}

/// RGB pixels of this width and height in the centre of a square, whose other pixels are the nearest of these.
fn framed(pixels: &[u8], [width, height]: [usize; 2], side: usize) -> Vec<u8> {
    // As torchvision rounds the offset of a crop.
    let margin = |length: usize| ((side - length) as f64 / 2.0).round_ties_even() as usize;
    let (left, top) = (margin(width), margin(height));
    let mut framed = Vec::with_capacity(3 * side * side);
    for y in 0..side {
        let row = &pixels[3 * width * y.saturating_sub(top).min(height - 1)..][..3 * width];
        for x in 0..side {
            framed.extend_from_slice(&row[3 * x.saturating_sub(left).min(width - 1)..][..3]);
        }
    }
    framed
}

/// Encodes RGB pixels of this width and height.
fn encode(pixels: &[u8], [width, height]: [usize; 2]) -> Result<Vec<u8>, ImageError> {
    let failure = |error: std::io::Error| ImageError::Decode { format: "image", reason: error.to_string() };
    let mut encoder = Compress::new(ColorSpace::JCS_RGB);
    encoder.set_fastest_defaults();
    encoder.set_size(width, height);
    encoder.set_quality(QUALITY);
    encoder.set_chroma_sampling_pixel_sizes((1, 1), (1, 1));
    encoder.set_optimize_coding(true);
    let mut encoder = encoder.start_compress(Vec::new()).map_err(failure)?;
    encoder.write_scanlines(pixels).map_err(failure)?;
    encoder.finish().map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::DEFAULT_MAX_PIXELS;

    const PHOTO: &[u8] = include_bytes!("../../photos/coffee.jpg");

    fn pixels(recipe: &Recipe, encoded: &[u8]) -> Vec<u8> {
        let mut pixels = vec![0; recipe.elements()];
        recipe.to_u8(encoded, DEFAULT_MAX_PIXELS, &mut pixels).unwrap();
        pixels
    }

    #[test]
    fn the_input_stays_but_for_what_the_jpeg_loses() {
        let letterbox = Recipe { height: 96, width: 160, fit: Fit::Letterbox, ..Recipe::TORCHVISION };
        let stretch = Recipe { height: 90, width: 70, fit: Fit::Stretch, ..Recipe::TORCHVISION };
        let odd = Recipe { height: 101, width: 64, fit: Fit::Crop { shorter_side: 120 }, ..Recipe::TORCHVISION };
        for recipe in [Recipe::TORCHVISION, letterbox, stretch, odd] {
            let small = recipe.to_jpeg(PHOTO, DEFAULT_MAX_PIXELS).unwrap();
            assert!(small.len() < PHOTO.len(), "{} bytes for {recipe:?}", small.len());
            let (exact, again) = (pixels(&recipe, PHOTO), pixels(&recipe, &small));
            let differences = exact.iter().zip(&again).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = differences.sum::<f64>() / exact.len() as f64;
            // Another crop, off by a pixel, differs by several times as much.
            assert!(mean > 0.0 && mean < 3.0, "{mean} for {recipe:?}");
        }
    }

    #[test]
    fn the_border_repeats_the_edge() {
        let pixels: Vec<u8> = (1..=4).flat_map(|level| [level; 3]).collect();
        let framed = framed(&pixels, [2, 2], 4);
        let levels: Vec<u8> = framed.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(levels, [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
    }
}
