//! Which models take images, and in which form: those with one required input of 224 × 224 pixels.

use quintet_engine::{DataType, ErrorKind, InferError, ModelSpec, Shape, TensorSpec};
use quintet_preprocess::{ELEMENTS, ImageError, SIDE, to_pixels, to_tensor};

/// The form in which a model takes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// FP32 `[3,224,224]`, normalised.
    Tensor,
    /// UINT8 `[224,224,3]`, plain pixels.
    Pixels,
}

impl InputForm {
    /// The form in which this model takes images.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model that does not take images.
    pub fn of_model(spec: &ModelSpec) -> Result<Self, InferError> {
        let fits = |input: &TensorSpec, form: &Self| {
            let dims = form.dims();
            let same = input.dims.iter().zip(dims).all(|(have, want)| have.is_none_or(|have| have == want));
            input.data_type == form.data_type() && input.dims.len() == dims.len() && same
        };
        let required: Vec<_> = spec.inputs().iter().filter(|input| !input.optional).collect();
        let form = match required[..] {
            [input] => [Self::Tensor, Self::Pixels].into_iter().find(|form| fits(input, form)),
            _ => None,
        };
        form.ok_or_else(|| {
            let describe = |input: &TensorSpec| {
                let shape = input.announced_shape(spec.batches());
                format!("'{}' {} {shape:?}", input.name, input.data_type)
            };
            let inputs: Vec<_> = spec.inputs().iter().map(describe).collect();
            InferError::new(
                ErrorKind::Unsupported,
                format_args!(
                    "model '{}' does not take images: its inputs are {}, but it needs one required input, FP32 \
                     [3,224,224] or UINT8 [224,224,3]",
                    spec.name(),
                    inputs.join(", ")
                ),
            )
        })
    }

    /// The element type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Tensor => DataType::Fp32,
            Self::Pixels => DataType::Uint8,
        }
    }

    fn dims(self) -> [usize; 3] {
        match self {
            Self::Tensor => [3, SIDE, SIDE],
            Self::Pixels => [SIDE, SIDE, 3],
        }
    }

    /// The shape of a batch of `images`, without the batch dimension for a model that does not batch.
    pub fn shape(self, images: usize, batches: bool) -> Shape {
        Shape::new(batches.then_some(images).into_iter().chain(self.dims()).collect::<Vec<_>>())
    }

    /// Bytes of one image.
    pub fn image_bytes(self) -> usize {
        ELEMENTS * self.data_type().size().unwrap_or(1)
    }

    /// Decodes and preprocesses an encoded image into `out`, of [`Self::image_bytes`].
    pub fn prepare(self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        match self {
            // The pool's buffers are aligned, and so are rows of this size in them.
            Self::Tensor => to_tensor(encoded, max_pixels, bytemuck::cast_slice_mut(out)),
            Self::Pixels => to_pixels(encoded, max_pixels, out),
        }
    }

    /// The preprocessing of an image, for `/model-info`.
    pub fn description(self) -> &'static str {
        match self {
            Self::Tensor => {
                "RGB, shorter side resized to 256, centre 224x224, scaled to 0..1, ImageNet mean and deviation"
            }
            Self::Pixels => "RGB, shorter side resized to 256, centre 224x224",
        }
    }
}
