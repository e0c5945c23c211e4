//! Memory of a client's for an output: an instance that can writes the output there itself, so that nobody copies it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quintet_proto::DataType;

use crate::{
    error::InferError,
    request::InferRequest,
    spec::ModelSpec,
    tensor::{Shape, Tensor},
};

/// Memory that others may read and write, too.
///
/// # Safety
/// All of [`AsRef::as_ref`] may be written from [`start`](Self::start) on for as long as the place lives.
pub unsafe trait Place: AsRef<[u8]> + fmt::Debug + Send + Sync {
    /// Where it begins.
    fn start(&self) -> *mut u8;
}

/// An output that will fit its place.
#[derive(Clone, Debug)]
pub struct PlacedOutput {
    /// Its index in [`ModelSpec::outputs`].
    pub index: usize,
    /// Its element type, one of fixed size.
    pub data_type: DataType,
    /// Its shape, with all rows of the request.
    pub shape: Shape,
    /// Aligned to the element type, and at least as large as the output.
    pub place: Arc<dyn Place>,
    bytes: usize,
}

impl PlacedOutput {
    /// An output of this type and shape in that place; `None` if its size is not fixed, or it does not fit.
    pub fn new(index: usize, data_type: DataType, shape: Shape, place: Arc<dyn Place>) -> Option<Self> {
        let size = data_type.size()?;
        let bytes = shape.elements()?.checked_mul(size)?;
        let fits = bytes <= (*place).as_ref().len() && place.start().addr().is_multiple_of(size);
        fits.then_some(Self { index, data_type, shape, place, bytes })
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
        let data = Bytes::from_owner(Owner(Arc::clone(&self.place))).slice(..self.bytes);
        Ok(Tensor::new(self.data_type, self.shape.clone(), data)?)
    }
}

struct Owner(Arc<dyn Place>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// The outputs of a request that can be written to their places. The others are answered as without a place:
/// those of a size that is not known, those that would not fit, and those that would be written over an input.
pub(crate) fn fitting(spec: &ModelSpec, request: &InferRequest, inputs: &[Option<Tensor>]) -> Vec<PlacedOutput> {
    let place = |(index, place): &(usize, Arc<dyn Place>)| {
        let output = spec.outputs().get(*index)?;
        let dims: Option<Vec<usize>> = output.dims.iter().copied().collect();
        let rows = spec.batches().then_some(request.rows);
        let shape = Shape::new(rows.into_iter().chain(dims?).collect::<Vec<_>>());
        let is_apart = inputs.iter().flatten().all(|input| are_apart((**place).as_ref(), input.data()));
        is_apart.then(|| PlacedOutput::new(*index, output.data_type, shape, Arc::clone(place)))?
    };
    request.places.iter().filter(|(index, _)| request.outputs.contains(*index)).filter_map(place).collect()
}

fn are_apart(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (a.as_ptr_range(), b.as_ptr_range());
    a.end <= b.start || b.end <= a.start
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        request::{OutputSet, StageTimings},
        schedule::BatchPolicy,
        spec::TensorSpec,
    };

    #[derive(Debug)]
    struct Shared(Bytes, usize);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..]
        }
    }

    // SAFETY: no test writes there.
    unsafe impl Place for Shared {
        fn start(&self) -> *mut u8 {
            self.as_ref().as_ptr().cast_mut()
        }
    }

    /// The shapes of the outputs that fit, for two rows of an output of each kind in a place of so many bytes.
    fn placed(bytes: usize, skipped: usize, shares_with_input: bool) -> Vec<(usize, String)> {
        let outputs = vec![
            TensorSpec::new("fixed", DataType::Fp32, [Some(3)]),
            TensorSpec::new("dynamic", DataType::Fp32, [None]),
            TensorSpec::new("strings", DataType::Bytes, [Some(3)]),
            TensorSpec::new("unwanted", DataType::Uint8, [Some(1)]),
        ];
        let policy = BatchPolicy { max_batch_size: 4, ..BatchPolicy::default() };
        let input = TensorSpec::new("x", DataType::Uint8, [Some(8)]);
        let spec = ModelSpec::new("m", 1, vec![input], outputs, policy, 1, vec![]).unwrap();
        let memory = crate::BufferPool::new(0).take(bytes).freeze();
        let sent = if shares_with_input { memory.slice(..16) } else { Bytes::from(vec![0; 16]) };
        let sent = Tensor::new(DataType::Uint8, Shape::new([2, 8]), sent).unwrap();
        let place: Arc<dyn Place> = Arc::new(Shared(memory, skipped));
        let request = InferRequest {
            started: Instant::now(),
            inputs: vec![Some(sent.clone())],
            rows: 2,
            outputs: OutputSet::all(3),
            places: (0..4).map(|index| (index, Arc::clone(&place))).collect(),
            priority: 0,
            deadline: None,
            timings: StageTimings::default(),
        };
        let fitting = fitting(&spec, &request, &[Some(sent)]);
        fitting.iter().map(|output| (output.index, format!("{} {}", output.shape, output.bytes()))).collect()
    }

    #[test]
    fn only_what_fits_is_placed() {
        let fixed = [(0, "[2,3] 24".to_owned())];
        assert_eq!(placed(24, 0, false), fixed);
        assert_eq!(placed(100, 4, false), fixed, "larger, and aligned");
        assert_eq!(placed(23, 0, false), [], "too small");
        assert_eq!(placed(100, 2, false), [], "not aligned");
        assert_eq!(placed(100, 12, true), [], "over the input");
        assert_eq!(placed(100, 16, true), fixed, "right behind the input");
    }
}
