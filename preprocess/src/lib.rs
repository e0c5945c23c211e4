//! Converts an encoded image to the model's input as torchvision does for ResNet: decode, apply the EXIF orientation,
//! resize the shorter side to 256 (bilinear, antialiased), crop the centre 224 × 224, scale to 0..1, and normalise with
//! ImageNet's mean and standard deviation. For other models a [`Recipe`] says the size, the fit, the interpolation and the
//! channels, and [`Levels`] the numbers; a [`Preparation`] has both from the [`parameters`] of the model's configuration.
//!
//! The reference is Pillow with `ImageOps.exif_transpose(image).convert("RGB")`. Pixels are within 3 levels of it
//! (`tests/pillow.rs`, `tests/corpus.rs`). One difference is intended: Pillow clips 16-bit greyscale at 255, this crate takes
//! the high byte.

mod decode;
mod error;
mod exif;
mod image;
mod input;
mod normalise;
mod orient;
pub mod parameters;
mod preparation;
mod prepare;
mod recipe;
mod resize;
mod smaller;

pub use error::ImageError;
pub use input::{ELEMENTS, SIDE};
pub use preparation::{Dims, Preparation};
pub use prepare::{DEFAULT_MAX_PIXELS, to_pixels, to_tensor};
pub use recipe::{ColorOrder, Fit, Interpolation, JpegDecode, Layout, Levels, Recipe};
