//! The Rust type behind each data type, and a visitor that is called with it.
//!
//! ```
//! use quintet_proto::{DataType, Float, Integer, Visitor};
//!
//! /// The name of Rust's type.
//! struct Name;
//!
//! impl Visitor for Name {
//!     type Output = &'static str;
//!
//!     fn integer<T: Integer>(self) -> &'static str {
//!         std::any::type_name::<T>()
//!     }
//!     fn float<T: Float>(self) -> &'static str {
//!         std::any::type_name::<T>()
//!     }
//!     fn boolean(self) -> &'static str {
//!         "bool"
//!     }
//!     fn bytes(self) -> &'static str {
//!         "[u8]"
//!     }
//! }
//!
//! assert_eq!(DataType::Uint16.visit(Name), "u16");
//! ```

use std::fmt::{Debug, Display};

use bytemuck::Pod;
use half::{bf16, f16};
use num_traits::{NumCast, PrimInt};

use crate::DataType;

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian, and their numbers are read in place");

/// A number in a tensor.
pub trait Number: Pod + NumCast + Display + Debug {
    /// Its data type.
    const DATA_TYPE: DataType;

    /// The numbers of a tensor's data, which need not be aligned. Incomplete bytes at the end are ignored.
    fn read(data: &[u8]) -> impl Iterator<Item = Self> {
        data.chunks_exact(size_of::<Self>()).map(bytemuck::pod_read_unaligned)
    }
}

/// A whole number in a tensor.
pub trait Integer: Number + PrimInt {}

/// A floating-point number in a tensor.
pub trait Float: Number + num_traits::Float {}

macro_rules! numbers {
    ($kind:ident: $($type:ty = $variant:ident),+) => {$(
        impl Number for $type {
            const DATA_TYPE: DataType = DataType::$variant;
        }
        impl $kind for $type {}
    )+};
}

numbers!(Integer: u8 = Uint8, u16 = Uint16, u32 = Uint32, u64 = Uint64);
numbers!(Integer: i8 = Int8, i16 = Int16, i32 = Int32, i64 = Int64);
numbers!(Float: f16 = Fp16, bf16 = Bf16, f32 = Fp32, f64 = Fp64);

/// Code that depends on the Rust type of a tensor's elements: [`DataType::visit`] calls the method of a type's kind.
pub trait Visitor: Sized {
    /// The result.
    type Output;

    /// The elements are whole numbers.
    fn integer<T: Integer>(self) -> Self::Output;
    /// The elements are floating-point numbers.
    fn float<T: Float>(self) -> Self::Output;
    /// The elements are bytes of 0 or 1.
    fn boolean(self) -> Self::Output;
    /// The elements are byte strings ([`crate::elements`]).
    fn bytes(self) -> Self::Output;
}

impl DataType {
    /// Calls the visitor with the Rust type of this type's elements.
    pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
        match self {
            Self::Bool => visitor.boolean(),
            Self::Uint8 => visitor.integer::<u8>(),
            Self::Uint16 => visitor.integer::<u16>(),
            Self::Uint32 => visitor.integer::<u32>(),
            Self::Uint64 => visitor.integer::<u64>(),
            Self::Int8 => visitor.integer::<i8>(),
            Self::Int16 => visitor.integer::<i16>(),
            Self::Int32 => visitor.integer::<i32>(),
            Self::Int64 => visitor.integer::<i64>(),
            Self::Fp16 => visitor.float::<f16>(),
            Self::Fp32 => visitor.float::<f32>(),
            Self::Fp64 => visitor.float::<f64>(),
            Self::Bytes => visitor.bytes(),
            Self::Bf16 => visitor.float::<bf16>(),
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }

    /// The numbers of a tensor's data, those over 2^53 rounded; `None` for BOOL and BYTES.
    pub fn numbers(self, data: &[u8]) -> Option<Vec<f64>> {
        struct Numbers<'a>(&'a [u8]);

        impl Numbers<'_> {
            fn read<T: Number>(self) -> Option<Vec<f64>> {
                T::read(self.0).map(|number| number.to_f64()).collect()
            }
        }

        impl Visitor for Numbers<'_> {
            type Output = Option<Vec<f64>>;

            fn integer<T: Integer>(self) -> Self::Output {
                self.read::<T>()
            }
            fn float<T: Float>(self) -> Self::Output {
                self.read::<T>()
            }
            fn boolean(self) -> Self::Output {
                None
            }
            fn bytes(self) -> Self::Output {
                None
            }
        }

        self.visit(Numbers(data))
    }

    /// The data of a tensor of these numbers, the reverse of [`DataType::numbers`]; `None` for BOOL and BYTES, and for a
    /// number that the type does not have.
    pub fn encode(self, numbers: &[f64]) -> Option<Vec<u8>> {
        struct Encode<'a>(&'a [f64]);

        impl Encode<'_> {
            fn write<T: Number>(self) -> Option<Vec<u8>> {
                let mut data = Vec::with_capacity(size_of_val(self.0));
                for &number in self.0 {
                    data.extend_from_slice(bytemuck::bytes_of(&T::from(number)?));
                }
                Some(data)
            }
        }

        impl Visitor for Encode<'_> {
            type Output = Option<Vec<u8>>;

            fn integer<T: Integer>(self) -> Self::Output {
                self.write::<T>()
            }
            fn float<T: Float>(self) -> Self::Output {
                self.write::<T>()
            }
            fn boolean(self) -> Self::Output {
                None
            }
            fn bytes(self) -> Self::Output {
                None
            }
        }

        self.visit(Encode(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records the call: the kind, the data type, and the size of an element.
    struct Seen;

    impl Visitor for Seen {
        type Output = (&'static str, DataType, Option<usize>);

        fn integer<T: Integer>(self) -> Self::Output {
            ("integer", T::DATA_TYPE, Some(size_of::<T>()))
        }
        fn float<T: Float>(self) -> Self::Output {
            ("float", T::DATA_TYPE, Some(size_of::<T>()))
        }
        fn boolean(self) -> Self::Output {
            ("boolean", DataType::Bool, Some(1))
        }
        fn bytes(self) -> Self::Output {
            ("bytes", DataType::Bytes, None)
        }
    }

    #[test]
    fn every_type_is_visited_with_its_own_rust_type() {
        for data_type in DataType::all() {
            let (kind, visited, size) = data_type.visit(Seen);
            assert_eq!((visited, size), (data_type, data_type.size()));
            let name = data_type.name();
            let expected = match data_type {
                DataType::Bool => "boolean",
                DataType::Bytes => "bytes",
                _ if name.contains("INT") => "integer",
                _ => "float",
            };
            assert_eq!(kind, expected, "{name}");
            assert_eq!(data_type.is_float(), kind == "float", "{name}");
        }
    }

    /// The numbers 1 and 0 after one byte, so that they are not aligned.
    struct OneAndZero;

    impl Visitor for OneAndZero {
        type Output = Vec<u8>;

        fn integer<T: Integer>(self) -> Vec<u8> {
            [&[7], bytemuck::bytes_of(&T::one()), bytemuck::bytes_of(&T::zero())].concat()
        }
        fn float<T: Float>(self) -> Vec<u8> {
            [&[7], bytemuck::bytes_of(&T::one()), bytemuck::bytes_of(&T::zero())].concat()
        }
        fn boolean(self) -> Vec<u8> {
            vec![7, 1, 0]
        }
        fn bytes(self) -> Vec<u8> {
            vec![7]
        }
    }

    #[test]
    fn encoded_numbers_are_read_back() {
        for data_type in DataType::all() {
            let encoded = data_type.encode(&[0.0, 1.0, 99.0]);
            assert_eq!(
                encoded.as_deref().and_then(|data| data_type.numbers(data)),
                encoded.map(|_| vec![0.0, 1.0, 99.0])
            );
        }
        assert_eq!((DataType::Uint8.encode(&[256.0]), DataType::Bytes.encode(&[])), (None, None));
    }

    #[test]
    fn numbers_are_read_from_data_that_is_not_aligned() {
        for data_type in DataType::all() {
            let data = data_type.visit(OneAndZero);
            let is_number = !matches!(data_type, DataType::Bool | DataType::Bytes);
            assert_eq!(data_type.numbers(&data[1..]), is_number.then(|| vec![1.0, 0.0]), "{data_type}");
        }
        assert_eq!(DataType::Int16.numbers(&[0xfe, 0xff]), Some(vec![-2.0]));
        assert_eq!(DataType::Uint64.numbers(&[0xff; 8]), Some(vec![u64::MAX as f64]));
    }
}
