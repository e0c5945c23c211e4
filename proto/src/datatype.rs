//! Tensor element types under their KServe v2 names.

use std::fmt;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// Byte strings of any length; see [`crate::elements`].
    Bytes,
    /// bfloat16.
    Bf16,
}

/// Each type with its KServe name, the size of an element (0: no fixed size), and its number in
/// Triton's `inference.DataType` enumeration.
const TABLE: [(DataType, &str, usize, i32); 14] = [
    (DataType::Bool, "BOOL", 1, 1),
    (DataType::Uint8, "UINT8", 1, 2),
    (DataType::Uint16, "UINT16", 2, 3),
    (DataType::Uint32, "UINT32", 4, 4),
    (DataType::Uint64, "UINT64", 8, 5),
    (DataType::Int8, "INT8", 1, 6),
    (DataType::Int16, "INT16", 2, 7),
    (DataType::Int32, "INT32", 4, 8),
    (DataType::Int64, "INT64", 8, 9),
    (DataType::Fp16, "FP16", 2, 10),
    (DataType::Fp32, "FP32", 4, 11),
    (DataType::Fp64, "FP64", 8, 12),
    (DataType::Bytes, "BYTES", 0, 13),
    (DataType::Bf16, "BF16", 2, 14),
];

impl DataType {
    /// Every type, in the order of Triton's enumeration.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The KServe name, e.g. `FP32`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The type of this exact KServe name; the protocol's names are upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Size of one element in bytes; `None` for [`DataType::Bytes`], whose elements vary.
    pub fn size(self) -> Option<usize> {
        match TABLE[self as usize].2 {
            0 => None,
            size => Some(size),
        }
    }

    /// The number of this type in Triton's `inference.DataType` (`TYPE_FP32` is 11).
    pub fn number(self) -> i32 {
        TABLE[self as usize].3
    }

    /// The type of this number in Triton's `inference.DataType`; `None` for `TYPE_INVALID` and unknown numbers.
    pub fn from_number(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.3 == number).map(|row| row.0)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(DataType::from_name(row.1), Some(row.0));
            assert_eq!(DataType::from_number(row.3), Some(row.0));
        }
    }

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(DataType::from_name("fp32"), None);
        assert_eq!(DataType::from_number(0), None);
    }
}
