//! The built-in backend `image`: encoded images to the input tensor of a ResNet.

use quintet_engine::{
    BufferPool, DataType, ErrorKind, InferError, Instance, Placement, RunRequest, RunTimings, Shape, Tensor, TensorSpec,
};
use quintet_preprocess::{ELEMENTS, ImageError, SIDE};
use quintet_proto::elements;

/// The backend's name in `config.pbtxt`.
pub const NAME: &str = "image";

/// Decodes and prepares images: BYTES `[-1, 1]` (JPEG, PNG or WebP) to FP32 `[-1, 3, 224, 224]`.
pub struct Images {
    max_pixels: u64,
    pool: BufferPool,
}

impl Images {
    /// A backend for images of at most `max_pixels`.
    pub fn new(max_pixels: u64, pool: BufferPool) -> Self {
        Self { max_pixels, pool }
    }

    /// Its input and its output with these names, with the batch dimension.
    pub fn tensors(input: &str, output: &str) -> (TensorSpec, TensorSpec) {
        let pixels = [None, Some(3), Some(SIDE), Some(SIDE)];
        (TensorSpec::new(input, DataType::Bytes, [None, Some(1)]), TensorSpec::new(output, DataType::Fp32, pixels))
    }
}

impl Instance for Images {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = std::time::Instant::now();
        let images = request.inputs.iter().flatten().next();
        let images = images.ok_or_else(|| InferError::internal("the image backend got no input"))?;
        let count = images.shape().elements().unwrap_or(0);
        let mut buffer = self.pool.take(count * ELEMENTS * size_of::<f32>());
        let pixels: &mut [f32] = bytemuck::try_cast_slice_mut(&mut buffer).map_err(InferError::internal)?;
        for (index, (image, target)) in elements::iter(images.data()).zip(pixels.chunks_exact_mut(ELEMENTS)).enumerate()
        {
            if request.cancel.is_cancelled() {
                return Err(InferError::Cancelled);
            }
            let image = image.map_err(|error| InferError::invalid(format_args!("image {index}: {error}")))?;
            quintet_preprocess::to_tensor(image, self.max_pixels, target).map_err(|error| {
                let kind = match error {
                    ImageError::TooManyPixels { .. } => ErrorKind::TooLarge,
                    _ => ErrorKind::InvalidInput,
                };
                InferError::new(kind, format_args!("image {index}: {error}"))
            })?;
        }
        let tensor = Tensor::new(DataType::Fp32, Shape::new([count, 3, SIDE, SIDE]), buffer.freeze());
        timings.infer = started.elapsed();
        Ok(vec![Some(tensor.map_err(InferError::internal)?)])
    }

    fn placement(&self) -> Placement {
        Placement { provider: NAME.to_owned(), nodes: Vec::new(), device: None, reason: None, precision: None }
    }
}

#[cfg(test)]
mod tests {
    use quintet_engine::{Cancel, OutputSet};

    use super::*;

    fn run(images: &[&[u8]], max_pixels: u64) -> Result<Tensor, InferError> {
        let images = Tensor::new(DataType::Bytes, Shape::new([images.len(), 1]), elements::encode(images)).unwrap();
        let mut backend = Images::new(max_pixels, BufferPool::new(0));
        let cancel = Cancel::new(1);
        let inputs = &[Some(images)];
        let request = RunRequest { inputs, outputs: OutputSet::all(1), placements: &[], cancel: &cancel };
        let outputs = backend.run(request, &mut RunTimings::default())?;
        Ok(outputs[0].clone().unwrap())
    }

    #[test]
    fn prepares_images_and_names_bad_ones() {
        let photo = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../photos/coffee-224.jpg")).unwrap();
        let mut wanted = vec![0.0f32; ELEMENTS];
        quintet_preprocess::to_tensor(&photo, u64::MAX, &mut wanted).unwrap();
        let tensor = run(&[&photo, &photo], u64::MAX).unwrap();
        assert_eq!(tensor.shape().dims(), [2, 3, SIDE, SIDE]);
        assert_eq!(tensor.data()[ELEMENTS * 4..], *bytemuck::cast_slice::<f32, u8>(&wanted));
        let error = run(&[&photo, b"no image"], u64::MAX).unwrap_err();
        assert!(error.to_string().starts_with("image 1: not a JPEG, PNG or WebP image"), "{error}");
        assert_eq!(run(&[&photo], 100).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
