//! Encoded images on the way to a model: which models take them in which form, and decoding on a bounded number of threads.

pub mod base64;
mod decode;
mod encoded;
mod form;

pub use self::{
    decode::{Decoder, Target},
    encoded::Image,
    form::InputForm,
};
