//! Photographs as large as a camera takes them, made from small ones.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use mozjpeg::{ColorSpace, Compress};

/// Enlarges a JPEG to this width and height (Lanczos), adds the noise of a sensor, and encodes it with quality 92 and chroma
/// of half the size. The noise makes the file as large as a camera's: about 3 bits for each pixel.
pub(crate) fn enlarge(encoded: &[u8], width: u32, height: u32) -> Vec<u8> {
    let photo = image::load_from_memory(encoded).unwrap().to_rgb8();
    let source = TypedImageRef::<U8x3>::from_buffer(photo.width(), photo.height(), &photo).unwrap();
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut pixels).unwrap();
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3)).fit_into_destination(None);
    Resizer::new().resize_typed(&source, &mut target, &options).unwrap();
    add_noise(&mut pixels);
    let mut encoder = Compress::new(ColorSpace::JCS_RGB);
    encoder.set_fastest_defaults();
    encoder.set_size(width as usize, height as usize);
    encoder.set_quality(92.0);
    encoder.set_chroma_sampling_pixel_sizes((2, 2), (2, 2));
    let mut encoder = encoder.start_compress(Vec::new()).unwrap();
    encoder.write_scanlines(&pixels).unwrap();
    encoder.finish().unwrap()
}

/// Adds the sum of four random numbers of -3 to 3 to each sample: a standard deviation of 4 levels.
fn add_noise(pixels: &mut [u8]) {
    let mut state = 1_u32;
    for pixel in pixels {
        let mut sum = -12;
        for _ in 0..4 {
            // A linear congruential generator (Numerical Recipes, "ranqd1").
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += (state >> 24) as i32 * 7 / 256;
        }
        *pixel = (i32::from(*pixel) + sum).clamp(0, 255) as u8;
    }
}
