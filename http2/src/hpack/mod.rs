//! HPACK: field blocks to fields and back (RFC 7541).

mod decode;
mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Malformed};
pub use encode::Encoder;
pub use table::DEFAULT_TABLE_BYTES;
