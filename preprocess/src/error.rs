//! The error type of this crate.

/// Why an image cannot be preprocessed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not in a supported format.
    #[error("not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found {found}")]
    NotAnImage {
        /// What the bytes are instead.
        found: String,
    },
    /// The size in the header is over the limit; nothing was decoded.
    #[error("{width}x{height} pixels are over the limit of {max_pixels}; send a smaller image")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Maximum number of pixels.
        max_pixels: u64,
    },
    /// Truncated, damaged, or of an unsupported kind (lossless JPEG).
    #[error("cannot decode {format}: {reason}")]
    Decode {
        /// The format.
        format: &'static str,
        /// The cause.
        reason: String,
    },
    /// The slice for the result has the wrong length, which is a mistake of the caller.
    #[error("the output has room for {actual} elements, but must have room for {expected}")]
    OutputLength {
        /// Length of the slice.
        actual: usize,
        /// The length that it must have.
        expected: usize,
    },
}
