//! Decodes JPEG with libjpeg-turbo as Pillow does: damage between the start and the end of the image is not an error.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    panic::{AssertUnwindSafe, catch_unwind},
};

use mozjpeg::{ColorSpace, decompress::DecompressBuilder};
use mozjpeg_sys as _;

use super::{super::rgb, buffer::clear, header::Frame};

/// Decodes into `pixels`, RGB, at a scale of `eighths`: sides are rounded up. The size was checked.
///
/// # Errors
/// With libjpeg's words.
pub(super) fn decode(encoded: &[u8], frame: &Frame, eighths: u8, pixels: &mut Vec<u8>) -> Result<(), String> {
    let ended = Cell::new(false);
    let source = Source { rest: encoded, ended: &ended };
    // libjpeg's errors unwind through it (its files are built for that), as `resume_unwind`, which calls no panic hook.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(source, frame, eighths, pixels)));
    let reason = match decoded {
        Ok(Ok(())) => return Ok(()),
        _ if ended.get() => "truncated: its end is missing".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(unwound) => unwound.downcast_ref::<String>().cloned().unwrap_or_else(|| "libjpeg failed".to_owned()),
    };
    Err(reason.trim_start_matches("libjpeg fatal error: ").to_owned())
}

fn read(source: Source<'_>, frame: &Frame, eighths: u8, pixels: &mut Vec<u8>) -> io::Result<()> {
    let mut decoder = DecompressBuilder::new().from_reader(source)?;
    if decoder.size() != (frame.width.into(), frame.height.into()) {
        return Err(io::Error::other("it has two sizes"));
    }
    decoder.scale(eighths);
    let cmyk = frame.components.len() == 4;
    let space = if cmyk { ColorSpace::JCS_CMYK } else { ColorSpace::JCS_RGB };
    let mut decoder = decoder.to_colorspace(space)?;
    let mut samples = if cmyk { Vec::new() } else { std::mem::take(pixels) };
    clear(&mut samples, decoder.min_flat_buffer_size());
    decoder.read_scanlines_into(&mut samples)?;
    decoder.finish()?;
    if cmyk {
        // Pillow, too, takes it to be inverted, whether Adobe's segment is there or not.
        rgb::from_inverted_cmyk(&samples, pixels);
    } else {
        *pixels = samples;
    }
    Ok(())
}

/// The file, whose end is an error: libjpeg would add one, and fill the rest of the image with grey.
struct Source<'a> {
    rest: &'a [u8],
    ended: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
            return Err(io::Error::other("the file ends"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, bytes: usize) {
        self.rest.consume(bytes);
    }
}
