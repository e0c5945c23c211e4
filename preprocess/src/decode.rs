//! Decodes a JPEG, PNG or WebP image to RGB pixels.

use std::io::Cursor;

use ::image::{
    ColorType, ImageDecoder, ImageResult, Limits,
    codecs::{png::PngDecoder, webp::WebPDecoder},
};

use crate::{
    error::ImageError,
    image::{Image, check_size},
    jpeg,
    orient::Orientation,
};

/// Decodes into `pixels`, RGB `[height, width, 3]`, replacing its content.
pub(crate) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    match encoded {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(encoded, max_pixels, pixels),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => {
            // Limits the decompressed size of chunks other than the pixels (profiles, texts).
            let decoder = PngDecoder::with_limits(Cursor::new(encoded), Limits::default());
            decode_with("PNG", decoder, max_pixels, pixels)
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            decode_with("WebP", WebPDecoder::new(Cursor::new(encoded)), max_pixels, pixels)
        }
        _ => Err(ImageError::NotAnImage { found: describe(encoded) }),
    }
}

/// Decodes with a decoder of the crate `image`.
fn decode_with(
    format: &'static str,
    decoder: ImageResult<impl ImageDecoder>,
    max_pixels: u64,
    pixels: &mut Vec<u8>,
) -> Result<Image, ImageError> {
    let decode_error = |error: ::image::ImageError| ImageError::Decode { format, reason: error.to_string() };
    let mut decoder = decoder.map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    let exif = decoder.exif_metadata().map_err(decode_error)?;
    let color = decoder.color_type();
    let mut samples = vec![0; width as usize * height as usize * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(decode_error)?;
    to_rgb(samples, color, pixels);
    Ok(Image { width, height, orientation: Orientation::from_exif(exif.as_deref().unwrap_or_default()) })
}

/// Converts samples to 8-bit RGB: grey is repeated, alpha is dropped, and of 16 bits the high byte is kept.
fn to_rgb(samples: Vec<u8>, color: ColorType, pixels: &mut Vec<u8>) {
    if color == ColorType::Rgb8 {
        *pixels = samples;
        return;
    }
    let (pixel_bytes, channels) = (usize::from(color.bytes_per_pixel()), usize::from(color.channel_count()));
    let sample_bytes = pixel_bytes / channels;
    let high = if cfg!(target_endian = "little") { sample_bytes - 1 } else { 0 };
    let rgb = if channels < 3 { [high; 3] } else { [high, sample_bytes + high, 2 * sample_bytes + high] };
    pixels.clear();
    pixels.extend(samples.chunks_exact(pixel_bytes).flat_map(|pixel| rgb.map(|offset| pixel[offset])));
}

/// Describes bytes that are not an image in a supported format, for the error message.
fn describe(bytes: &[u8]) -> String {
    let known = match bytes {
        [] => "nothing (0 bytes)",
        [b'G', b'I', b'F', b'8', ..] => "a GIF image",
        [b'B', b'M', ..] => "a BMP image",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF image",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF, HEIC or MP4 file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [b'd', b'a', b't', b'a', b':', ..] => "a data: URL; send the bytes of the image instead",
        _ if [&b"/9j/"[..], b"iVBORw0KGgo", b"UklGR"].iter().any(|magic| bytes.starts_with(magic)) => {
            "an image in base64; decode it first"
        }
        _ => {
            let start = &bytes[..bytes.len().min(8)];
            return format!("{} bytes that begin with \"{}\"", bytes.len(), start.escape_ascii());
        }
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_bytes_that_are_not_an_image() {
        let message = |bytes: &[u8]| decode(bytes, 1, &mut Vec::new()).unwrap_err().to_string();
        let prefix = "not a JPEG, PNG or WebP image: found ";
        for (bytes, found) in [
            (&b""[..], "nothing (0 bytes)"),
            (b"GIF89a....", "a GIF image"),
            (b"/9j/4AAQSkZJRg", "an image in base64; decode it first"),
            (b"<html>not found</html>", "22 bytes that begin with \"<html>no\""),
            (&[0xff, 0xd8], "2 bytes that begin with \"\\xff\\xd8\""),
        ] {
            assert_eq!(message(bytes), format!("{prefix}{found}"));
        }
    }

    #[test]
    fn converts_every_colour_type_to_rgb() {
        let rgb = |color, samples: &[u8]| {
            let mut pixels = vec![9; 7];
            to_rgb(samples.to_vec(), color, &mut pixels);
            pixels
        };
        let bytes = |samples: &[u16]| samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(rgb(ColorType::L8, &[1, 2]), [1, 1, 1, 2, 2, 2]);
        assert_eq!(rgb(ColorType::La8, &[1, 2]), [1, 1, 1]);
        assert_eq!(rgb(ColorType::Rgb8, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(rgb(ColorType::Rgba8, &[1, 2, 3, 4]), [1, 2, 3]);
        assert_eq!(rgb(ColorType::L16, &bytes(&[0x0102])), [1, 1, 1]);
        assert_eq!(rgb(ColorType::La16, &bytes(&[0x0102, 0x0304])), [1, 1, 1]);
        assert_eq!(rgb(ColorType::Rgb16, &bytes(&[0x0102, 0x0304, 0x0506])), [1, 3, 5]);
        assert_eq!(rgb(ColorType::Rgba16, &bytes(&[0x0102, 0x0304, 0x0506, 0x0708])), [1, 3, 5]);
    }
}
