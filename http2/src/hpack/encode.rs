//! Writes header blocks.

use bytes::Bytes;

use super::{
    DEFAULT_TABLE_BYTES,
    table::{Found, Table},
};

/// Writes the blocks of one direction of one connection, in their order. The first value of a name is kept in the
/// table, so that a field that never changes is one byte from then on; other values are written out. Strings are never
/// compressed: they are short, and the time is worth more.
pub struct Encoder {
    table: Table,
    /// The table's size that the next block begins with.
    resized: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(DEFAULT_TABLE_BYTES), resized: None }
    }
}

impl Encoder {
    /// The other side keeps a table of this size; no more than the default is used of it.
    pub fn set_max_table_bytes(&mut self, bytes: usize) {
        let bytes = bytes.min(DEFAULT_TABLE_BYTES);
        if bytes != self.table.max_bytes() {
            // Of several changes the smallest must be told (section 4.2); an empty table is the smallest.
            self.table.resize(0);
            self.table.resize(bytes);
            self.resized = Some(bytes);
        }
    }

    /// Appends a block of these fields; names are in lower case.
    pub fn encode<'a>(&mut self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, block: &mut Vec<u8>) {
        if let Some(bytes) = self.resized.take() {
            number(0x20, 5, 0, block);
            number(0x20, 5, bytes, block);
        }
        for (name, value) in fields {
            match self.table.find(name, value) {
                Some(Found::Whole(index)) => number(0x80, 7, index, block),
                Some(Found::Name { index, sent: true }) => {
                    number(0, 4, index, block);
                    string(value, block);
                }
                Some(Found::Name { index, sent: false }) => {
                    number(0x40, 6, index, block);
                    string(value, block);
                    self.keep(name, value);
                }
                None => {
                    number(0x40, 6, 0, block);
                    string(name, block);
                    string(value, block);
                    self.keep(name, value);
                }
            }
        }
    }

    fn keep(&mut self, name: &[u8], value: &[u8]) {
        self.table.add(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }
}

/// A number behind the bits of `first` (section 5.1).
fn number(first: u8, prefix_bits: u32, value: usize, block: &mut Vec<u8>) {
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

fn string(string: &[u8], block: &mut Vec<u8>) {
    number(0, 7, string.len(), block);
    block.extend_from_slice(string);
}
