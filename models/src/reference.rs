//! Reference images, and the outputs that a model should give for them.

use std::{fs, path::Path};

use half::f16;
use safetensors::{Dtype, SafeTensors};

use crate::{
    arch::{Arch, CLASSES, IMAGE_SIDE},
    graph::{EMBEDDING, IMAGE, LOGITS},
    variant::{MEAN, STD, Variant},
};

/// The weights for which this crate holds PyTorch's outputs.
pub(crate) const REFERENCE_SEED: &str = "seed 0";

const PIXELS: usize = IMAGE_SIDE * IMAGE_SIDE;

/// Images and the expected outputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    /// The number of images.
    pub(crate) count: usize,
    images: Images,
    /// For each output its name and its values for all images, row-major.
    pub(crate) outputs: Vec<(&'static str, Vec<f32>)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Images {
    /// `[N,224,224,3]`
    Pixels(Vec<u8>),
    /// `[N,3,224,224]`, scaled and normalised.
    Normalised(Vec<f32>),
}

/// Images in the input format of a variant.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub(crate) enum Input {
    Fp32(Vec<f32>),
    Fp16(Vec<f16>),
    U8(Vec<u8>),
}

/// Why a reference file cannot be used for a model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum ReferenceError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not a usable safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    #[error("`{name}` is {dtype:?} {shape:?}, expected {expected}")]
    Tensor { name: &'static str, dtype: Dtype, shape: Vec<usize>, expected: String },
    #[error("it has neither `logits` nor `embedding`")]
    Empty,
    #[error("its images are normalised, but the model's input is pixels: give `image` as U8 [N,224,224,3]")]
    Normalised,
}

impl Reference {
    /// Reads a `.safetensors` file with `logits` F32 `[N,1000]` or `embedding` F32 `[N,512|2048]` or both, and
    /// `image` as U8 `[N,224,224,3]` pixels or F32 `[N,3,224,224]` normalised. Without `image` the outputs must
    /// be those for the [`synthetic`] images.
    pub(crate) fn read(arch: Arch, path: &Path) -> Result<Self, ReferenceError> {
        Self::parse(arch, &fs::read(path)?)
    }

    /// The outputs of torchvision's ResNet with the weights of [`REFERENCE_SEED`], made by `reference/make.py`.
    pub(crate) fn torchvision(arch: Arch) -> Result<Self, ReferenceError> {
        let bytes: &[u8] = match arch {
            Arch::ResNet18 => include_bytes!("../reference/resnet18.safetensors"),
            Arch::ResNet34 => include_bytes!("../reference/resnet34.safetensors"),
            Arch::ResNet50 => include_bytes!("../reference/resnet50.safetensors"),
            Arch::ResNet101 => include_bytes!("../reference/resnet101.safetensors"),
            Arch::ResNet152 => include_bytes!("../reference/resnet152.safetensors"),
        };
        Self::parse(arch, bytes)
    }

    fn parse(arch: Arch, bytes: &[u8]) -> Result<Self, ReferenceError> {
        let file = SafeTensors::deserialize(bytes)?;
        let mut outputs = Vec::new();
        let mut count = None;
        for (name, len) in [(LOGITS, CLASSES), (EMBEDDING, arch.embedding_len())] {
            let Ok(view) = file.tensor(name) else {
                continue;
            };
            let rows = view.shape().first().copied().unwrap_or_default();
            let rows = *count.get_or_insert(rows);
            if view.dtype() != Dtype::F32 || view.shape() != [rows, len] || rows == 0 {
                return Err(ReferenceError::Tensor {
                    name,
                    dtype: view.dtype(),
                    shape: view.shape().into(),
                    expected: format!("F32 [{}, {len}]", rows.max(1)),
                });
            }
            outputs.push((name, floats(view.data())));
        }
        let count = count.ok_or(ReferenceError::Empty)?;
        let images = match file.tensor(IMAGE) {
            Err(_) => Images::Pixels((0..count).flat_map(synthetic).collect()),
            Ok(view) => match (view.dtype(), view.shape()) {
                (Dtype::U8, shape) if shape == [count, IMAGE_SIDE, IMAGE_SIDE, 3] => Images::Pixels(view.data().into()),
                (Dtype::F32, shape) if shape == [count, 3, IMAGE_SIDE, IMAGE_SIDE] => {
                    Images::Normalised(floats(view.data()))
                }
                (dtype, shape) => {
                    return Err(ReferenceError::Tensor {
                        name: IMAGE,
                        dtype,
                        shape: shape.into(),
                        expected: format!("U8 [{count}, 224, 224, 3] or F32 [{count}, 3, 224, 224]"),
                    });
                }
            },
        };
        Ok(Self { count, images, outputs })
    }

    /// The images in the input format of `variant`.
    ///
    /// # Errors
    /// When the variant's input is pixels and the images are normalised.
    pub(crate) fn input(&self, variant: Variant) -> Result<Input, ReferenceError> {
        let normalised = || match &self.images {
            Images::Normalised(values) => values.clone(),
            Images::Pixels(pixels) => pixels.chunks(3 * PIXELS).flat_map(normalise).collect(),
        };
        Ok(match (variant, &self.images) {
            (Variant::Fp32 | Variant::Int8, _) => Input::Fp32(normalised()),
            (Variant::Fp16, _) => Input::Fp16(normalised().into_iter().map(f16::from_f32).collect()),
            (Variant::U8, Images::Pixels(pixels)) => Input::U8(pixels.clone()),
            (Variant::U8, Images::Normalised(_)) => return Err(ReferenceError::Normalised),
        })
    }
}

/// Test image `index`, `[224,224,3]`: triangle waves with a different direction, wavelength and colour in each image.
/// With t = x(3 + 2 index) + y(5 + index) + c(61 + 40 index), a pixel is |t mod 511 - 255|.
pub(crate) fn synthetic(index: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(3 * PIXELS);
    for y in 0..IMAGE_SIDE {
        for x in 0..IMAGE_SIDE {
            for channel in 0..3 {
                let t = x * (3 + 2 * index) + y * (5 + index) + channel * (61 + 40 * index);
                pixels.push((t % 511).abs_diff(255) as u8);
            }
        }
    }
    pixels
}

/// Converts `[224,224,3]` pixels to `[3,224,224]`: `(pixel / 255 - mean) / std`.
pub(crate) fn normalise(pixels: &[u8]) -> Vec<f32> {
    (0..3)
        .flat_map(|channel| {
            pixels
                .iter()
                .skip(channel)
                .step_by(3)
                .map(move |&pixel| (f32::from(pixel) / 255.0 - MEAN[channel]) / STD[channel])
        })
        .collect()
}

fn floats(data: &[u8]) -> Vec<f32> {
    let (chunks, _) = data.as_chunks();
    chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    type NamedTensor<'a> = (&'static str, Dtype, &'a [usize], &'a [u8]);

    fn parse(tensors: &[NamedTensor<'_>]) -> Result<Reference, ReferenceError> {
        let views = tensors
            .iter()
            .map(|&(name, dtype, shape, data)| (name, TensorView::new(dtype, shape.into(), data).unwrap()));
        Reference::parse(Arch::ResNet18, &safetensors::serialize(views, None).unwrap())
    }

    #[test]
    fn every_depth_has_reference_outputs() {
        for arch in Arch::ALL {
            let reference = Reference::torchvision(arch).unwrap();
            assert_eq!(reference.count, 3);
            let outputs: Vec<_> = reference.outputs.iter().map(|(name, values)| (*name, values.len())).collect();
            assert_eq!(outputs, [("logits", 3000), ("embedding", 3 * arch.embedding_len())]);
        }
    }

    #[test]
    fn pixels_and_normalised_images_give_the_same_input() {
        let logits = vec![0; 4000];
        let outputs: NamedTensor<'_> = ("logits", Dtype::F32, &[1, 1000], &logits);
        let pixels = synthetic(3);
        let normalised: Vec<u8> = normalise(&pixels).iter().flat_map(|value| value.to_le_bytes()).collect();
        let from_pixels = parse(&[outputs, ("image", Dtype::U8, &[1, 224, 224, 3], &pixels)]).unwrap();
        let from_floats = parse(&[outputs, ("image", Dtype::F32, &[1, 3, 224, 224], &normalised)]).unwrap();
        for variant in [Variant::Fp32, Variant::Fp16] {
            assert_eq!(from_pixels.input(variant).unwrap(), from_floats.input(variant).unwrap());
        }
        assert_eq!(from_pixels.input(Variant::U8).unwrap(), Input::U8(pixels));
        assert!(matches!(from_floats.input(Variant::U8), Err(ReferenceError::Normalised)));
    }

    #[test]
    fn normalises_each_channel() {
        let mut pixels = vec![0; 3 * PIXELS];
        pixels[..3].copy_from_slice(&[255, 0, 51]);
        let values = normalise(&pixels);
        let first: Vec<f32> = values.iter().copied().step_by(PIXELS).collect();
        assert_eq!(first, [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]);
    }

    #[test]
    fn rejects_files_with_missing_or_wrong_tensors() {
        let data = vec![0; 8000];
        let message = |tensors: &[NamedTensor<'_>]| parse(tensors).unwrap_err().to_string();
        assert!(message(&[]).contains("neither `logits` nor `embedding`"));
        let short = message(&[("embedding", Dtype::F32, &[1, 1000], &data[..4000])]);
        assert_eq!(short, "`embedding` is F32 [1, 1000], expected F32 [1, 512]");
        let logits: NamedTensor<'_> = ("logits", Dtype::F32, &[2, 1000], &data);
        let image = message(&[logits, ("image", Dtype::U8, &[1, 10], &data[..10])]);
        assert_eq!(image, "`image` is U8 [1, 10], expected U8 [2, 224, 224, 3] or F32 [2, 3, 224, 224]");
    }
}
