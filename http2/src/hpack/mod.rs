//! HPACK: field blocks to fields and back (RFC 7541).

mod decode;
mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Malformed};
pub use encode::Encoder;

/// Size of the dynamic table in bytes until SETTINGS_HEADER_TABLE_SIZE changes it (RFC 9113 §6.5.2).
pub const DEFAULT_TABLE_BYTES: usize = 4096;
