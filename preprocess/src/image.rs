//! The size and orientation of a decoded image.

use crate::{error::ImageError, orient::Orientation};

/// The size and orientation of a decoded image; its pixels are in a separate buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Width in pixels, as stored: before the orientation is applied.
    pub(crate) width: u32,
    /// Height in pixels, as stored.
    pub(crate) height: u32,
    /// How to rotate and mirror the stored pixels.
    pub(crate) orientation: Orientation,
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
