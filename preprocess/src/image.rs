//! The size and orientation of a decoded image.

use crate::{error::ImageError, orient::Orientation};

/// The scale of an image that was not reduced, in eighths.
pub(crate) const FULL_SCALE: u8 = 8;

/// The size and orientation of a decoded image; its pixels are in a separate buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Width in pixels, as stored: before the orientation is applied.
    pub(crate) width: u32,
    /// Height in pixels, as stored.
    pub(crate) height: u32,
    /// How to rotate and mirror the stored pixels.
    pub(crate) orientation: Orientation,
    /// The size of the decoded pixels in eighths of the stored ones: [`FULL_SCALE`] but for a reduced JPEG.
    pub(crate) eighths: u8,
}

impl Image {
    /// An image that was not reduced.
    pub(crate) fn full(width: u32, height: u32, orientation: Orientation) -> Self {
        Self { width, height, orientation, eighths: FULL_SCALE }
    }

    /// Width and height of the decoded pixels. The last ones of a row or a column may stand for less than others.
    pub(crate) fn decoded_size(&self) -> [u32; 2] {
        [self.width, self.height].map(|side| reduced(side, self.eighths))
    }

    /// The decoded pixels for each stored one, on each axis.
    pub(crate) fn scale(&self) -> f64 {
        f64::from(self.eighths) / f64::from(FULL_SCALE)
    }
}

/// A side at a scale of `eighths`, rounded up as libjpeg does.
fn reduced(side: u32, eighths: u8) -> u32 {
    (u64::from(side) * u64::from(eighths)).div_ceil(u64::from(FULL_SCALE)) as u32
}

/// Checks the number of pixels.
///
/// # Errors
/// [`ImageError::TooManyPixels`] over the limit.
pub(crate) fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<(), ImageError> {
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(ImageError::TooManyPixels { width, height, max_pixels });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_an_image_at_the_limit() {
        assert_eq!(check_size(3, 4, 12), Ok(()));
        assert!(check_size(3, 4, 11).is_err());
        assert!(check_size(u32::MAX, u32::MAX, u64::MAX / 2).is_err());
    }
}
