//! Tensor data as JSON: nested or flat arrays to the wire's bytes, and back as flat arrays.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use quintet_engine::{DataType, InferError, Tensor};
use quintet_proto::elements;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

/// One element of a tensor as JSON has it.
trait Element: Sized {
    /// What Triton says of a value of another kind: "attempt to access JSON non-`KIND` as `KIND`".
    const KIND: &'static str;

    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_u64(_: u64) -> Option<Self> {
        None
    }
    fn from_i64(_: i64) -> Option<Self> {
        None
    }
    fn from_f64(_: f64) -> Option<Self> {
        None
    }
    fn from_str(_: &str) -> Option<Self> {
        None
    }
    /// Appends the element in the wire's form.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! integer_elements {
    ($($type:ty, $kind:literal;)+) => {$(
        impl Element for $type {
            const KIND: &'static str = $kind;
            fn from_u64(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}

integer_elements! {
    u8, "unsigned-integer"; u16, "unsigned-integer"; u32, "unsigned-integer"; u64, "unsigned-integer";
    i8, "signed-integer"; i16, "signed-integer"; i32, "signed-integer"; i64, "signed-integer";
}

macro_rules! float_elements {
    ($($type:ty),+) => {$(
        impl Element for $type {
            const KIND: &'static str = "floating-point";
            fn from_u64(value: u64) -> Option<Self> {
                Some(value as $type)
            }
            fn from_i64(value: i64) -> Option<Self> {
                Some(value as $type)
            }
            fn from_f64(value: f64) -> Option<Self> {
                // Over the range: refuse, never send infinity instead.
                let narrowed = value as $type;
                (narrowed.is_finite() || !value.is_finite()).then_some(narrowed)
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}

float_elements!(f32, f64);

impl Element for bool {
    const KIND: &'static str = "boolean";
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    fn put(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

struct Text(String);

impl Element for Text {
    const KIND: &'static str = "string";
    fn from_str(value: &str) -> Option<Self> {
        Some(Self(value.to_owned()))
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&elements::encode([self.0]));
    }
}

/// Appends every element of a nested array, in order.
struct Flatten<'a, T> {
    out: &'a mut Vec<u8>,
    count: &'a mut usize,
    element: PhantomData<T>,
}

impl<T: Element> Flatten<'_, T> {
    fn push<E: serde::de::Error>(self, element: Option<T>) -> Result<(), E> {
        let kind = T::KIND;
        let element = element.ok_or_else(|| E::custom(format_args!("attempt to access JSON non-{kind} as {kind}")))?;
        element.put(self.out);
        *self.count += 1;
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Flatten<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Flatten<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {} values", T::KIND)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Flatten::<T> { out: self.out, count: self.count, element: PhantomData })?.is_some()
        {
        }
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.push(T::from_bool(value))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.push(T::from_u64(value))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::from_i64(value))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::from_f64(value))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.push(T::from_str(value))
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.push(None)
    }
}

/// The elements of `text`, a JSON array, in the wire's form. There must be `expected` of them.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a value of the wrong kind or out of range, a wrong count, and for FP16
/// and BF16, which JSON does not carry.
pub(super) fn parse(input: &str, data_type: DataType, text: &str, expected: usize) -> Result<Bytes, InferError> {
    fn all<T: Element>(text: &str) -> serde_json::Result<(Vec<u8>, usize)> {
        let (mut out, mut count) = (Vec::new(), 0);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = Flatten::<T> { out: &mut out, count: &mut count, element: PhantomData };
        seed.deserialize(&mut deserializer)?;
        if !text.trim_start().starts_with('[') {
            return Err(serde_json::Error::custom("attempt to access JSON non-array as array"));
        }
        Ok((out, count))
    }
    let parsed = match data_type {
        DataType::Bool => all::<bool>(text),
        DataType::Uint8 => all::<u8>(text),
        DataType::Uint16 => all::<u16>(text),
        DataType::Uint32 => all::<u32>(text),
        DataType::Uint64 => all::<u64>(text),
        DataType::Int8 => all::<i8>(text),
        DataType::Int16 => all::<i16>(text),
        DataType::Int32 => all::<i32>(text),
        DataType::Int64 => all::<i64>(text),
        DataType::Fp32 => all::<f32>(text),
        DataType::Fp64 => all::<f64>(text),
        DataType::Bytes => all::<Text>(text),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(InferError::invalid(format_args!(
                "receiving {data_type} data via JSON is not supported. Please use the binary data format for input {input}"
            )));
        }
    };
    let (data, count) = parsed
        .map_err(|error| InferError::invalid(format_args!("Unable to parse 'data': {error} (input '{input}')")))?;
    if count != expected {
        return Err(InferError::invalid(format_args!(
            "Unable to parse 'data': Shape does not match true shape of 'data' field (input '{input}': {count} elements, \
             expected {expected})"
        )));
    }
    Ok(data.into())
}

/// A tensor's elements as a flat JSON array. NaN and infinities, which JSON does not have, are strings.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for what JSON does not carry: FP16, BF16, and strings that are not UTF-8.
pub(super) fn print(tensor: &Tensor) -> Result<String, InferError> {
    use std::fmt::Write as _;

    fn list<const N: usize>(data: &[u8], mut print: impl FnMut(&mut String, [u8; N])) -> String {
        let mut out = String::with_capacity(data.len() / N * 4 + 2);
        out.push('[');
        for (index, chunk) in data.as_chunks::<N>().0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            print(&mut out, *chunk);
        }
        out.push(']');
        out
    }
    macro_rules! integers {
        ($type:ty) => {
            list(tensor.data(), |out, bytes| {
                let _ = write!(out, "{}", <$type>::from_le_bytes(bytes));
            })
        };
    }
    macro_rules! floats {
        ($type:ty) => {
            list(tensor.data(), |out, bytes| {
                let value = <$type>::from_le_bytes(bytes);
                let _ = match (value.is_finite(), value.is_nan()) {
                    (true, _) => write!(out, "{value:?}"),
                    (false, true) => write!(out, "\"NaN\""),
                    (false, false) => write!(out, "\"{}Infinity\"", if value < 0.0 { "-" } else { "" }),
                };
            })
        };
    }
    Ok(match tensor.data_type() {
        DataType::Bool => {
            list(tensor.data(), |out, [byte]: [u8; 1]| out.push_str(if byte == 0 { "false" } else { "true" }))
        }
        DataType::Uint8 => integers!(u8),
        DataType::Uint16 => integers!(u16),
        DataType::Uint32 => integers!(u32),
        DataType::Uint64 => integers!(u64),
        DataType::Int8 => integers!(i8),
        DataType::Int16 => integers!(i16),
        DataType::Int32 => integers!(i32),
        DataType::Int64 => integers!(i64),
        DataType::Fp32 => floats!(f32),
        DataType::Fp64 => floats!(f64),
        DataType::Bytes => {
            let strings: Vec<&str> = elements::iter(tensor.data())
                .map(|element| element.ok().and_then(|element| std::str::from_utf8(element).ok()))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    InferError::invalid(
                        "the output has strings that are not UTF-8, which JSON cannot carry. Please use the binary data format for output",
                    )
                })?;
            serde_json::to_string(&strings).map_err(InferError::internal)?
        }
        DataType::Fp16 | DataType::Bf16 => {
            return Err(InferError::invalid(format_args!(
                "sending {} data via JSON is not supported. Please use the binary data format for output",
                tensor.data_type()
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quintet_engine::Shape;

    use super::*;

    fn refusal(data_type: DataType, text: &str, expected: usize) -> String {
        parse("x", data_type, text, expected).unwrap_err().to_string()
    }

    #[test]
    fn nested_arrays_are_flattened() {
        let data = parse("x", DataType::Int16, "[[1, -2], [[3]]]", 3).unwrap();
        assert_eq!(data[..], [1, 0, 254, 255, 3, 0]);
        let data = parse("x", DataType::Bytes, r#"["ab", ["é"]]"#, 2).unwrap();
        assert_eq!(data, elements::encode(["ab", "é"]));
    }

    #[test]
    fn values_are_never_bent() {
        for (data_type, text) in [
            (DataType::Int32, "[1.5]"),
            (DataType::Int32, "[null]"),
            (DataType::Int32, "[true]"),
            (DataType::Int32, "[\"1\"]"),
            (DataType::Int32, "[2147483648]"),
            (DataType::Uint8, "[-1]"),
            (DataType::Uint8, "[256]"),
            (DataType::Bool, "[1]"),
            (DataType::Fp32, "[1e39]"),
            (DataType::Fp32, "[\"1\"]"),
            (DataType::Fp16, "[1]"),
            (DataType::Int32, "7"),
        ] {
            assert!(parse("x", data_type, text, 1).is_err(), "{data_type} {text}");
        }
        assert!(refusal(DataType::Int32, "[1.5]", 1).contains("non-signed-integer as signed-integer"));
        assert!(refusal(DataType::Int32, "[1]", 2).contains("1 elements, expected 2"));
    }

    proptest! {
        #[test]
        fn floats_survive_the_way_there_and_back(values in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..20)) {
            let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let tensor = Tensor::new(DataType::Fp32, Shape::new([values.len()]), Bytes::from(data.clone())).unwrap();
            let text = print(&tensor).unwrap();
            prop_assert_eq!(parse("x", DataType::Fp32, &text, values.len()).unwrap(), data);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
            let _ = parse("x", DataType::Fp64, &text, 1);
        }
    }
}
