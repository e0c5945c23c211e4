//! Shorter side to 256, centre 224 × 224: where that is in the image, and the one resampling that gets it.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};

use crate::{error::ImageError, image::Image, input::SIDE};

/// Length of the shorter side, in pixels, before cropping.
const SHORTER: u64 = 256;

/// Resamples decoded pixels, RGB `[height, width, 3]`, to `out`, RGB `[224, 224, 3]`, and turns them.
///
/// Only what the crop shows is resampled. That gives the pixels of resizing the whole and cropping then, as each
/// depends on its own place in the image alone.
pub(crate) fn resize(resizer: &mut Resizer, image: Image, decoded: &[u8], out: &mut [u8]) -> Result<(), ImageError> {
    let [left, top, width, height] = window(image);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
    let failure = |reason: String| ImageError::Decode { format: "image", reason };
    let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, decoded);
    let source = source.map_err(|error| failure(error.to_string()))?;
    let target = TypedImage::<U8x3>::from_buffer(SIDE as u32, SIDE as u32, out);
    let mut target = target.map_err(|error| failure(error.to_string()))?;
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| failure(error.to_string()))?;
    image.orientation.turn(out);
    Ok(())
}

/// The part of the stored image that ends up in the crop: left, top, width, height in its pixels.
fn window(image: Image) -> [f64; 4] {
    let (stored, turn) = ([image.width, image.height].map(u64::from), image.orientation);
    let shorter = stored[0].min(stored[1]);
    // A side of the whole after resizing; torchvision cuts off the fraction.
    let resized = stored.map(|side| SHORTER * side / shorter);
    let place = |axis: usize, mirrored: bool| {
        let (stored, resized) = (stored[axis] as f64, resized[axis] as f64);
        let spare = resized - SIDE as f64;
        // torchvision rounds the offset half to even, in the turned image.
        let offset = (spare / 2.0).round_ties_even();
        let offset = if mirrored { spare - offset } else { offset };
        let scale = stored / resized;
        (offset * scale, SIDE as f64 * scale)
    };
    let ((left, width), (top, height)) = (place(0, turn.mirrored_x), place(1, turn.mirrored_y));
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
    fn the_window_is_the_centre() {
        assert_eq!(window(image(256, 256)), [16.0, 16.0, 224.0, 224.0]);
        assert_eq!(window(image(512, 1024)), [32.0, 288.0, 448.0, 448.0]);
        // 257 - 224 = 33: half of it, 16.5, goes to 16, seen from the other end that is 17.
        assert_eq!(window(image(257, 256)), [16.0, 16.0, 224.0, 224.0]);
        let orientation = Orientation { mirrored_x: true, ..Orientation::default() };
        assert_eq!(window(Image { orientation, ..image(257, 256) }), [17.0, 16.0, 224.0, 224.0]);
    }

    #[test]
    fn resampling_the_window_is_resizing_the_whole_and_cropping() {
        for (width, height) in [(640, 427), (97, 331), (256, 256), (301, 300), (1, 9), (5, 3)] {
            let decoded: Vec<u8> = (0..width * height * 3).map(|i: u32| (i.wrapping_mul(i) / 7 + i) as u8).collect();
            let mut resizer = Resizer::new();
            let mut at_once = vec![0; crate::input::ELEMENTS];
            resize(&mut resizer, image(width, height), &decoded, &mut at_once).unwrap();

            let resized = [width, height].map(|side| 256 * side / width.min(height));
            let mut whole = vec![0; (resized[0] * resized[1] * 3) as usize];
            let source = TypedImageRef::<U8x3>::from_buffer(width, height, &decoded).unwrap();
            let mut target = TypedImage::<U8x3>::from_buffer(resized[0], resized[1], &mut whole).unwrap();
            let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
            resizer.resize_typed(&source, &mut target, &options).unwrap();

            let [left, top] = resized.map(|side| (f64::from(side - 224) / 2.0).round_ties_even() as usize);
            for (y, row) in at_once.chunks_exact(3 * SIDE).enumerate() {
                let start = 3 * ((top + y) * resized[0] as usize + left);
                let expected = &whole[start..start + 3 * SIDE];
                let difference = row.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(difference <= Some(1), "{width}x{height} row {y}: {difference:?}");
            }
        }
    }
}
