//! Prints the elements of a tensor as a flat JSON array.

use std::fmt::Write as _;

use quintet_engine::{InferError, Tensor};
use quintet_proto::{Float, Integer, Number, elements};

use super::{carried::is_carried, non_finite};

/// Prints a tensor's data as a flat JSON array. NaN and infinities are strings, because JSON has no such numbers.
struct Print<'a>(&'a [u8]);

impl Print<'_> {
    fn list<T: Number>(self, mut print: impl FnMut(&mut String, T)) -> String {
        let mut out = String::with_capacity(self.0.len() / size_of::<T>() * 4 + 2);
        out.push('[');
        for (index, element) in T::read(self.0).enumerate() {
            if index > 0 {
                out.push(',');
            }
            print(&mut out, element);
        }
        out.push(']');
        out
    }
}

impl quintet_proto::Visitor for Print<'_> {
    type Output = Result<String, InferError>;

    fn integer<T: Integer>(self) -> Self::Output {
        Ok(self.list::<T>(|out, value| {
            let _ = write!(out, "{value}");
        }))
    }
    fn float<T: Float>(self) -> Self::Output {
        Ok(self.list::<T>(|out, value| {
            let _ = match non_finite::name(value) {
                None => write!(out, "{value:?}"),
                Some(name) => write!(out, "\"{name}\""),
            };
        }))
    }
    fn boolean(self) -> Self::Output {
        Ok(self.list::<u8>(|out, byte| out.push_str(if byte == 0 { "false" } else { "true" })))
    }
    fn bytes(self) -> Self::Output {
        let strings: Vec<&str> = elements::iter(self.0)
            .map(|element| element.ok().and_then(|element| std::str::from_utf8(element).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                InferError::invalid(
                    "the output has strings that are not UTF-8, which JSON cannot carry. Please use the binary data format for output",
                )
            })?;
        serde_json::to_string(&strings).map_err(InferError::internal)
    }
}

/// A tensor's elements as a flat JSON array.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for FP16, BF16, and strings that are not UTF-8.
pub(super) fn print(tensor: &Tensor) -> Result<String, InferError> {
    let data_type = tensor.data_type();
    if !is_carried(data_type) {
        return Err(InferError::invalid(format_args!(
            "sending {data_type} data via JSON is not supported. Please use the binary data format for output"
        )));
    }
    data_type.visit(Print(tensor.data()))
}
