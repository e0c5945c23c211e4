//! Reads header blocks.

use bytes::Bytes;

use super::{
    huffman,
    table::{Field, Table},
};

/// Bytes of a number after its first: enough for 28 bits and what the first holds.
const MAX_NUMBER_BYTES: usize = 4;

/// A block that is not HPACK. The table is lost with it, so the connection must end (RFC 9113, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header block is not HPACK")]
pub struct Malformed;

/// Reads the blocks of one direction of one connection, in their order.
pub struct Decoder {
    table: Table,
    max_table_bytes: usize,
}

impl Decoder {
    /// With a table of at most this size, as the settings that the other side was sent say.
    pub fn new(max_table_bytes: usize) -> Self {
        Self { table: Table::new(max_table_bytes), max_table_bytes }
    }

    /// Hands each field of a whole block to `take`, in their order.
    ///
    /// # Errors
    /// When it is not HPACK; the fields before the mistake were taken.
    pub fn decode(&mut self, block: &[u8], mut take: impl FnMut(Bytes, Bytes)) -> Result<(), Malformed> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                let size = number(&mut rest, 5)?;
                if !may_resize || size > self.max_table_bytes {
                    return Err(Malformed);
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
            let (name, value) = match first {
                0x80.. => self.table.get(number(&mut rest, 7)?).ok_or(Malformed)?,
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.add(name.clone(), value.clone());
                    (name, value)
                }
                _ => self.literal(&mut rest, 4)?,
            };
            take(name, value);
        }
        Ok(())
    }

    /// A field whose value is written out, and its name perhaps.
    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Field, Malformed> {
        let name = match number(rest, prefix_bits)? {
            0 => string(rest)?,
            index => self.table.get(index).ok_or(Malformed)?.0,
        };
        Ok((name, string(rest)?))
    }
}

/// A number that begins in the low bits of the first byte (section 5.1).
fn number(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Malformed> {
    let (&first, mut behind) = rest.split_first().ok_or(Malformed)?;
    let mask = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for at in 0.. {
            let (&byte, next) = behind.split_first().filter(|_| at < MAX_NUMBER_BYTES).ok_or(Malformed)?;
            behind = next;
            value += usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Ok(value)
}

/// A string with its length before it (section 5.2).
fn string(rest: &mut &[u8]) -> Result<Bytes, Malformed> {
    let is_coded = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let length = number(rest, 7)?;
    let (string, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = behind;
    if is_coded {
        huffman::decode(string).map(Bytes::from).ok_or(Malformed)
    } else {
        Ok(Bytes::copy_from_slice(string))
    }
}
