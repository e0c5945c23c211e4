//! Decodes WebP, BMP and TIFF with the decoders of the crate `image`.

use std::io::Cursor;

use image::{
    ColorType, ImageDecoder, ImageResult, Limits,
    codecs::{bmp::BmpDecoder, tiff::TiffDecoder, webp::WebPDecoder},
};

use super::rgb;
use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

const TRUNCATED: &str = "truncated: its end is missing";

/// Memory that a decoder may use beside twice the size of the pixels, in bytes: for strips, tables and tags.
const EXTRA_BYTES: u64 = 4 << 20;

/// Decodes a WebP.
pub(super) fn webp(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    // The length in the header does not count the header's first 8 bytes. What follows the pixels must be there, too.
    let announced =
        encoded.get(4..8).and_then(|length| length.first_chunk()).map_or(0, |&length| u32::from_le_bytes(length));
    if (encoded.len() as u64) < u64::from(announced) + 8 {
        return Err(ImageError::Decode { format: "WebP", reason: TRUNCATED.to_owned() });
    }
    let orientation = Orientation::from_metadata(riff_chunk(encoded, b"EXIF"), riff_chunk(encoded, b"XMP "));
    decode("WebP", WebPDecoder::new(Cursor::new(encoded)), orientation, max_pixels, pixels)
}

/// Decodes a BMP, which has no metadata.
pub(super) fn bmp(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    decode("BMP", BmpDecoder::new(Cursor::new(encoded)), Orientation::default(), max_pixels, pixels)
}

/// Decodes the first page of a TIFF.
pub(super) fn tiff(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    // EXIF data has the form of a TIFF, so the file itself is read as such.
    let orientation = Orientation::from_metadata(encoded, &[]);
    decode("TIFF", TiffDecoder::new(Cursor::new(encoded)), orientation, max_pixels, pixels)
}

fn decode(
    format: &'static str,
    decoder: ImageResult<impl ImageDecoder>,
    orientation: Orientation,
    max_pixels: u64,
    pixels: &mut Vec<u8>,
) -> Result<Image, ImageError> {
    let failure = |reason: String| ImageError::Decode { format, reason };
    let decode_error = |error: image::ImageError| failure(reason(&error));
    let mut decoder = decoder.map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    let color = decoder.color_type();
    let (channels, sample_bytes) = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => (color.channel_count(), 1),
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => (color.channel_count(), 2),
        _ => return Err(failure(format!("its samples are {color:?}; convert it to PNG or JPEG"))),
    };
    let bytes = decoder.total_bytes();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(2 * bytes + EXTRA_BYTES);
    decoder.set_limits(limits).map_err(decode_error)?;
    // Cleared, so that pixels of the previous image never remain if the decoder skips some.
    let mut samples = vec![0; bytes as usize];
    decoder.read_image(&mut samples).map_err(decode_error)?;
    match color {
        ColorType::Rgb8 => *pixels = samples,
        _ => rgb::from_samples(&samples, channels.into(), sample_bytes, pixels),
    }
    Ok(Image::full(width, height, orientation))
}

/// The decoder's words, without the format, which the error names already.
fn reason(error: &image::ImageError) -> String {
    match error {
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        image::ImageError::Unsupported(error) => format!("{error}; convert it to PNG or JPEG"),
        error => error.to_string(),
    }
}

/// The content of the first RIFF chunk with this name; empty if there is none.
fn riff_chunk<'a>(encoded: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    // After "RIFF", the length and "WEBP".
    let mut rest = encoded.get(12..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if head[..4] == *name {
            return after.get(..length).unwrap_or_default();
        }
        // Chunks have an even length.
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_chunk_of_a_riff_file() {
        let file = b"RIFF\x2a\0\0\0WEBPVP8 \x03\0\0\0abc\0XMP \x01\0\0\0x\0EXIF\x02\0\0\0MMXMP \x09\0\0\0y";
        assert_eq!(riff_chunk(file, b"XMP "), b"x");
        assert_eq!(riff_chunk(file, b"EXIF"), b"MM");
        assert_eq!(riff_chunk(file, b"ICCP"), b"");
        assert_eq!(riff_chunk(&file[..30], b"XMP "), b"", "cut off");
        assert_eq!(riff_chunk(b"RIFF", b"XMP "), b"");
    }
}
