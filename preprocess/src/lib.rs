//! Encoded image to model input, as torchvision prepares images for ResNet: decode, turn as EXIF says, shorter side
//! to 256 by antialiased bilinear, centre 224 × 224, scale to 0..1, ImageNet mean and deviation.
//!
//! The reference is Pillow's `ImageOps.exif_transpose(image).convert("RGB")`: pixels are within 3 levels of it,
//! but for hard edges of colour at half resolution (`tests/pillow.rs`). One thing differs on purpose: Pillow clips 16-bit greyscale at 255, here its high byte counts.

mod decode;
mod error;
mod image;
mod input;
mod jpeg;
mod normalise;
mod orient;
mod prepare;
mod resize;

pub use error::ImageError;
pub use input::{ELEMENTS, SIDE};
pub use prepare::{DEFAULT_MAX_PIXELS, to_pixels, to_tensor};
