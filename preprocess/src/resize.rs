//! Resizes an image to the input of a model, in one resampling step.

use std::ops::Range;

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};

use crate::{
    error::ImageError,
    image::Image,
    recipe::{Fit, Interpolation, Recipe},
};

/// The grey around an image that does not fill the input, as in YOLO.
const GREY: u8 = 114;

/// Resamples decoded pixels, RGB of [`Image::decoded_size`], to `out`, RGB `[height, width, 3]`, and orients them.
///
/// Only the cropped region is resampled. The pixels are the same as those of resizing the whole image and cropping it,
/// because each depends only on its position in the image.
pub(crate) fn resize(
    resizer: &mut Resizer,
    recipe: &Recipe,
    image: Image,
    decoded: &[u8],
    out: &mut [u8],
) -> Result<(), ImageError> {
    let input = [recipe.width, recipe.height];
    let mut resampling = Resampling { resizer, interpolation: recipe.interpolation, image, decoded };
    match recipe.fit {
        Fit::Crop { shorter_side } => {
            let region = crop_region(image, input, shorter_side);
            resampling.region(region, input, out)
        }
        Fit::Stretch => resampling.region(whole(image), input, out),
        Fit::Letterbox => {
            let place = place(image, input);
            let [width, height] = [place[0].len(), place[1].len()];
            let mut content = vec![0; 3 * width * height];
            resampling.region(whole(image), [width, height], &mut content)?;
            out.fill(GREY);
            let rows = out.chunks_exact_mut(3 * recipe.width).skip(place[1].start);
            for (row, content) in rows.zip(content.chunks_exact(3 * width)) {
                row[3 * place[0].start..3 * place[0].end].copy_from_slice(content);
            }
            Ok(())
        }
    }
}

/// Decoded pixels, and how they are resampled.
struct Resampling<'a> {
    resizer: &'a mut Resizer,
    interpolation: Interpolation,
    image: Image,
    decoded: &'a [u8],
}

impl Resampling<'_> {
    /// Resamples a region of the stored image (left, top, width, height, in stored pixels) to `out`, of this width and height
    /// once it is oriented.
    fn region(
        &mut self,
        [left, top, width, height]: [f64; 4],
        size: [usize; 2],
        out: &mut [u8],
    ) -> Result<(), ImageError> {
        let algorithm = match self.interpolation {
            Interpolation::Nearest => ResizeAlg::Nearest,
            Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Interpolation::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
        };
        let [left, top, width, height] = [left, top, width, height].map(|length| length * self.image.scale());
        let options = ResizeOptions::new().resize_alg(algorithm).crop(left, top, width, height);
        let failure = |reason: String| ImageError::Decode { format: "image", reason };
        let [decoded_width, decoded_height] = self.image.decoded_size();
        let source = TypedImageRef::<U8x3>::from_buffer(decoded_width, decoded_height, self.decoded);
        let source = source.map_err(|error| failure(error.to_string()))?;
        let orientation = self.image.orientation;
        let [stored_width, stored_height] = orientation.stored(size).map(|side| side as u32);
        let target = TypedImage::<U8x3>::from_buffer(stored_width, stored_height, out);
        let mut target = target.map_err(|error| failure(error.to_string()))?;
        self.resizer.resize_typed(&source, &mut target, &options).map_err(|error| failure(error.to_string()))?;
        orientation.apply(out, size);
        Ok(())
    }
}

/// The whole stored image as a region.
fn whole(image: Image) -> [f64; 4] {
    [0.0, 0.0, image.width.into(), image.height.into()]
}

/// The region of the stored image that becomes the crop of this width and height: left, top, width, height in stored
/// pixels.
fn crop_region(image: Image, size: [usize; 2], shorter_side: usize) -> [f64; 4] {
    let stored = [image.width, image.height].map(u64::from);
    let shorter = stored[0].min(stored[1]);
    // The size of the resized image; torchvision truncates the longer side.
    let resized = stored.map(|side| shorter_side as u64 * side / shorter);
    let size = image.orientation.stored(size);
    let start_and_length = |axis: usize, mirrored: bool| {
        let (stored, resized, side) = (stored[axis] as f64, resized[axis] as f64, size[axis] as f64);
        let margins = resized - side;
        // torchvision rounds the offset half to even, in the oriented image.
        let offset = (margins / 2.0).round_ties_even();
        let offset = if mirrored { margins - offset } else { offset };
        let scale = stored / resized;
        (offset * scale, side * scale)
    };
    let (left, width) = start_and_length(0, image.orientation.mirrored_x);
    let (top, height) = start_and_length(1, image.orientation.mirrored_y);
    [left, top, width, height]
}

/// The columns and rows of the input that the image takes as large as it fits. An odd margin is larger on the right and at
/// the bottom, as in YOLO.
fn place(image: Image, size: [usize; 2]) -> [Range<usize>; 2] {
    let sides = image.orientation.stored([image.width as usize, image.height as usize]);
    let scale = (size[0] as f64 / sides[0] as f64).min(size[1] as f64 / sides[1] as f64);
    std::array::from_fn(|axis| {
        let length = ((sides[axis] as f64 * scale).round() as usize).clamp(1, size[axis].max(1));
        let start = size[axis].saturating_sub(length) / 2;
        start..start + length
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{input::SIDE, orient::Orientation};

    fn crop(image: Image) -> [f64; 4] {
        crop_region(image, [SIDE, SIDE], 256)
    }

    fn image(width: u32, height: u32) -> Image {
        Image::full(width, height, Orientation::default())
    }

    #[test]
    fn the_crop_region_is_the_centre() {
        assert_eq!(crop(image(256, 256)), [16.0, 16.0, 224.0, 224.0]);
        assert_eq!(crop(image(512, 1024)), [32.0, 288.0, 448.0, 448.0]);
        // The margins are 257 - 224 = 33: half of them, 16.5, rounds to 16, which leaves 17 at the other end.
        assert_eq!(crop(image(257, 256)), [16.0, 16.0, 224.0, 224.0]);
        let orientation = Orientation { mirrored_x: true, ..Orientation::default() };
        assert_eq!(crop(Image { orientation, ..image(257, 256) }), [17.0, 16.0, 224.0, 224.0]);
    }

    #[test]
    fn resampling_the_crop_region_equals_resizing_and_cropping() {
        for (width, height) in [(640, 427), (97, 331), (256, 256), (301, 300), (1, 9), (5, 3)] {
            let decoded: Vec<u8> = (0..width * height * 3).map(|i: u32| (i.wrapping_mul(i) / 7 + i) as u8).collect();
            let mut resizer = Resizer::new();
            let mut cropped = vec![0; crate::input::ELEMENTS];
            resize(&mut resizer, &Recipe::TORCHVISION, image(width, height), &decoded, &mut cropped).unwrap();

            let resized = [width, height].map(|side| 256 * side / width.min(height));
            let mut whole = vec![0; (resized[0] * resized[1] * 3) as usize];
            let source = TypedImageRef::<U8x3>::from_buffer(width, height, &decoded).unwrap();
            let mut target = TypedImage::<U8x3>::from_buffer(resized[0], resized[1], &mut whole).unwrap();
            let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
            resizer.resize_typed(&source, &mut target, &options).unwrap();

            let [left, top] = resized.map(|side| (f64::from(side - 224) / 2.0).round_ties_even() as usize);
            for (y, row) in cropped.chunks_exact(3 * SIDE).enumerate() {
                let start = 3 * ((top + y) * resized[0] as usize + left);
                let expected = &whole[start..start + 3 * SIDE];
                let difference = row.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(difference <= Some(1), "{width}x{height} row {y}: {difference:?}");
            }
        }
    }

    #[test]
    fn a_letterbox_has_grey_around_the_image() {
        let recipe = Recipe { height: 4, width: 8, fit: Fit::Letterbox, ..Recipe::TORCHVISION };
        let prepared = |image: Image| {
            let decoded = vec![7; (3 * image.width * image.height) as usize];
            let mut out = vec![0; recipe.elements()];
            resize(&mut Resizer::new(), &recipe, image, &decoded, &mut out).unwrap();
            out.chunks(3 * 8).map(|row| row.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        assert_eq!(prepared(image(10, 10)), [[114, 114, 7, 7, 7, 7, 114, 114]; 4]);
        assert_eq!(prepared(image(16, 4)), [[114; 8], [7; 8], [7; 8], [114; 8]]);
        let orientation = Orientation { transposed: true, ..Orientation::default() };
        assert_eq!(prepared(Image { orientation, ..image(4, 16) }), [[114; 8], [7; 8], [7; 8], [114; 8]]);
        assert_eq!(prepared(image(4000, 1))[1], [7; 8], "no side is lost");
    }

    #[test]
    fn an_image_is_stretched_whatever_its_aspect() {
        let recipe = Recipe { height: 1, width: 2, fit: Fit::Stretch, ..Recipe::TORCHVISION };
        let decoded: Vec<u8> = [0, 0, 200, 200].iter().flat_map(|&level| [level; 3]).collect();
        let mut out = [0; 6];
        let orientation = Orientation { transposed: true, ..Orientation::default() };
        let high = Image { orientation, ..image(1, 4) };
        resize(&mut Resizer::new(), &recipe, high, &decoded, &mut out).unwrap();
        assert!(out[0] < 60 && out[5] > 140, "{out:?}");
    }
}
