//! Reads and writes `.safetensors` files with torchvision's names.

use std::{collections::BTreeMap, fs, path::Path};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest as _, Sha256};

use super::{Weights, WeightsError};
use crate::{arch::Arch, atomic, hex::hex};

impl Weights {
    /// Reads a file that holds exactly the tensors of `arch` as F32, F16 or BF16.
    ///
    /// `num_batches_tracked`, a counter of PyTorch's training, is ignored.
    ///
    /// # Errors
    /// When the file cannot be read, or a tensor is missing, unknown, or of the wrong type or shape; the error names
    /// it.
    pub fn from_safetensors(arch: Arch, path: &Path) -> Result<Self, WeightsError> {
        let bytes = fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Format { path: path.into(), source })?;
        let mut found: BTreeMap<&str, TensorView<'_>> =
            file.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();

        let mut tensors = BTreeMap::new();
        let mut problems = Vec::new();
        for spec in arch.network().tensors() {
            let name = spec.name;
            match found.remove(name.as_str()) {
                None => problems.push(format!("`{name}` {:?} is missing", spec.shape)),
                Some(view) if view.shape() != spec.shape => {
                    problems.push(format!("`{name}` has shape {:?}, expected {:?}", view.shape(), spec.shape))
                }
                Some(view) => match floats(&view) {
                    Ok(values) => drop(tensors.insert(name, values)),
                    Err(reason) => problems.push(format!("`{name}` {reason}")),
                },
            }
        }
        problems.extend(
            found
                .iter()
                .map(|(name, view)| format!("`{name}` {:?} is unknown: {arch} has no such tensor", view.shape())),
        );
        if !problems.is_empty() {
            return Err(WeightsError::Tensors { arch, problems });
        }
        Ok(Self { arch, source: format!("sha256:{}", hex(&Sha256::digest(&bytes))), tensors })
    }

    /// Writes the weights as F32, so that PyTorch or libtorch can run the same model.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let specs = self.arch.network().tensors();
        let raw = specs
            .iter()
            .map(|spec| {
                let values = self.tensor(&spec.name)?;
                Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect::<Result<Vec<Vec<u8>>, WeightsError>>()?;
        let format = |source| WeightsError::Format { path: path.into(), source };
        let views = specs
            .iter()
            .zip(&raw)
            .map(|(spec, bytes)| {
                let view = TensorView::new(Dtype::F32, spec.shape.clone(), bytes)?;
                Ok((spec.name.as_str(), view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(format)?;
        let bytes = safetensors::serialize(views, None).map_err(format)?;
        atomic::write(path, &bytes).map_err(|source| WeightsError::Io { path: path.into(), source })
    }
}

/// The elements as FP32, or the reason why they cannot be used.
fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => elements(data, f32::from_le_bytes),
        Dtype::F16 => elements(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => elements(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("has type {other:?}, expected F32, F16 or BF16")),
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("holds {value}")),
        None => Ok(values),
    }
}

fn elements<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = data.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the tensors of ResNet-18, changed by `edit`.
    fn file_with(
        edit: impl FnOnce(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>),
    ) -> (tempfile::TempDir, std::path::PathBuf) {
        let weights = Weights::from_seed(Arch::ResNet18, 0);
        let mut tensors = BTreeMap::new();
        for spec in Arch::ResNet18.network().tensors() {
            let values = weights.tensor(&spec.name).unwrap();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            tensors.insert(spec.name, (Dtype::F32, spec.shape, bytes));
        }
        edit(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes.as_slice()).unwrap())
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        (dir, path)
    }

    fn error_of(edit: impl FnOnce(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> String {
        let (_dir, path) = file_with(edit);
        Weights::from_safetensors(Arch::ResNet18, &path).unwrap_err().to_string()
    }

    #[test]
    fn reads_back_a_saved_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let weights = Weights::from_seed(Arch::ResNet18, 3);
        weights.save(&path).unwrap();
        let read = Weights::from_safetensors(Arch::ResNet18, &path).unwrap();
        assert_eq!(read.tensors, weights.tensors);
        assert!(read.source().starts_with("sha256:"), "{}", read.source());
    }

    #[test]
    fn reads_half_precision_and_ignores_batch_counters() {
        let (_dir, path) = file_with(|tensors| {
            let mean = tensors.get_mut("bn1.running_mean").unwrap();
            *mean = (Dtype::F16, vec![64], f16::from_f32(0.5).to_le_bytes().repeat(64));
            let shift = tensors.get_mut("bn1.bias").unwrap();
            *shift = (Dtype::BF16, vec![64], bf16::from_f32(-2.0).to_le_bytes().repeat(64));
            let counter = (Dtype::I64, vec![], 7_i64.to_le_bytes().to_vec());
            tensors.insert("bn1.num_batches_tracked".into(), counter);
        });
        let weights = Weights::from_safetensors(Arch::ResNet18, &path).unwrap();
        assert_eq!(weights.tensor("bn1.running_mean").unwrap(), [0.5; 64]);
        assert_eq!(weights.tensor("bn1.bias").unwrap(), [-2.0; 64]);
    }

    #[test]
    fn errors_name_the_tensor_and_the_shapes() {
        let missing = error_of(|tensors| drop(tensors.remove("fc.bias")));
        assert_eq!(missing, "these are not weights of resnet18: `fc.bias` [1000] is missing");
        let unknown = error_of(|tensors| {
            let tensor = (Dtype::F32, vec![2, 1], vec![0; 8]);
            tensors.insert("head.weight".into(), tensor);
        });
        assert_eq!(
            unknown,
            "these are not weights of resnet18: `head.weight` [2, 1] is unknown: resnet18 has no such tensor"
        );
        let shape = error_of(|tensors| {
            tensors.get_mut("fc.weight").unwrap().1 = vec![512, 1000];
        });
        assert_eq!(shape, "these are not weights of resnet18: `fc.weight` has shape [512, 1000], expected [1000, 512]");
        let dtype = error_of(|tensors| {
            tensors.get_mut("bn1.bias").unwrap().0 = Dtype::I32;
        });
        assert!(dtype.contains("`bn1.bias` has type I32"), "{dtype}");
        let infinite = error_of(|tensors| {
            tensors.get_mut("bn1.bias").unwrap().2 = f32::INFINITY.to_le_bytes().repeat(64);
        });
        assert!(infinite.contains("`bn1.bias` holds inf"), "{infinite}");
    }

    #[test]
    fn weights_of_another_depth_give_a_short_error() {
        let (_dir, path) = file_with(|_| ());
        let message = Weights::from_safetensors(Arch::ResNet50, &path).unwrap_err().to_string();
        assert!(message.starts_with("these are not weights of resnet50: `layer1.0.conv1.weight` has shape [64, 64, 3, 3], expected [64, 64, 1, 1]; "), "{message}");
        assert!(message.ends_with(" more"), "{message}");
    }

    #[test]
    fn rejects_missing_files_and_other_formats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.pth");
        let missing = Weights::from_safetensors(Arch::ResNet18, &path).unwrap_err();
        assert!(matches!(missing, WeightsError::Io { .. }));
        fs::write(&path, "not a tensor in sight").unwrap();
        let other = Weights::from_safetensors(Arch::ResNet18, &path).unwrap_err();
        assert!(matches!(other, WeightsError::Format { .. }));
    }
}
