//! JPEG to RGB pixels.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

/// Decodes into `pixels`, RGB `[height, width, 3]`.
pub(crate) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    let damaged = |error: DecodeErrors| failure(&error.to_string());
    // Strict: damage is an error; else the rest of the picture would be grey.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into())
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded), options);
    decoder.decode_headers().map_err(damaged)?;
    let (Some(info), Some(size)) = (decoder.info(), decoder.output_buffer_size()) else {
        return Err(failure("no size in its header"));
    };
    check_size(info.width.into(), info.height.into(), max_pixels)?;
    if !ends(encoded) {
        return Err(failure("truncated: its end is missing"));
    }
    // Cleared, so that a decoder that leaves out pixels never shows those of the image before.
    pixels.clear();
    pixels.resize(size, 0);
    decoder.decode_into(pixels).map_err(damaged)?;
    let orientation = Orientation::from_exif(decoder.exif().map_or(&[], Vec::as_slice));
    Ok(Image { width: info.width.into(), height: info.height.into(), orientation })
}

fn failure(reason: &str) -> ImageError {
    ImageError::Decode { format: "JPEG", reason: reason.trim_end().to_owned() }
}

/// Whether an end-of-image marker follows the first scan. Headers are skipped: a thumbnail has an end of its own.
fn ends(encoded: &[u8]) -> bool {
    let mut rest = encoded.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            // Start of scan: within coded data this pair of bytes can be nothing else.
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
    fn the_end_is_looked_for_behind_the_headers() {
        assert!(ends(PHOTO));
        assert!(ends(&[PHOTO, b"trailing bytes"].concat()));
        assert!(!ends(&PHOTO[..PHOTO.len() - 1]));
        let thumbnail = [0xff, 0xe1, 0, 4, 0xff, 0xd9];
        assert!(!ends(&[&PHOTO[..2], &thumbnail, &PHOTO[2..PHOTO.len() - 2]].concat()));
        assert!(!ends(&[0xff; 9]));
        assert!(!ends(&[]));
    }

    #[test]
    fn a_truncated_file_is_an_error_that_says_so() {
        for missing in [1, 2, 3, 100, PHOTO.len() / 2] {
            let error = decode(&PHOTO[..PHOTO.len() - missing], u64::MAX, &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), "cannot decode JPEG: truncated: its end is missing");
        }
        assert!(decode(&PHOTO[..100], u64::MAX, &mut Vec::new()).is_err());
    }

    #[test]
    fn the_size_is_checked_before_decoding() {
        // Not even the coded data needs to be there.
        let scan = PHOTO.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let mut pixels = Vec::new();
        let error = decode(&PHOTO[..scan + 20], 224 * 224 - 1, &mut pixels).unwrap_err();
        assert_eq!(error.to_string(), "224x224 pixels are over the limit of 50175; send a smaller image");
        assert_eq!(pixels.capacity(), 0);
        assert!(decode(PHOTO, 224 * 224, &mut pixels).is_ok());
    }
}
