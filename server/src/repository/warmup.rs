//! `model_warmup`: sample requests that a model runs before it is ready.

use std::{fs, path::Path};

use bytes::Bytes;
use quintet_engine::{DataType, ModelSpec, Sample, Shape, Tensor};
use quintet_proto::{
    Float, Integer, Visitor, elements,
    inference::{
        ModelConfig, ModelWarmup,
        model_warmup::{Input, input::InputDataType},
    },
};

use super::error::ConfigError;

/// Maximum bytes of one warm-up tensor.
const MAX_BYTES: usize = 1 << 30;

/// The folder of data files in a model's folder.
pub(super) const WARMUP_FOLDER: &str = "warmup";

/// The warm-up requests of a configuration; data files are in [`WARMUP_FOLDER`] of `folder`.
///
/// # Errors
/// When a sample does not fit the model, or a file cannot be read.
pub(super) fn samples(config: &ModelConfig, spec: &ModelSpec, folder: &Path) -> Result<Vec<Sample>, ConfigError> {
    config.model_warmup.iter().map(|warmup| sample(warmup, spec, folder)).collect()
}

fn sample(warmup: &ModelWarmup, spec: &ModelSpec, folder: &Path) -> Result<Sample, ConfigError> {
    let wrong = |what: String| ConfigError::Contradiction(format!("model_warmup '{}': {what}", warmup.name));
    let max = spec.policy().max_batch_size;
    let rows = warmup.batch_size.max(1) as usize;
    if rows > max.max(1) {
        return Err(wrong(format!("batch_size {rows} is over max_batch_size {max}")));
    }
    if let Some(name) = warmup.inputs.keys().find(|name| spec.inputs().iter().all(|input| input.name != **name)) {
        return Err(wrong(format!("the model has no input '{name}'")));
    }
    let inputs = spec.inputs().iter().map(|input| {
        let given = match warmup.inputs.get(&input.name) {
            None if input.optional => return Ok(None),
            given => given.ok_or_else(|| wrong(format!("input '{}' is missing", input.name)))?,
        };
        if DataType::from_number(given.data_type) != Some(input.data_type) {
            return Err(wrong(format!("input '{}' must be of type {}", input.name, input.data_type)));
        }
        let dims: Option<Vec<_>> = given.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let fits = |dims: &Vec<usize>| {
            dims.len() == input.dims.len() && dims.iter().zip(&input.dims).all(|(&d, want)| want.is_none_or(|w| w == d))
        };
        let dims = dims.filter(fits).ok_or_else(|| {
            wrong(format!("input '{}' has dims {:?}, which do not fit the model", input.name, given.dims))
        })?;
        let shape = Shape::new(spec.batches().then_some(rows).into_iter().chain(dims).collect::<Vec<_>>());
        let tensor = tensor(input.data_type, shape, given, folder);
        tensor.map(Some).map_err(|what| wrong(format!("input '{}': {what}", input.name)))
    });
    Ok(Sample {
        name: format!("model_warmup '{}'", warmup.name),
        inputs: inputs.collect::<Result<_, _>>()?,
        count: warmup.count.max(1) as usize,
    })
}

fn tensor(data_type: DataType, shape: Shape, given: &Input, folder: &Path) -> Result<Tensor, String> {
    let count = shape.elements().ok_or("its shape is too large")?;
    let size = count.checked_mul(data_type.size().unwrap_or(4)).filter(|&bytes| bytes <= MAX_BYTES);
    let bytes = size.ok_or_else(|| format!("it would take over {MAX_BYTES} bytes"))?;
    let data = match &given.input_data_type {
        None | Some(InputDataType::ZeroData(_)) => Bytes::from(vec![0; bytes]),
        Some(InputDataType::RandomData(_)) => data_type.visit(Noise::new(count)),
        Some(InputDataType::InputDataFile(file)) => {
            let path = folder.join(WARMUP_FOLDER).join(file);
            Bytes::from(fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?)
        }
    };
    Tensor::new(data_type, shape, data).map_err(|error| error.to_string())
}

/// Pseudo-random data, the same at each start: booleans are 0 or 1, floats between 0 and 1, strings empty.
struct Noise {
    count: usize,
    state: u64,
}

impl Noise {
    fn new(count: usize) -> Self {
        Self { count, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The next number from 0 to 1, by Marsaglia's xorshift: its quality does not matter here.
    fn unit(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 40) as f32 / (1 << 24) as f32
    }
}

impl Visitor for Noise {
    type Output = Bytes;

    /// Integers are 0: they are mostly indices, and random ones would be out of range.
    fn integer<T: Integer>(self) -> Bytes {
        vec![0; self.count * size_of::<T>()].into()
    }
    fn float<T: Float>(mut self) -> Bytes {
        let noise: Vec<T> = (0..self.count).map(|_| T::from(self.unit()).unwrap_or_else(T::zero)).collect();
        bytemuck::cast_slice(&noise).to_vec().into()
    }
    fn boolean(mut self) -> Bytes {
        (0..self.count).map(|_| u8::from(self.unit() < 0.5)).collect()
    }
    fn bytes(self) -> Bytes {
        elements::encode(vec![b""; self.count])
    }
}

#[cfg(test)]
mod tests {
    use quintet_engine::{BatchPolicy, TensorSpec};

    use super::*;
    use crate::repository::parse_config;

    fn spec() -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None]);
        let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
        let inputs = vec![tensor("x"), TensorSpec { optional: true, ..tensor("more") }];
        ModelSpec::new("m", 1, inputs, vec![tensor("y")], policy).unwrap()
    }

    fn samples_of(warmup: &str, folder: &Path) -> Result<Vec<Sample>, String> {
        let config = parse_config(format!("model_warmup {{ name: \"w\" {warmup} }}"), "m").unwrap();
        samples(&config, &spec(), folder).map_err(|error| error.to_string())
    }

    fn data(sample: &Sample) -> &[u8] {
        sample.inputs[0].as_ref().unwrap().data()
    }

    #[test]
    fn samples_have_zeros_random_data_or_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("warmup")).unwrap();
        fs::write(folder.path().join("warmup/x"), [7; 8]).unwrap();
        let made = |data: &str| {
            let input = format!("inputs {{ key: \"x\" value: {{ data_type: TYPE_FP32 dims: 1 {data} }} }}");
            samples_of(&format!("batch_size: 2 count: 3 {input}"), folder.path()).unwrap()
        };
        let zero = made("zero_data: true");
        assert_eq!((zero[0].count, zero[0].inputs[0].as_ref().unwrap().shape().dims()), (3, &[2, 1][..]));
        assert!(zero[0].inputs[1].is_none(), "an optional input may be left out");
        assert_eq!(data(&zero[0]), [0; 8]);
        assert_ne!(data(&made("random_data: true")[0]), [0; 8]);
        assert_eq!(data(&made("input_data_file: \"x\"")[0]), [7; 8]);
    }

    #[test]
    fn samples_that_do_not_fit_are_named() {
        let refusal = |warmup: &str| samples_of(warmup, Path::new("/nowhere")).unwrap_err();
        let input = |rest: &str| format!("inputs {{ key: \"x\" value: {{ {rest} }} }}");
        assert_eq!(refusal("batch_size: 9"), "model_warmup 'w': batch_size 9 is over max_batch_size 8");
        assert_eq!(refusal(""), "model_warmup 'w': input 'x' is missing");
        assert_eq!(refusal(&input("data_type: TYPE_INT8 dims: 1")), "model_warmup 'w': input 'x' must be of type FP32");
        assert_eq!(
            refusal(&input("data_type: TYPE_FP32 dims: [ 1, 1 ]")),
            "model_warmup 'w': input 'x' has dims [1, 1], which do not fit the model"
        );
        let missing = refusal(&input("data_type: TYPE_FP32 dims: 1 input_data_file: \"f\""));
        assert!(missing.starts_with("model_warmup 'w': input 'x': cannot read /nowhere/warmup/f: "), "{missing}");
    }
}
