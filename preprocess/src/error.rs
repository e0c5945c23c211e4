//! Why an image cannot be prepared.

use crate::input::ELEMENTS;

/// Why an image cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// None of the formats that are read.
    #[error("not a JPEG, PNG or WebP image: found {found}")]
    NotAnImage {
        /// What it looks like.
        found: String,
    },
    /// Too large to decode, by its header; nothing was decoded.
    #[error("{width}x{height} pixels are over the limit of {max_pixels}; send a smaller image")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Most pixels allowed.
        max_pixels: u64,
    },
    /// Truncated, damaged, or of a kind that is not read (arithmetic coding, lossless JPEG).
    #[error("cannot decode {format}: {reason}")]
    Decode {
        /// The format.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The slice for the result has the wrong length: a mistake of the caller.
    #[error("room for {actual} elements, needed is room for {ELEMENTS}")]
    OutputLength {
        /// Length of the slice.
        actual: usize,
    },
}
