//! Memory of a client's for an output: an instance that can writes the output there itself, so that nobody copies it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quintet_proto::DataType;

use crate::{
    error::InferError,
    tensor::{Shape, Tensor},
};

/// Memory that others may read and write, too.
///
/// # Safety
/// All of [`AsRef::as_ref`] may be written from [`start`](Self::start) on for as long as the place lives.
pub unsafe trait OutputMemory: AsRef<[u8]> + fmt::Debug + Send + Sync {
    /// Where it begins.
    fn start(&self) -> *mut u8;
}

/// An output that will fit its place.
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
    /// An output of this type and shape in that place; `None` if its size is not fixed, or it does not fit.
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

    /// What has been written there, as a tensor: a view, which changes with the place.
    ///
    /// # Errors
    /// Never, as long as the output is what it was when it was placed.
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
