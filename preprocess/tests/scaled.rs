//! Compares JPEGs that are decoded at a reduced size with the same ones decoded exactly.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may fail by panic in its helpers too")]

#[path = "../benches/photo/mod.rs"]
mod photo;

use std::{fs, path::Path};

use mozjpeg::{ColorSpace, ColorSpaceExt as _, Compress};
use quintet_preprocess::{DEFAULT_MAX_PIXELS, Fit, ImageError, Interpolation, JpegDecode, Recipe};

const STRETCH: Recipe = Recipe { height: 100, width: 90, fit: Fit::Stretch, ..Recipe::TORCHVISION };
const LETTERBOX: Recipe = Recipe { height: 64, width: 64, fit: Fit::Letterbox, ..Recipe::TORCHVISION };

fn coffee() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos/coffee.jpg")).unwrap()
}

fn pixels(recipe: &Recipe, jpeg_decode: JpegDecode, encoded: &[u8]) -> Vec<u8> {
    let recipe = Recipe { jpeg_decode, ..*recipe };
    let mut pixels = vec![0; recipe.elements()];
    recipe.to_u8(encoded, DEFAULT_MAX_PIXELS, &mut pixels).unwrap();
    pixels
}

/// The mean and the largest difference between the exact pixels and those of the reduced size, in levels.
fn difference(recipe: &Recipe, encoded: &[u8]) -> (f64, u8) {
    let [exact, scaled] = [JpegDecode::Exact, JpegDecode::Scaled].map(|decode| pixels(recipe, decode, encoded));
    let differences = exact.iter().zip(&scaled).map(|(a, b)| a.abs_diff(*b));
    let mean = differences.clone().map(f64::from).sum::<f64>() / exact.len() as f64;
    (mean, differences.max().unwrap())
}

/// Adds an EXIF segment with this orientation.
fn oriented(encoded: &[u8], orientation: u8) -> Vec<u8> {
    let exif =
        [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&encoded[..2], &[0xff, 0xe1], &length, &exif, &encoded[2..]].concat()
}

#[test]
fn a_reduced_photograph_is_nearly_the_exact_one_however_it_is_oriented_and_fitted() {
    // The sides are no multiples of 8: the last pixels of a row and a column are parts.
    for (width, height) in [(1001, 751), (803, 1197)] {
        let photo = photo::enlarge(&coffee(), width, height);
        for (name, recipe) in [("crop", Recipe::TORCHVISION), ("stretch", STRETCH), ("letterbox", LETTERBOX)] {
            for orientation in 1..=8 {
                let (mean, largest) = difference(&recipe, &oriented(&photo, orientation));
                assert!(mean > 0.0, "{width}x{height} {name} {orientation} was not reduced");
                assert!(mean < 1.0 && largest < 24, "{width}x{height} {name} {orientation}: {mean} {largest}");
            }
        }
    }
}

#[test]
fn grey_and_cmyk_are_reduced_as_well() {
    let (width, height) = (1203, 901);
    for space in [ColorSpace::JCS_GRAYSCALE, ColorSpace::JCS_CMYK] {
        let mut encoder = Compress::new(space);
        encoder.set_fastest_defaults();
        encoder.set_size(width, height);
        encoder.set_quality(95.0);
        let mut encoder = encoder.start_compress(Vec::new()).unwrap();
        let channels = space.num_components();
        let sample =
            |at: usize| ((at / channels % width) / 6 + (at / channels / width) / 18 + 9 * (at % channels)) as u8;
        encoder.write_scanlines(&(0..channels * width * height).map(sample).collect::<Vec<_>>()).unwrap();
        let (mean, largest) = difference(&Recipe::TORCHVISION, &encoder.finish().unwrap());
        assert!(mean > 0.0 && mean < 1.0 && largest < 4, "{space:?}: {mean} {largest}");
    }
}

#[test]
fn what_the_resize_needs_is_decoded_exactly() {
    let photo = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos/coffee-224.jpg")).unwrap();
    assert_eq!(difference(&Recipe::TORCHVISION, &photo), (0.0, 0));
    let nearest = Recipe { interpolation: Interpolation::Nearest, ..STRETCH };
    assert_eq!(difference(&nearest, &photo::enlarge(&coffee(), 900, 700)), (0.0, 0));
}

#[test]
fn limits_and_damage_are_those_of_the_whole_image() {
    let photo = photo::enlarge(&coffee(), 900, 700);
    let recipe = Recipe { jpeg_decode: JpegDecode::Scaled, ..Recipe::TORCHVISION };
    let mut out = vec![0; recipe.elements()];
    let mut decode = |encoded: &[u8], max_pixels| recipe.to_u8(encoded, max_pixels, &mut out);
    assert_eq!(decode(&photo, 900 * 700), Ok(()));
    let over = ImageError::TooManyPixels { width: 900, height: 700, max_pixels: 900 * 700 - 1 };
    assert_eq!(decode(&photo, 900 * 700 - 1), Err(over));
    for length in [photo.len() - 1, photo.len() / 2] {
        let error = decode(&photo[..length], u64::MAX).unwrap_err().to_string();
        assert_eq!(error, "cannot decode JPEG: truncated: its end is missing");
    }
}
