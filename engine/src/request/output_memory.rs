//! A client's memory for an output: an instance that can writes the output there, without a copy.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quintet_proto::DataType;

use crate::{
    error::InferError,
    tensor::{Shape, Tensor},
};

/// Memory that other processes may read and write, too.
///
/// # Safety
/// The bytes of [`AsRef::as_ref`] may be written through [`start`](Self::start) for as long as the value lives.
pub unsafe trait OutputMemory: AsRef<[u8]> + fmt::Debug + Send + Sync {
    /// Its first byte.
    fn start(&self) -> *mut u8;
}

/// An output and memory that it fits.
#[derive(Clone, Debug)]
pub struct OutputPlacement {
    /// Its index in [`crate::ModelSpec::outputs`].
    pub index: usize,
    /// Its element type, one of fixed size.
    pub data_type: DataType,
    /// Its shape, with all rows of the request.
    pub shape: Shape,
    /// Aligned to the element type, and at least as large as the output.
    pub memory: Arc<dyn OutputMemory>,
    bytes: usize,
}

impl OutputPlacement {
    /// An output of this type and shape in `memory`; `None` if it has no fixed size or does not fit.
    pub fn new(index: usize, data_type: DataType, shape: Shape, memory: Arc<dyn OutputMemory>) -> Option<Self> {
        let size = data_type.size()?;
        let bytes = shape.elements()?.checked_mul(size)?;
        let fits = bytes <= (*memory).as_ref().len() && memory.start().addr().is_multiple_of(size);
        fits.then_some(Self { index, data_type, shape, memory, bytes })
    }

    /// Bytes of the output.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The output as a tensor that views the memory, and changes with it.
    ///
    /// # Errors
    /// Never, unless type or shape have been changed.
    pub fn tensor(&self) -> Result<Tensor, InferError> {
        let data = Bytes::from_owner(Owner(Arc::clone(&self.memory))).slice(..self.bytes);
        Ok(Tensor::new(self.data_type, self.shape.clone(), data)?)
    }
}

struct Owner(Arc<dyn OutputMemory>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}
