//! Converts typed tensor contents (`InferTensorContents`) to bytes, with Triton's rules and error texts.

use bytes::Bytes;
use quintet_engine::InferError;
use quintet_proto::{
    elements,
    inference::{InferTensorContents, model_infer_request::InferInputTensor},
};

/// The elements in `contents` as raw tensor bytes. They must be in the field of the input's data type; FP16 and BF16
/// have no field.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for another field, and for a value out of the type's range.
pub(super) fn to_bytes(
    input: &InferInputTensor,
    contents: &InferTensorContents,
    model: &str,
) -> Result<Bytes, InferError> {
    let expected = input.datatype.as_str();
    let int = match expected {
        "INT8" | "INT16" => expected,
        _ => "INT32",
    };
    let uint = match expected {
        "UINT8" | "UINT16" => expected,
        _ => "UINT32",
    };
    let fields = [
        ("BOOL", contents.bool_contents.is_empty()),
        (int, contents.int_contents.is_empty()),
        ("INT64", contents.int64_contents.is_empty()),
        (uint, contents.uint_contents.is_empty()),
        ("UINT64", contents.uint64_contents.is_empty()),
        ("FP32", contents.fp32_contents.is_empty()),
        ("FP64", contents.fp64_contents.is_empty()),
        ("BYTES", contents.bytes_contents.is_empty()),
    ];
    if let Some((found, _)) = fields.iter().find(|(found, empty)| !empty && *found != expected) {
        return Err(InferError::invalid(format_args!(
            "unexpected explicit tensor data for input tensor '{}' for model '{model}' of type '{found}', expected \
             datatype '{expected}'",
            input.name
        )));
    }
    match expected {
        "BOOL" => Ok(pack(&contents.bool_contents, |value| [u8::from(value)])),
        "INT8" => narrow(input, &contents.int_contents, i8::to_le_bytes),
        "INT16" => narrow(input, &contents.int_contents, i16::to_le_bytes),
        "INT32" => Ok(pack(&contents.int_contents, i32::to_le_bytes)),
        "INT64" => Ok(pack(&contents.int64_contents, i64::to_le_bytes)),
        "UINT8" => narrow(input, &contents.uint_contents, u8::to_le_bytes),
        "UINT16" => narrow(input, &contents.uint_contents, u16::to_le_bytes),
        "UINT32" => Ok(pack(&contents.uint_contents, u32::to_le_bytes)),
        "UINT64" => Ok(pack(&contents.uint64_contents, u64::to_le_bytes)),
        "FP32" => Ok(pack(&contents.fp32_contents, f32::to_le_bytes)),
        "FP64" => Ok(pack(&contents.fp64_contents, f64::to_le_bytes)),
        "BYTES" => Ok(elements::encode(&contents.bytes_contents)),
        _ => Ok(Bytes::new()),
    }
}

fn pack<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut out = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|&value| out.extend_from_slice(&to_bytes(value)));
    out.into()
}

fn narrow<W: Copy + std::fmt::Display, T: TryFrom<W>, const N: usize>(
    input: &InferInputTensor,
    values: &[W],
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<Bytes, InferError> {
    let mut out = Vec::with_capacity(values.len() * N);
    for &value in values {
        let narrow = T::try_from(value).map_err(|_| {
            InferError::invalid(format_args!(
                "the value {value} of input '{}' is out of the range of {}",
                input.name, input.datatype
            ))
        })?;
        out.extend_from_slice(&to_bytes(narrow));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(datatype: &str) -> InferInputTensor {
        InferInputTensor { name: "x".into(), datatype: datatype.into(), ..Default::default() }
    }

    fn bytes(datatype: &str, contents: InferTensorContents) -> Result<Bytes, String> {
        to_bytes(&input(datatype), &contents, "m").map_err(|error| error.to_string())
    }

    #[test]
    fn small_integers_are_narrowed_or_refused() {
        let ints = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..Default::default() };
        assert_eq!(bytes("INT8", ints(&[-1, 127])).unwrap()[..], [255, 127]);
        assert_eq!(bytes("INT16", ints(&[-2])).unwrap()[..], [254, 255]);
        assert_eq!(bytes("INT8", ints(&[128])).unwrap_err(), "the value 128 of input 'x' is out of the range of INT8");
        let uints = InferTensorContents { uint_contents: vec![65535], ..Default::default() };
        assert_eq!(bytes("UINT16", uints).unwrap()[..], [255, 255]);
    }

    #[test]
    fn elements_must_be_in_the_field_of_their_type() {
        let floats = || InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
        assert_eq!(bytes("FP32", floats()).unwrap().len(), 8);
        for datatype in ["FP16", "BF16", "FP64", "INT32", "FOO"] {
            assert_eq!(
                bytes(datatype, floats()).unwrap_err(),
                format!(
                    "unexpected explicit tensor data for input tensor 'x' for model 'm' of type 'FP32', expected datatype \
                     '{datatype}'"
                )
            );
        }
        let strings = InferTensorContents {
            bytes_contents: vec![Bytes::from_static(b"\xff\0"), Bytes::new()],
            ..Default::default()
        };
        assert_eq!(bytes("BYTES", strings).unwrap()[..], *b"\x02\0\0\0\xff\0\0\0\0\0");
        assert_eq!(bytes("FP16", InferTensorContents::default()).unwrap(), Bytes::new());
    }
}
