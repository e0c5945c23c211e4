//! Encoded images on the way to a model: which models take them and how, and decoding on a bounded number of threads.

pub mod base64;
mod decode;
mod encoded;
mod input;

pub use self::{
    decode::{Decoder, Target},
    encoded::{Image, without_mark},
    input::{ImageInput, seems_image, takes_no_images},
};
pub use quintet_preprocess::parameters::{PARAMETERS, PREPROCESS};
