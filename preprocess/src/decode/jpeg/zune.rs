//! Decodes the usual kinds of JPEG with zune-jpeg.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::buffer::clear;

/// Decodes into `pixels`, RGB, from at most `max_scans` scans. The size was checked.
///
/// # Errors
/// For anything unusual, and any damage.
pub(super) fn decode(encoded: &[u8], max_scans: usize, pixels: &mut Vec<u8>) -> Result<(), DecodeErrors> {
    // In strict mode damage is an error, so that libjpeg decides what becomes of it.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into())
        .jpeg_set_max_scans(max_scans)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded), options);
    decoder.decode_headers()?;
    let size = decoder.output_buffer_size().ok_or(DecodeErrors::FormatStatic("no size"))?;
    clear(pixels, size);
    decoder.decode_into(pixels)
}
