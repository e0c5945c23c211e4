//! Runs a model in ONNX Runtime and compares its outputs with reference outputs.

use std::path::{Path, PathBuf};

use ort::{
    environment::Environment,
    session::Session,
    value::{DynValue, Tensor, TensorElementType, ValueType},
};

use crate::{
    arch::Arch,
    graph::IMAGE,
    reference::{Input, REFERENCE_SEED, Reference, ReferenceError},
    repository::MODEL_FILE,
    session::open,
    variant::Variant,
};

/// The largest difference found in one output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// `logits` or `embedding`.
    pub(crate) output: &'static str,
    /// The largest absolute difference; infinite if an output is NaN.
    pub(crate) max_abs_error: f32,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// The format of the model's input.
    pub(crate) variant: Variant,
    /// The number of images, which are one batch.
    pub(crate) images: usize,
    /// One for each output of the reference.
    pub(crate) differences: Vec<Difference>,
}

/// Why a model could not be compared.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum VerifyError {
    #[error("there is no model at {}", .0.display())]
    NotFound(PathBuf),
    #[error("{}: {source}", path.display())]
    Runtime { path: PathBuf, source: ort::Error },
    #[error(
        "`{0}` is not a ResNet of this family: names are resnet18|34|50|101|152, then nothing, _fp16, _u8 or _int8"
    )]
    Name(String),
    #[error("{}: {reason}", path.display())]
    Model { path: PathBuf, reason: String },
    #[error(
        "the model's weights are from {weights}, but the built-in reference is for {REFERENCE_SEED}: give --reference"
    )]
    NoReference { weights: String },
    #[error("{}: {source}", path.display())]
    Reference { path: PathBuf, source: ReferenceError },
}

/// Compares model `name` of the repository `root` with the outputs in the file `reference`, or by default with
/// torchvision's outputs for [`REFERENCE_SEED`].
pub(crate) fn verify(
    environment: &Environment,
    root: &Path,
    name: &str,
    reference: Option<&Path>,
) -> Result<Comparison, VerifyError> {
    let (arch, variant) = Arch::ALL
        .into_iter()
        .flat_map(|arch| Variant::ALL.map(|variant| (arch, variant)))
        .find(|(arch, variant)| format!("{arch}{}", variant.suffix()) == name)
        .ok_or_else(|| VerifyError::Name(name.into()))?;
    let path = root.join(name).join(MODEL_FILE);
    if !path.is_file() {
        return Err(VerifyError::NotFound(path));
    }
    let runtime_error = |source| VerifyError::Runtime { path: path.clone(), source };
    let mut session = open(environment, &path).map_err(runtime_error)?;
    check_input(&session, variant).map_err(|reason| VerifyError::Model { path: path.clone(), reason })?;

    let reference_path = reference.unwrap_or(Path::new("the reference outputs of torchvision"));
    let reference = match reference {
        Some(path) => Reference::read(arch, path),
        None => {
            let weights = weights_source(&session).map_err(runtime_error)?;
            if weights != REFERENCE_SEED {
                return Err(VerifyError::NoReference { weights });
            }
            Reference::torchvision(arch)
        }
    };
    let reference_error = |source| VerifyError::Reference { path: reference_path.into(), source };
    let reference = reference.map_err(reference_error)?;
    let input = reference.input(variant).map_err(reference_error)?;
    let differences = compare(&mut session, variant, input, &reference).map_err(runtime_error)?;
    Ok(Comparison { variant, images: reference.count, differences })
}

fn weights_source(session: &Session) -> ort::Result<String> {
    let source = session.metadata()?.custom(quintet_onnxruntime::WEIGHTS_KEY);
    Ok(source.unwrap_or_else(|| "an unknown source".into()))
}

fn check_input(session: &Session, variant: Variant) -> Result<(), String> {
    let expected = match variant {
        Variant::Fp32 | Variant::Int8 => TensorElementType::Float32,
        Variant::Fp16 => TensorElementType::Float16,
        Variant::U8 => TensorElementType::Uint8,
    };
    let found = session.inputs().iter().find(|input| input.name() == IMAGE);
    match found.map(|input| input.dtype()) {
        Some(ValueType::Tensor { ty, .. }) if *ty == expected => Ok(()),
        Some(other) => Err(format!("`{IMAGE}` is {other}, expected {expected}")),
        None => Err(format!("there is no input `{IMAGE}`")),
    }
}

fn compare(
    session: &mut Session,
    variant: Variant,
    input: Input,
    reference: &Reference,
) -> ort::Result<Vec<Difference>> {
    let [a, b, c] = variant.dims();
    let shape = [reference.count, a, b, c];
    let image: DynValue = match input {
        Input::Fp32(values) => Tensor::from_array((shape, values))?.into_dyn(),
        Input::Fp16(values) => Tensor::from_array((shape, values))?.into_dyn(),
        Input::U8(values) => Tensor::from_array((shape, values))?.into_dyn(),
    };
    let outputs = session.run(ort::inputs![IMAGE => image])?;
    reference
        .outputs
        .iter()
        .map(|&(output, ref expected)| {
            let (_, found) = match outputs.get(output) {
                Some(value) => value.try_extract_tensor::<f32>()?,
                None => return Err(ort::Error::new(format!("there is no output `{output}`"))),
            };
            Ok(Difference { output, max_abs_error: max_abs_error(expected, found) })
        })
        .collect()
}

/// The largest absolute difference; infinite if the lengths differ or a value is NaN.
fn max_abs_error(expected: &[f32], found: &[f32]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |max, difference| if difference.is_nan() { f32::INFINITY } else { max.max(difference) })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use quintet_onnxruntime::ThreadPool;

    use super::*;
    use crate::{
        graph::{Graph, LOGITS},
        reference::synthetic,
        weights::Weights,
    };

    #[test]
    fn nan_and_wrong_lengths_are_an_infinite_error() {
        assert_eq!(max_abs_error(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
        assert_eq!(max_abs_error(&[1.0, 2.0], &[f32::NAN, 2.0]), f32::INFINITY);
        assert_eq!(max_abs_error(&[1.0, 2.0], &[1.0]), f32::INFINITY);
    }

    /// Pearson's correlation.
    fn correlation(a: &[f32], b: &[f32]) -> f32 {
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let (mean_a, mean_b) = (mean(a), mean(b));
        let sum = |f: &dyn Fn(f32, f32) -> f32| a.iter().zip(b).map(|(x, y)| f(x - mean_a, y - mean_b)).sum::<f32>();
        sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
    }

    #[test]
    fn seeded_resnet152_gives_different_outputs_for_different_images() {
        const IMAGES: usize = 4;
        let graph = Graph::new(&Weights::from_seed(Arch::ResNet152, 7)).unwrap();
        let model = graph.model(Variant::U8).unwrap().encode_to_vec();
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 2, spin: false }).unwrap();
        let mut session = Session::builder(&library.environment).unwrap().commit_from_memory(&model).unwrap();
        let pixels: Vec<u8> = (0..IMAGES).flat_map(synthetic).collect();
        let image = Tensor::from_array(([IMAGES, 224, 224, 3], pixels)).unwrap();
        let outputs = session.run(ort::inputs![IMAGE => image]).unwrap();
        let (_, logits) = outputs[LOGITS].try_extract_tensor::<f32>().unwrap();

        assert!(logits.iter().all(|logit| logit.is_finite()));
        let rows: Vec<_> = logits.chunks(1000).collect();
        for (i, a) in rows.iter().enumerate() {
            let largest = a.iter().fold(0.0_f32, |max, logit| max.max(logit.abs()));
            assert!((0.5..20.0).contains(&largest), "image {i}: the largest logit is {largest}");
            for (j, b) in rows.iter().enumerate().skip(i + 1) {
                let correlation = correlation(a, b);
                assert!(correlation < 0.9, "the logits of images {i} and {j} correlate: {correlation}");
            }
        }
        let best = |row: &&[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let classes: std::collections::HashSet<_> = rows.iter().map(best).collect();
        assert!(classes.len() > 1, "all images have class {classes:?}");
    }
}
