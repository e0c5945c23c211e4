//! Decodes field blocks (RFC 7541 §3).

use bytes::Bytes;

use super::{
    huffman,
    table::{Field, Table},
};

/// Bytes of an integer after its prefix: enough for 28 bits beside those of the prefix.
const MAX_INTEGER_BYTES: usize = 4;

/// A field block that is not HPACK. The dynamic table is lost with it, so the connection must end (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header block is not HPACK")]
pub struct Malformed;

/// Decodes the field blocks of one direction of a connection, in their order.
pub struct Decoder {
    table: Table,
    max_table_bytes: usize,
}

impl Decoder {
    /// With a dynamic table of at most `max_table_bytes`: the SETTINGS_HEADER_TABLE_SIZE that the peer was sent.
    pub fn new(max_table_bytes: usize) -> Self {
        Self { table: Table::new(max_table_bytes), max_table_bytes }
    }

    /// Decodes a complete field block, and calls `on_field` with the name and the value of each field, in their order.
    ///
    /// # Errors
    /// When it is not HPACK; `on_field` has got the fields before the error.
    pub fn decode(&mut self, block: &[u8], mut on_field: impl FnMut(Bytes, Bytes)) -> Result<(), Malformed> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut rest, 5)?;
                // RFC 7541 §4.2: a change of the table's size MUST be at the beginning of a block.
                // RFC 7541 §6.3: a size above the limit MUST be treated as a decoding error.
                if !may_resize || size > self.max_table_bytes {
                    return Err(Malformed);
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
            let (name, value) = match first {
                // RFC 7541 §6.1 and §2.3.3: index 0, and one beyond both tables, MUST be treated as a decoding error.
                0x80.. => self.table.get(integer(&mut rest, 7)?).ok_or(Malformed)?,
                // RFC 7541 §6.2.1: a literal that is added to the dynamic table.
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.add(name.clone(), value.clone());
                    (name, value)
                }
                // RFC 7541 §6.2.2 and §6.2.3: a literal that is not added, or never is.
                _ => self.literal(&mut rest, 4)?,
            };
            on_field(name, value);
        }
        Ok(())
    }

    /// A field with a literal value, and an indexed or literal name.
    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Field, Malformed> {
        let name = match integer(rest, prefix_bits)? {
            0 => string(rest)?,
            index => self.table.get(index).ok_or(Malformed)?.0,
        };
        Ok((name, string(rest)?))
    }
}

/// An integer whose prefix is the low bits of the first byte (RFC 7541 §5.1).
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Malformed> {
    let (&first, mut remaining) = rest.split_first().ok_or(Malformed)?;
    let mask = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for at in 0.. {
            // RFC 7541 §5.1: integers beyond the limits of an implementation MUST be treated as decoding errors.
            let (&byte, next) = remaining.split_first().filter(|_| at < MAX_INTEGER_BYTES).ok_or(Malformed)?;
            remaining = next;
            value += usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = remaining;
    Ok(value)
}

/// A string with its length before it (RFC 7541 §5.2).
fn string(rest: &mut &[u8]) -> Result<Bytes, Malformed> {
    let is_huffman = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (string, remaining) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = remaining;
    if is_huffman {
        huffman::decode(string).map(Bytes::from).ok_or(Malformed)
    } else {
        Ok(Bytes::copy_from_slice(string))
    }
}
