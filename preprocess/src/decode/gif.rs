//! Decodes the first frame of a GIF as Pillow does.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, Frame, MemoryLimit};

use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

/// Decodes into `pixels`. Pixels outside the frame have the colour of the transparent index, or of index 0, and
/// transparent pixels have their colour in the palette.
pub(super) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // An index is one byte.
    options.set_memory_limit(NonZeroU64::new(max_pixels).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(encoded).map_err(|error| failure(&error))?;
    let frame = decoder.next_frame_info().map_err(|error| failure(&error))?.cloned();
    let frame = frame.ok_or_else(|| ImageError::Decode { format: "GIF", reason: "it has no image".to_owned() })?;
    let edge = |screen: u16, start: u16, length: u16| u32::from(screen).max(u32::from(start) + u32::from(length));
    let width = edge(decoder.width(), frame.left, frame.width);
    let height = edge(decoder.height(), frame.top, frame.height);
    check_size(width, height, max_pixels)?;

    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(|error| failure(&error))?;
    let palette = palette(frame.palette.as_deref().or(decoder.global_palette()).unwrap_or_default());
    paint(&frame, &indices, &palette, (width as usize, height as usize), pixels);
    Ok(Image::full(width, height, Orientation::default()))
}

/// The colour of each index; those without a colour are grey.
fn palette(colours: &[u8]) -> [[u8; 3]; 256] {
    let mut palette = std::array::from_fn(|index| [index as u8; 3]);
    for (entry, colour) in palette.iter_mut().zip(colours.as_chunks().0) {
        *entry = *colour;
    }
    palette
}

/// Paints the frame into an image of this width and height.
fn paint(
    frame: &Frame<'_>,
    indices: &[u8],
    palette: &[[u8; 3]; 256],
    (width, height): (usize, usize),
    pixels: &mut Vec<u8>,
) {
    let background = palette[usize::from(frame.transparent.unwrap_or(0))];
    pixels.clear();
    pixels.resize(3 * width * height, 0);
    pixels.as_chunks_mut().0.fill(background);
    let rows = pixels.chunks_exact_mut((3 * width).max(1)).skip(frame.top.into());
    for (row, indices) in rows.zip(indices.chunks_exact(usize::from(frame.width).max(1))) {
        let row = &mut row.as_chunks_mut().0[frame.left.into()..];
        for (pixel, index) in row.iter_mut().zip(indices) {
            *pixel = palette[usize::from(*index)];
        }
    }
}

fn failure(error: &DecodingError) -> ImageError {
    let reason = match error {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "truncated: its end is missing".to_owned()
        }
        error => error.to_string(),
    };
    ImageError::Decode { format: "GIF", reason }
}
