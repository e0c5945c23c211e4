//! HPACK: header fields as HTTP/2 carries them (RFC 7541).

mod decode;
mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Malformed};
pub use encode::Encoder;

/// Bytes of the table that both sides keep before anybody said otherwise (section 4.2).
pub const DEFAULT_TABLE_BYTES: usize = 4096;
