//! Encodes field blocks (RFC 7541 §2 and §6).

use bytes::Bytes;

use super::table::{DEFAULT_TABLE_BYTES, Found, Table};

/// Encodes the field blocks of one direction of a connection, in their order. The first value of each name is added to
/// the dynamic table, so that a field that never changes is one byte from then on; other values are literals. Strings
/// are not Huffman-coded: they are short, and the time is worth more.
pub struct Encoder {
    table: Table,
    /// The size of the table that the next block announces.
    resized: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(DEFAULT_TABLE_BYTES), resized: None }
    }
}

impl Encoder {
    /// Applies the peer's SETTINGS_HEADER_TABLE_SIZE. At most [`DEFAULT_TABLE_BYTES`] of it are used.
    // RFC 7541 §4.2: the table MUST NOT exceed the peer's limit.
    // RFC 9113 §4.3.1: after a smaller limit, the next field block MUST start with a size update to at most the limit.
    pub fn set_max_table_bytes(&mut self, bytes: usize) {
        let bytes = bytes.min(DEFAULT_TABLE_BYTES);
        if bytes != self.table.max_bytes() {
            self.table.resize(0);
            self.table.resize(bytes);
            self.resized = Some(bytes);
        }
    }

    /// Appends a field block with these fields to `block`. Names are in lower case (RFC 9113 §8.2).
    pub fn encode<'a>(&mut self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, block: &mut Vec<u8>) {
        if let Some(bytes) = self.resized.take() {
            // RFC 7541 §4.2: the change MUST be at the beginning of the next block; of several changes the smallest one
            // MUST be signaled, then the last one. The smallest is always 0 here.
            integer(0x20, 5, 0, block);
            integer(0x20, 5, bytes, block);
        }
        for (name, value) in fields {
            match self.table.find(name, value) {
                Some(Found::Field(index)) => integer(0x80, 7, index, block),
                Some(Found::Name { index, is_dynamic: true }) => {
                    integer(0, 4, index, block);
                    string(value, block);
                }
                Some(Found::Name { index, is_dynamic: false }) => {
                    integer(0x40, 6, index, block);
                    string(value, block);
                    self.add(name, value);
                }
                None => {
                    integer(0x40, 6, 0, block);
                    string(name, block);
                    string(value, block);
                    self.add(name, value);
                }
            }
        }
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.table.add(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }
}

/// Appends an integer after the high bits of `first` (RFC 7541 §5.1).
fn integer(first: u8, prefix_bits: u32, value: usize, block: &mut Vec<u8>) {
    let mask = (1 << prefix_bits) - 1;
    if value < mask {
        return block.push(first | value as u8);
    }
    block.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(0x80 | rest as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Appends a string that is not Huffman-coded (RFC 7541 §5.2).
fn string(string: &[u8], block: &mut Vec<u8>) {
    integer(0, 7, string.len(), block);
    block.extend_from_slice(string);
}
