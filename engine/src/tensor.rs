//! Tensors: a data type, a shape and shared bytes.

use std::fmt;

use bytes::Bytes;
use quintet_proto::{DataType, elements};

/// Dimensions of a concrete tensor.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Box<[usize]>);

impl Shape {
    /// A shape with these dimensions.
    pub fn new(dims: impl Into<Box<[usize]>>) -> Self {
        Self(dims.into())
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of elements; `None` if it overflows.
    pub fn elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
    }

    /// The same shape with another first dimension. A scalar stays a scalar.
    pub fn with_rows(&self, rows: usize) -> Self {
        let mut dims = self.0.clone();
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        Self(dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[1,3,224,224]`
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// Data that does not fit its type and shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape has more elements than can be counted.
    #[error("the shape {0} has too many elements")]
    Overflow(Shape),
    /// A type of fixed size with too little or too much data.
    #[error("expected {expected} bytes, got {got}")]
    ByteSize {
        /// Bytes that type and shape need.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// BYTES with too few or too many elements.
    #[error("expected {expected} elements, got {got}")]
    ElementCount {
        /// Elements that the shape needs.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// BYTES that end in the middle of an element.
    #[error(transparent)]
    Element(#[from] elements::ElementError),
}

/// A tensor whose data fits its type and shape. Cloning shares the data.
///
/// Elements are little-endian, in row-major order; BYTES are in the wire's form ([`elements`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    data_type: DataType,
    shape: Shape,
    data: Bytes,
}

impl Tensor {
    /// A tensor over `data`, without copying it.
    ///
    /// # Errors
    /// When the data does not have the size that type and shape need.
    pub fn new(data_type: DataType, shape: Shape, data: Bytes) -> Result<Self, TensorError> {
        let count = shape.elements().ok_or_else(|| TensorError::Overflow(shape.clone()))?;
        match data_type.size() {
            Some(size) => {
                let expected = count.checked_mul(size).ok_or_else(|| TensorError::Overflow(shape.clone()))?;
                if data.len() != expected {
                    return Err(TensorError::ByteSize { expected, got: data.len() });
                }
            }
            None => {
                let got = elements::count(&data)?;
                if got != count {
                    return Err(TensorError::ElementCount { expected: count, got });
                }
            }
        }
        Ok(Self { data_type, shape, data })
    }

    /// The element type.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The same tensor over a copy of its data.
    pub(crate) fn deep_clone(&self) -> Self {
        Self { data_type: self.data_type, shape: self.shape.clone(), data: Bytes::copy_from_slice(&self.data) }
    }

    /// Data type, shape and data.
    pub fn into_parts(self) -> (DataType, Shape, Bytes) {
        (self.data_type, self.shape, self.data)
    }

    /// Whether the data may be viewed in place as elements of its type.
    pub fn is_aligned(&self) -> bool {
        let size = self.data_type.size().unwrap_or(1);
        (self.data.as_ptr() as usize).is_multiple_of(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_must_fit() {
        let shape = || Shape::new([2, 3]);
        assert!(Tensor::new(DataType::Fp32, shape(), Bytes::from(vec![0; 24])).is_ok());
        assert_eq!(
            Tensor::new(DataType::Fp32, shape(), Bytes::from(vec![0; 23])),
            Err(TensorError::ByteSize { expected: 24, got: 23 })
        );
        assert_eq!(
            Tensor::new(DataType::Bytes, shape(), elements::encode(["a"; 5])),
            Err(TensorError::ElementCount { expected: 6, got: 5 })
        );
        let huge = Shape::new([usize::MAX, 2]);
        assert_eq!(Tensor::new(DataType::Uint8, huge.clone(), Bytes::new()), Err(TensorError::Overflow(huge)));
    }
}
