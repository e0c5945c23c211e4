//! Decodes JPEG to RGB pixels.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

/// Decodes into `pixels`, RGB `[height, width, 3]`.
pub(crate) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    let decode_error = |error: DecodeErrors| failure(&error.to_string());
    // In strict mode damage is an error; otherwise the rest of the image would be grey.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into())
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded), options);
    decoder.decode_headers().map_err(decode_error)?;
    let (Some(info), Some(size)) = (decoder.info(), decoder.output_buffer_size()) else {
        return Err(failure("no size in its header"));
    };
    check_size(info.width.into(), info.height.into(), max_pixels)?;
    if !has_end_of_image(encoded) {
        return Err(failure("truncated: its end is missing"));
    }
    // Cleared, so that pixels of the previous image never remain if the decoder skips some.
    pixels.clear();
    pixels.resize(size, 0);
    decoder.decode_into(pixels).map_err(decode_error)?;
    let orientation = Orientation::from_exif(decoder.exif().map_or(&[], Vec::as_slice));
    Ok(Image { width: info.width.into(), height: info.height.into(), orientation })
}

fn failure(reason: &str) -> ImageError {
    ImageError::Decode { format: "JPEG", reason: reason.trim_end().to_owned() }
}

/// Whether an end-of-image marker (EOI) follows the first scan. Segments before the scan are skipped, because a
/// thumbnail in them has its own EOI.
fn has_end_of_image(encoded: &[u8]) -> bool {
    let mut rest = encoded.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            // Start of scan. Entropy-coded data escapes 0xff, so this pair of bytes is always a marker there.
            [0xff, 0xda, scan @ ..] => return scan.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            [0xff, marker, high, low, ..] if !matches!(marker, 0 | 0xff) => {
                rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default()
            }
            [_, after @ ..] => after,
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../photos/coffee-224.jpg");

    #[test]
    fn finds_the_end_marker_after_the_headers() {
        assert!(has_end_of_image(PHOTO));
        assert!(has_end_of_image(&[PHOTO, b"trailing bytes"].concat()));
        assert!(!has_end_of_image(&PHOTO[..PHOTO.len() - 1]));
        let thumbnail = [0xff, 0xe1, 0, 4, 0xff, 0xd9];
        assert!(!has_end_of_image(&[&PHOTO[..2], &thumbnail, &PHOTO[2..PHOTO.len() - 2]].concat()));
        assert!(!has_end_of_image(&[0xff; 9]));
        assert!(!has_end_of_image(&[]));
    }

    #[test]
    fn rejects_a_truncated_jpeg() {
        for missing in [1, 2, 3, 100, PHOTO.len() / 2] {
            let error = decode(&PHOTO[..PHOTO.len() - missing], u64::MAX, &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), "cannot decode JPEG: truncated: its end is missing");
        }
        assert!(decode(&PHOTO[..100], u64::MAX, &mut Vec::new()).is_err());
    }

    #[test]
    fn checks_the_size_before_decoding() {
        // The check needs the headers only.
        let scan = PHOTO.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let mut pixels = Vec::new();
        let error = decode(&PHOTO[..scan + 20], 224 * 224 - 1, &mut pixels).unwrap_err();
        assert_eq!(error.to_string(), "224x224 pixels are over the limit of 50175; send a smaller image");
        assert_eq!(pixels.capacity(), 0);
        assert!(decode(PHOTO, 224 * 224, &mut pixels).is_ok());
    }
}
