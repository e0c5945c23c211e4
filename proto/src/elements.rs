//! BYTES tensors on the wire: each element is a 4-byte little-endian length and that many bytes.

use bytes::{BufMut, Bytes, BytesMut};

/// A BYTES tensor's data that ends in the middle of an element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Fewer than four bytes are left for a length.
    #[error("expecting a 4-byte length but only {available} bytes available")]
    Length {
        /// Bytes left.
        available: usize,
    },
    /// The element is longer than the rest of the data.
    #[error("expecting string of length {length} but only {available} bytes available")]
    Body {
        /// The element's stated length.
        length: usize,
        /// Bytes after the length.
        available: usize,
    },
}

/// Iterates over the elements of a BYTES tensor without copying; ends after the first error.
pub fn iter(data: &[u8]) -> impl Iterator<Item = Result<&[u8], ElementError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((head, tail)) = rest.split_first_chunk::<4>() else {
            let available = rest.len();
            rest = &[];
            return Some(Err(ElementError::Length { available }));
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > tail.len() {
            rest = &[];
            return Some(Err(ElementError::Body { length, available: tail.len() }));
        }
        let (element, tail) = tail.split_at(length);
        rest = tail;
        Some(Ok(element))
    })
}

/// The number of elements in a BYTES tensor's data.
///
/// # Errors
/// When the data ends in the middle of an element.
pub fn count(data: &[u8]) -> Result<usize, ElementError> {
    iter(data).try_fold(0, |n, element| element.map(|_| n + 1))
}

/// Encodes elements as a BYTES tensor's data. Elements over 4 GiB cannot be encoded and become empty; the limits on
/// bodies are far below that.
pub fn encode<T: AsRef<[u8]>>(elements: impl IntoIterator<Item = T>) -> Bytes {
    let mut out = BytesMut::new();
    for element in elements {
        let element = element.as_ref();
        let element = if u32::try_from(element.len()).is_ok() { element } else { &[] };
        out.put_u32_le(element.len() as u32);
        out.put_slice(element);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reports_incomplete_elements() {
        assert_eq!(count(&[1, 0]), Err(ElementError::Length { available: 2 }));
        assert_eq!(count(b"\xe7\x03\0\0hi"), Err(ElementError::Body { length: 999, available: 2 }));
        assert_eq!(count(b""), Ok(0));
    }

    proptest! {
        #[test]
        fn encoded_elements_are_read_back(elements: Vec<Vec<u8>>) {
            let data = encode(&elements);
            let read: Vec<_> = iter(&data).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, elements.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(count(&data), Ok(elements.len()));
        }

        #[test]
        fn iteration_ends_for_any_bytes(data: Vec<u8>) {
            prop_assert!(iter(&data).count() <= data.len());
        }
    }
}
