//! A decoded image but for its pixels.

use crate::{error::ImageError, orient::Orientation};

/// A decoded image but for its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Pixels in a row as stored, before it is turned.
    pub(crate) width: u32,
    /// Rows as stored.
    pub(crate) height: u32,
    /// How it is to be turned.
    pub(crate) orientation: Orientation,
}

/// Refuses an image of too many pixels.
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
    fn the_limit_is_the_largest_size_allowed() {
        assert_eq!(check_size(3, 4, 12), Ok(()));
        assert!(check_size(3, 4, 11).is_err());
        assert!(check_size(u32::MAX, u32::MAX, u64::MAX / 2).is_err());
    }
}
