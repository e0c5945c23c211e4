//! Resizes the shorter side to 256 and crops the centre 224 × 224, in one resampling step.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};

use crate::{error::ImageError, image::Image, input::SIDE};

/// Length of the shorter side after resizing and before cropping, in pixels.
const SHORTER_SIDE: u64 = 256;

/// Resamples decoded pixels, RGB `[height, width, 3]`, to `out`, RGB `[224, 224, 3]`, and orients them.
///
/// Only the cropped region is resampled. The pixels are the same as those of resizing the whole image and cropping it,
/// because each depends only on its position in the image.
pub(crate) fn resize(resizer: &mut Resizer, image: Image, decoded: &[u8], out: &mut [u8]) -> Result<(), ImageError> {
    let [left, top, width, height] = crop_region(image);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
    let failure = |reason: String| ImageError::Decode { format: "image", reason };
    let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, decoded);
    let source = source.map_err(|error| failure(error.to_string()))?;
    let target = TypedImage::<U8x3>::from_buffer(SIDE as u32, SIDE as u32, out);
    let mut target = target.map_err(|error| failure(error.to_string()))?;
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| failure(error.to_string()))?;
    image.orientation.apply(out);
    Ok(())
}

/// The region of the stored image that becomes the crop: left, top, width, height in stored pixels.
fn crop_region(image: Image) -> [f64; 4] {
    let stored = [image.width, image.height].map(u64::from);
    let shorter = stored[0].min(stored[1]);
    // The size of the resized image; torchvision truncates the longer side.
    let resized = stored.map(|side| SHORTER_SIDE * side / shorter);
    let start_and_length = |axis: usize, mirrored: bool| {
        let (stored, resized) = (stored[axis] as f64, resized[axis] as f64);
        let margins = resized - SIDE as f64;
        // torchvision rounds the offset half to even, in the oriented image.
        let offset = (margins / 2.0).round_ties_even();
        let offset = if mirrored { margins - offset } else { offset };
        let scale = stored / resized;
        (offset * scale, SIDE as f64 * scale)
    };
    let (left, width) = start_and_length(0, image.orientation.mirrored_x);
    let (top, height) = start_and_length(1, image.orientation.mirrored_y);
    [left, top, width, height]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orient::Orientation;

    fn image(width: u32, height: u32) -> Image {
        Image { width, height, orientation: Orientation::default() }
    }

    #[test]
    fn the_crop_region_is_the_centre() {
        assert_eq!(crop_region(image(256, 256)), [16.0, 16.0, 224.0, 224.0]);
        assert_eq!(crop_region(image(512, 1024)), [32.0, 288.0, 448.0, 448.0]);
        // The margins are 257 - 224 = 33: half of them, 16.5, rounds to 16, which leaves 17 at the other end.
        assert_eq!(crop_region(image(257, 256)), [16.0, 16.0, 224.0, 224.0]);
        let orientation = Orientation { mirrored_x: true, ..Orientation::default() };
        assert_eq!(crop_region(Image { orientation, ..image(257, 256) }), [17.0, 16.0, 224.0, 224.0]);
    }

    #[test]
    fn resampling_the_crop_region_equals_resizing_and_cropping() {
        for (width, height) in [(640, 427), (97, 331), (256, 256), (301, 300), (1, 9), (5, 3)] {
            let decoded: Vec<u8> = (0..width * height * 3).map(|i: u32| (i.wrapping_mul(i) / 7 + i) as u8).collect();
            let mut resizer = Resizer::new();
            let mut cropped = vec![0; crate::input::ELEMENTS];
            resize(&mut resizer, image(width, height), &decoded, &mut cropped).unwrap();

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
}
