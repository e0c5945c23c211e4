//! Compares the pixels with Pillow's for the images in `reference/` and the photographs, and checks damaged files.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic in its helpers too")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use image::ImageDecoder as _;
use image::codecs::webp::WebPDecoder;
use proptest::prelude::*;
use quintet_preprocess::{DEFAULT_MAX_PIXELS, ELEMENTS, ImageError, to_pixels, to_tensor};

/// Maximum difference from Pillow, in levels of 0 to 255.
const TOLERANCE: u8 = 3;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Pillow's 224x224 pixels for an input.
fn expected(name: &str) -> Vec<u8> {
    let file = fs::read(folder("reference/outputs").join(format!("{name}.webp"))).unwrap();
    let decoder = WebPDecoder::new(std::io::Cursor::new(file)).unwrap();
    assert_eq!(decoder.dimensions(), (224, 224), "{name}");
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).unwrap();
    assert_eq!(pixels.len(), ELEMENTS, "{name}");
    pixels
}

/// The small images of every kind, damaged ones too.
static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let kinds = fs::read_dir(folder("reference/corpus/inputs")).unwrap();
    let files = kinds.flat_map(|kind| fs::read_dir(kind.unwrap().path()).unwrap());
    let files = files.map(|file| fs::read(file.unwrap().path()).unwrap()).filter(|file| !file.is_empty());
    files.chain(inputs().into_iter().map(|(_, file)| file)).collect()
});

fn inputs() -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = ["reference/inputs", "../photos"]
        .into_iter()
        .flat_map(|name| fs::read_dir(folder(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "md"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn pixels_are_within_three_levels_of_pillow() {
    let inputs = inputs();
    assert!(inputs.len() >= 45, "only {} inputs", inputs.len());
    let mut beyond = Vec::new();
    for (name, encoded) in &inputs {
        let mut pixels = vec![0; ELEMENTS];
        to_pixels(encoded, DEFAULT_MAX_PIXELS, &mut pixels).unwrap_or_else(|error| panic!("{name}: {error}"));
        let worst = pixels.iter().zip(expected(name)).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        println!("{name}: {worst}");
        if worst > TOLERANCE {
            beyond.push(format!("{name}: {worst}"));
        }
    }
    assert!(beyond.is_empty(), "{}", beyond.join(", "));
}

#[test]
fn the_tensor_holds_the_normalised_pixels() {
    let photo = fs::read(folder("../photos/rocket.jpg")).unwrap();
    let (mut pixels, mut tensor) = (vec![0; ELEMENTS], vec![0.0; ELEMENTS]);
    to_pixels(&photo, DEFAULT_MAX_PIXELS, &mut pixels).unwrap();
    to_tensor(&photo, DEFAULT_MAX_PIXELS, &mut tensor).unwrap();
    let green = pixels[3 * 1000 + 1];
    let expected = (f32::from(green) / 255.0 - 0.456) / 0.224;
    assert!((tensor[224 * 224 + 1000] - expected).abs() < 1e-6);
}

/// A truncated file may decode only if the missing bytes are metadata or padding; no part of the image may become grey.
#[test]
fn a_truncated_file_is_an_error_or_the_whole_image() {
    for (name, encoded) in &inputs() {
        let (mut whole, mut pixels) = (vec![0; ELEMENTS], vec![0; ELEMENTS]);
        to_pixels(encoded, DEFAULT_MAX_PIXELS, &mut whole).unwrap();
        let cuts = (1..=40).chain((1..10).map(|tenth| encoded.len() * tenth / 10));
        for length in cuts.filter_map(|cut| encoded.len().checked_sub(cut)) {
            if to_pixels(&encoded[..length], DEFAULT_MAX_PIXELS, &mut pixels).is_ok() {
                assert!(pixels == whole, "{name} cut to {length} of {} bytes", encoded.len());
            }
        }
    }
}

#[test]
fn an_image_over_the_limit_is_refused_in_every_format() {
    let mut out = vec![0; ELEMENTS];
    let mut formats = std::collections::BTreeSet::new();
    for encoded in CORPUS.iter() {
        if to_pixels(encoded, DEFAULT_MAX_PIXELS, &mut out).is_ok() && to_pixels(encoded, 1, &mut out).is_err() {
            let error = to_pixels(encoded, 1, &mut out).unwrap_err();
            assert!(matches!(error, ImageError::TooManyPixels { .. }), "{error}");
            formats.insert(encoded[..2].to_vec());
        }
    }
    assert_eq!(formats.len(), 6, "JPEG, PNG, WebP, GIF, BMP and TIFF: {formats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_an_error_or_an_image(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..7) {
        let magics = [&b""[..], &[0xff, 0xd8, 0xff], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM", b"II*\0"];
        let magic = magics[magic];
        let _ = to_pixels(&[magic, &bytes].concat(), 1 << 20, &mut vec![0; ELEMENTS]);
    }

    #[test]
    fn damaged_files_never_panic(input in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let encoded = input.get(&CORPUS);
        let mut damaged = encoded.clone();
        for (position, byte) in flips {
            let position = position.index(damaged.len());
            damaged[position] ^= byte;
        }
        let mut out = vec![0; ELEMENTS];
        let _ = to_pixels(&damaged, 1 << 20, &mut out);
        let _ = to_pixels(&damaged[..cut.index(damaged.len())], 1 << 20, &mut out);
    }
}
