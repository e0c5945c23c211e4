//! Reads the elements of a tensor from a JSON array, flat or nested.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use quintet_engine::{DataType, InferError};
use quintet_proto::{Float, Integer, elements};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::{carried::is_carried, non_finite};

/// One element of a tensor as JSON has it.
trait Element: Sized {
    /// The kind in Triton's error text: "attempt to access JSON non-`kind` as `kind`".
    fn kind() -> &'static str;

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
    /// Appends the element as raw tensor bytes.
    fn append(self, out: &mut Vec<u8>);
}

struct IntegerElement<T>(T);

impl<T: Integer> Element for IntegerElement<T> {
    fn kind() -> &'static str {
        if T::min_value() < T::zero() { "signed-integer" } else { "unsigned-integer" }
    }
    fn from_u64(value: u64) -> Option<Self> {
        T::from(value).map(Self)
    }
    fn from_i64(value: i64) -> Option<Self> {
        T::from(value).map(Self)
    }
    fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(bytemuck::bytes_of(&self.0));
    }
}

struct Floating<T>(T);

impl<T: Float> Element for Floating<T> {
    fn kind() -> &'static str {
        "floating-point"
    }
    fn from_u64(value: u64) -> Option<Self> {
        T::from(value).map(Self)
    }
    fn from_i64(value: i64) -> Option<Self> {
        T::from(value).map(Self)
    }
    fn from_f64(value: f64) -> Option<Self> {
        // A finite value out of the type's range is refused, not turned into infinity.
        T::from(value).filter(|narrowed| narrowed.is_finite() || !value.is_finite()).map(Self)
    }
    fn from_str(value: &str) -> Option<Self> {
        non_finite::from_name(value).map(Self)
    }
    fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(bytemuck::bytes_of(&self.0));
    }
}

impl Element for bool {
    fn kind() -> &'static str {
        "boolean"
    }
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    fn append(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

struct Text(String);

impl Element for Text {
    fn kind() -> &'static str {
        "string"
    }
    fn from_str(value: &str) -> Option<Self> {
        Some(Self(value.to_owned()))
    }
    fn append(self, out: &mut Vec<u8>) {
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
        let kind = T::kind();
        let element = element.ok_or_else(|| E::custom(format_args!("attempt to access JSON non-{kind} as {kind}")))?;
        element.append(self.out);
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
        write!(f, "an array of {} values", T::kind())
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

/// Parses a JSON array to raw tensor bytes and the number of elements.
struct Parse<'a>(&'a str);

impl Parse<'_> {
    fn all<T: Element>(self) -> serde_json::Result<(Vec<u8>, usize)> {
        let (mut out, mut count) = (Vec::new(), 0);
        let mut deserializer = serde_json::Deserializer::from_str(self.0);
        let seed = Flatten::<T> { out: &mut out, count: &mut count, element: PhantomData };
        seed.deserialize(&mut deserializer)?;
        if !self.0.trim_start().starts_with('[') {
            return Err(serde_json::Error::custom("attempt to access JSON non-array as array"));
        }
        Ok((out, count))
    }
}

impl quintet_proto::Visitor for Parse<'_> {
    type Output = serde_json::Result<(Vec<u8>, usize)>;

    fn integer<T: Integer>(self) -> Self::Output {
        self.all::<IntegerElement<T>>()
    }
    fn float<T: Float>(self) -> Self::Output {
        self.all::<Floating<T>>()
    }
    fn boolean(self) -> Self::Output {
        self.all::<bool>()
    }
    fn bytes(self) -> Self::Output {
        self.all::<Text>()
    }
}

/// The elements of `text`, a JSON array, as raw tensor bytes. There must be `expected` elements, if that is known.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a value of the wrong kind or out of range, for a wrong number of
/// elements, and for FP16 and BF16.
pub(super) fn parse(
    input: &str,
    data_type: DataType,
    text: &str,
    expected: Option<usize>,
) -> Result<Bytes, InferError> {
    if !is_carried(data_type) {
        return Err(InferError::invalid(format_args!(
            "receiving {data_type} data via JSON is not supported. Please use the binary data format for input {input}"
        )));
    }
    let (data, count) = data_type
        .visit(Parse(text))
        .map_err(|error| InferError::invalid(format_args!("Unable to parse 'data': {error} (input '{input}')")))?;
    if let Some(expected) = expected.filter(|expected| *expected != count) {
        return Err(InferError::invalid(format_args!(
            "Unable to parse 'data': Shape does not match true shape of 'data' field (input '{input}': {count} elements, \
             expected {expected})"
        )));
    }
    Ok(data.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(data_type: DataType, text: &str, expected: usize) -> String {
        parse("x", data_type, text, Some(expected)).unwrap_err().to_string()
    }

    #[test]
    fn nested_arrays_are_flattened() {
        let data = parse("x", DataType::Int16, "[[1, -2], [[3]]]", Some(3)).unwrap();
        assert_eq!(data[..], [1, 0, 254, 255, 3, 0]);
        let data = parse("x", DataType::Bytes, r#"["ab", ["é"]]"#, Some(2)).unwrap();
        assert_eq!(data, elements::encode(["ab", "é"]));
    }

    #[test]
    fn rejects_values_that_the_type_cannot_hold() {
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
            assert!(parse("x", data_type, text, Some(1)).is_err(), "{data_type} {text}");
        }
        assert!(refusal(DataType::Int32, "[1.5]", 1).contains("non-signed-integer as signed-integer"));
        assert!(refusal(DataType::Int32, "[1]", 2).contains("1 elements, expected 2"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
            let _ = parse("x", DataType::Fp64, &text, Some(1));
        }
    }
}
