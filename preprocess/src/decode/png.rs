//! Decodes PNG as Pillow does: checksums count before the pixels only, and metadata may follow the pixels.

use std::{
    borrow::Cow,
    io::{Cursor, ErrorKind, Read as _},
};

use flate2::{Crc, read::ZlibDecoder};
use png::{DecodeOptions, Decoder, DecodingError, Transformations};

use super::rgb;
use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

/// Length of the signature at the start of a file.
const SIGNATURE: usize = 8;

/// Maximum length of a text after decompression, as Pillow's `MAX_TEXT_CHUNK`, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Decodes the image, which is the first frame of an animation or stands for it.
pub(super) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    let decode_error = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => truncated(),
        error => failure(error.to_string()),
    };
    let (metadata, encoded) = read_chunks(encoded)?;
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    // The decoder's own limit is for what is not pixels.
    let mut decoder = Decoder::new_with_options(Cursor::new(encoded), options);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(decode_error)?;
    let (width, height) = (header.width, header.height);
    check_size(width, height, max_pixels)?;

    let mut reader = decoder.read_info().map_err(decode_error)?;
    let size = reader.output_buffer_size().ok_or_else(|| failure("it is too large".to_owned()))?;
    let channels = reader.output_color_type().0.samples();
    if channels == 3 {
        // Cleared, so that pixels of the previous image never remain if the decoder skips some.
        pixels.clear();
        pixels.resize(size, 0);
        reader.next_frame(pixels).map_err(decode_error)?;
    } else {
        let mut samples = vec![0; size];
        reader.next_frame(&mut samples).map_err(decode_error)?;
        rgb::from_samples(&samples, channels, 1, pixels);
    }
    Ok(Image::full(width, height, metadata.orientation()))
}

fn failure(reason: String) -> ImageError {
    ImageError::Decode { format: "PNG", reason }
}

fn truncated() -> ImageError {
    failure("truncated: its end is missing".to_owned())
}

/// Where a PNG may say its orientation.
#[derive(Default)]
struct Metadata {
    /// The chunk `eXIf`.
    exif: Vec<u8>,
    /// The text `Raw profile type exif`, in which ImageMagick writes EXIF as hexadecimal digits.
    raw_profile: Vec<u8>,
    /// The text `XML:com.adobe.xmp`.
    xmp: Vec<u8>,
}

/// Reads the chunks up to the end: the metadata (of several with one name the last counts), and the file with an end, for
/// the decoder, which wants one. Whether all pixels are there, the decoder finds out.
///
/// # Errors
/// For a wrong checksum before the pixels, and for a chunk that is cut off, other than the pixels'.
fn read_chunks(encoded: &[u8]) -> Result<(Metadata, Cow<'_, [u8]>), ImageError> {
    let mut metadata = Metadata::default();
    let mut rest = encoded.get(SIGNATURE..).unwrap_or_default();
    let mut before_pixels = true;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = &head[4..];
        let pixels = kind == b"IDAT";
        before_pixels &= !pixels;
        if kind == b"IEND" {
            return Ok((metadata, Cow::Borrowed(encoded)));
        }
        if !before_pixels && !kind.iter().all(u8::is_ascii_alphanumeric) {
            break;
        }
        let Some((data, after)) = after.split_at_checked(length) else {
            let whole = &encoded[..encoded.len() - rest.len()];
            return if pixels { Ok((metadata, with_end(whole, after))) } else { Err(truncated()) };
        };
        if before_pixels && after.first_chunk() != Some(&checksum(kind, data).to_be_bytes()) {
            return Err(failure(format!("the checksum of its chunk '{}' is wrong", kind.escape_ascii())));
        }
        if pixels && after.len() < 4 {
            let whole = &encoded[..encoded.len() - rest.len()];
            return Ok((metadata, with_end(whole, data)));
        }
        metadata.add(kind, data);
        rest = after.get(4..).unwrap_or_default();
    }
    if before_pixels { Err(truncated()) } else { Ok((metadata, with_end(&encoded[..encoded.len() - rest.len()], &[]))) }
}

/// Whole chunks, then one with these pixel data, then the chunk that ends a file.
fn with_end<'a>(whole: &[u8], pixels: &[u8]) -> Cow<'a, [u8]> {
    let chunk = |kind: &[u8], data: &[u8]| {
        [&(data.len() as u32).to_be_bytes(), kind, data, &checksum(kind, data).to_be_bytes()].concat()
    };
    Cow::Owned([whole, &chunk(b"IDAT", pixels), &chunk(b"IEND", &[])].concat())
}

impl Metadata {
    fn add(&mut self, kind: &[u8], data: &[u8]) {
        if kind == b"eXIf" {
            self.exif = data.to_vec();
        }
        let Some((keyword, rest)) = split_at_zero(data) else { return };
        let text = match keyword {
            b"Raw profile type exif" => &mut self.raw_profile,
            b"XML:com.adobe.xmp" => &mut self.xmp,
            _ => return,
        };
        let found = match (kind, rest) {
            (b"tEXt", rest) => Some(rest.to_vec()),
            // The byte is the compression method.
            (b"zTXt", [0, rest @ ..]) => inflate(rest),
            // The bytes say whether it is compressed, and how; the language and the translated keyword follow.
            (b"iTXt", [compressed, method, rest @ ..]) => split_at_zero(rest)
                .and_then(|(_, rest)| split_at_zero(rest))
                .and_then(|(_, text)| match (compressed, method) {
                    (0, _) => Some(text.to_vec()),
                    (_, 0) => inflate(text),
                    _ => None,
                }),
            _ => None,
        };
        *text = found.unwrap_or_else(|| std::mem::take(text));
    }

    fn orientation(&self) -> Orientation {
        if self.exif.is_empty() {
            Orientation::from_metadata(&from_raw_profile(&self.raw_profile), &self.xmp)
        } else {
            Orientation::from_metadata(&self.exif, &self.xmp)
        }
    }
}

fn checksum(kind: &[u8], data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    crc.sum()
}

fn split_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = data.iter().position(|&byte| byte == 0)?;
    Some((&data[..end], &data[end + 1..]))
}

/// Decompresses a text; `None` if it is damaged or too long.
fn inflate(data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(data).take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT_BYTES).then_some(text)
}

/// The bytes of a raw profile: an empty line, its name, its length, then hexadecimal digits in lines. Empty if it is not one.
fn from_raw_profile(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Option<Vec<_>> =
        lines.flatten().filter(|byte| !byte.is_ascii_whitespace()).map(|&byte| char::from(byte).to_digit(16)).collect();
    let digits = digits.unwrap_or_default();
    digits.as_chunks().0.iter().map(|[high, low]| (high << 4 | low) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_raw_profiles() {
        assert_eq!(from_raw_profile(b"\nexif\n       3\n45 78\n6a\n"), b"Exj");
        assert_eq!(from_raw_profile(b"\nexif\n 1\n4g"), b"");
        assert_eq!(from_raw_profile(b"45"), b"");
    }

    #[test]
    fn a_text_that_expands_without_end_is_ignored() {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &vec![b'0'; 2 << 20]).unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(inflate(&compressed), None);
        assert_eq!(inflate(b"no zlib"), None);
    }
}
