//! `reshape`: tensors whose shape for clients differs from the model's. Only the view changes.

use quintet_engine::{InferError, Instance, Placement, RunRequest, RunTimings, Shape, Tensor};

/// One tensor's two shapes, without the batch dimension; `None` is a dynamic one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The shape before.
    pub from: Vec<Option<usize>>,
    /// The shape after.
    pub to: Vec<Option<usize>>,
}

impl Reshape {
    /// Whether the two hold as many elements, and as many dynamic dimensions.
    pub fn fits(&self) -> bool {
        let fixed = |dims: &[Option<usize>]| dims.iter().flatten().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        let dynamic = |dims: &[Option<usize>]| dims.iter().filter(|dim| dim.is_none()).count();
        fixed(&self.from) == fixed(&self.to) && dynamic(&self.from) == dynamic(&self.to)
    }

    /// Whether a concrete shape is one before.
    fn maps(&self, before: &[usize], batches: bool) -> bool {
        let dims = before.get(usize::from(batches)..).unwrap_or_default();
        dims.len() == self.from.len() && dims.iter().zip(&self.from).all(|(dim, from)| from.is_none_or(|it| it == *dim))
    }

    /// The shape after, for a concrete shape before. Dynamic dimensions keep their order.
    fn shape(&self, before: &[usize], batches: bool) -> Shape {
        let (rows, dims) = before.split_at(usize::from(batches).min(before.len()));
        let mut dynamic = self.from.iter().zip(dims).filter(|(from, _)| from.is_none()).map(|(_, &dim)| dim);
        let dims = self.to.iter().map(|dim| dim.or_else(|| dynamic.next()).unwrap_or(1));
        Shape::new(rows.iter().copied().chain(dims).collect::<Vec<_>>())
    }

    fn apply(&self, tensor: &Tensor, batches: bool) -> Result<Tensor, InferError> {
        let shape = self.shape(tensor.shape().dims(), batches);
        Tensor::new(tensor.data_type(), shape, tensor.data().clone()).map_err(InferError::internal)
    }
}

/// An instance whose inputs and outputs are reshaped on the way in and out.
pub struct Reshaped {
    /// The instance that runs the model.
    pub inner: Box<dyn Instance>,
    /// One for each input, in order; `None` leaves it unchanged.
    pub inputs: Vec<Option<Reshape>>,
    /// One for each output, in order.
    pub outputs: Vec<Option<Reshape>>,
    /// Whether the first dimension of tensors is the batch.
    pub batches: bool,
}

impl Instance for Reshaped {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let batches = self.batches;
        let inputs = request
            .inputs
            .iter()
            .zip(&self.inputs)
            .map(|(tensor, reshape)| match (tensor, reshape) {
                (Some(tensor), Some(reshape)) => reshape.apply(tensor, batches).map(Some),
                (tensor, _) => Ok(tensor.clone()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Placements have the client's shapes, not the model's.
        let outputs = self.inner.run(RunRequest { inputs: &inputs, placements: &[], ..request }, timings)?;
        outputs
            .into_iter()
            .zip(&self.outputs)
            .map(|(tensor, reshape)| match (tensor, reshape) {
                // A run may give another shape than the model file announces; there is nothing to map then.
                (Some(tensor), Some(reshape)) if reshape.maps(tensor.shape().dims(), batches) => {
                    reshape.apply(&tensor, batches).map(Some)
                }
                (tensor, _) => Ok(tensor),
            })
            .collect()
    }

    fn placement(&self) -> Placement {
        self.inner.placement()
    }

    fn runs_on_any_thread(&self) -> bool {
        self.inner.runs_on_any_thread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reshape(from: &[i64], to: &[i64]) -> Reshape {
        let dims = |dims: &[i64]| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        Reshape { from: dims(from), to: dims(to) }
    }

    #[test]
    fn maps_shapes_with_dynamic_dimensions() {
        assert_eq!(reshape(&[1], &[]).shape(&[8, 1], true), Shape::new([8]));
        assert_eq!(reshape(&[], &[1]).shape(&[8], true), Shape::new([8, 1]));
        assert_eq!(reshape(&[4, -1], &[2, -1, 2]).shape(&[4, 7], false), Shape::new([2, 7, 2]));
        assert_eq!(reshape(&[-1, 2, -1], &[-1, -1, 2]).shape(&[1, 5, 2, 7], true), Shape::new([1, 5, 7, 2]));
    }

    #[test]
    fn maps_only_the_shapes_that_the_model_announces() {
        assert!(reshape(&[], &[1]).maps(&[], false) && reshape(&[], &[1]).maps(&[8], true));
        assert!(!reshape(&[], &[1]).maps(&[2], false) && !reshape(&[], &[1]).maps(&[8, 2], true));
        assert!(
            reshape(&[4, -1], &[2, 2, -1]).maps(&[4, 7], false) && !reshape(&[4, -1], &[2, 2, -1]).maps(&[5, 7], false)
        );
    }

    #[test]
    fn finds_reshapes_with_different_sizes() {
        assert!(reshape(&[4, -1], &[2, 2, -1]).fits() && reshape(&[1], &[]).fits());
        assert!(!reshape(&[4], &[3]).fits() && !reshape(&[-1], &[4]).fits());
    }
}
