//! The names of the model's input and output, and the rows of the output.

use crate::client::call::CallError;

/// Name of the model's input.
pub const INPUT: &str = "image";

/// Name of the requested output, the same that the jpeg lane returns.
pub const OUTPUT: &str = "embedding";

/// Splits a flat `[n, width]` FP32 tensor in little-endian bytes into rows.
pub(super) fn rows(data: &[u8], shape: &[i64]) -> Result<Vec<Vec<f32>>, CallError> {
    let malformed = || CallError::Malformed(format!("`{OUTPUT}` of shape {shape:?} has {} bytes", data.len()));
    let [count, width] = *shape else { return Err(malformed()) };
    let (count, width) =
        (usize::try_from(count).map_err(|_| malformed())?, usize::try_from(width).map_err(|_| malformed())?);
    let row_bytes = width.checked_mul(4).filter(|&bytes| bytes > 0).ok_or_else(malformed)?;
    if count.checked_mul(row_bytes) != Some(data.len()) {
        return Err(malformed());
    }
    let (elements, _) = data.as_chunks::<4>();
    let elements: Vec<f32> = elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(elements.chunks(width).map(<[f32]>::to_vec).collect())
}

/// The rows of a tensor that a server wrote to the start of its placement.
pub(super) fn shared_rows(bytes: &[u8], shape: &[i64]) -> Result<Vec<Vec<f32>>, CallError> {
    let length = shape.iter().try_fold(4_usize, |bytes, &dim| bytes.checked_mul(usize::try_from(dim).ok()?));
    rows(length.and_then(|length| bytes.get(..length)).unwrap_or_default(), shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_must_match_the_shape() {
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(rows(&data, &[2, 2]).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        for shape in [&[4][..], &[2, 3], &[-1, 4], &[4, 0], &[i64::MAX, i64::MAX], &[]] {
            assert!(rows(&data, shape).is_err(), "{shape:?}");
        }
    }
}
