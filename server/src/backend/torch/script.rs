//! A TorchScript network: maps inputs to arguments, and results to outputs.

use std::path::Path;

use quintet_engine::{OutputSet, TensorSpec};
use tch::{CModule, Device, IValue, TchError, Tensor as Torch};

use super::error::{TorchError, first_line};

/// A module whose `forward` takes tensors and returns one tensor, or a tuple or list of tensors.
pub(super) struct Script {
    module: CModule,
    /// For each argument, the index of the input.
    arguments: Vec<usize>,
    /// For each output, the index of the result.
    results: Vec<usize>,
}

impl Script {
    /// # Errors
    /// When the file is not TorchScript.
    pub(super) fn load(
        path: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        device: Device,
    ) -> Result<Self, TorchError> {
        let read = |error: TchError| TorchError::Read {
            path: path.display().to_string(),
            reason: format!("it is not a TorchScript file: {}", first_line(&error)),
        };
        let mut module = CModule::load_on_device(path, device).map_err(read)?;
        module.f_set_eval().map_err(read)?;
        let order = indices(inputs);
        let mut arguments: Vec<_> = (0..inputs.len()).collect();
        arguments.sort_by_key(|&input| order[input]);
        Ok(Self { module, arguments, results: indices(outputs) })
    }

    pub(super) fn forward(&self, inputs: &[Torch], wanted: OutputSet) -> Result<Vec<Option<Torch>>, TchError> {
        let arguments = self.arguments.iter().filter_map(|&input| inputs.get(input));
        let arguments: Vec<_> = arguments.map(|input| IValue::Tensor(input.shallow_clone())).collect();
        let results = tensors(self.module.forward_is(&arguments)?)?;
        let outputs = self.results.iter().enumerate().map(|(index, &result)| {
            if !wanted.contains(index) {
                return Ok(None);
            }
            let missing =
                || TchError::Torch(format!("the model gives {} results, but result {result} is needed", results.len()));
            results.get(result).map(|tensor| Some(tensor.shallow_clone())).ok_or_else(missing)
        });
        outputs.collect()
    }
}

fn tensors(value: IValue) -> Result<Vec<Torch>, TchError> {
    let unsupported = |value: &IValue| {
        let kind = format!("{value:?}");
        let kind = kind.split(['(', '{', ' ']).next().unwrap_or_default();
        TchError::Torch(format!(
            "the model gives a {kind}, but only tensors and tuples or lists of tensors are supported"
        ))
    };
    match value {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::TensorList(tensors) => Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            let tensor = |value| match value {
                IValue::Tensor(tensor) => Ok(tensor),
                other => Err(unsupported(&other)),
            };
            values.into_iter().map(tensor).collect()
        }
        other => Err(unsupported(&other)),
    }
}

/// The index of each tensor among the arguments or results: the number after the last two underscores, as in
/// `INPUT__0`, if all names have distinct numbers; otherwise the order in the list.
fn indices(tensors: &[TensorSpec]) -> Vec<usize> {
    let number = |tensor: &TensorSpec| tensor.name.rsplit_once("__")?.1.parse::<usize>().ok();
    let numbers: Option<Vec<_>> = tensors.iter().map(number).collect();
    let listed = || (0..tensors.len()).collect();
    let Some(numbers) = numbers else { return listed() };
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() == numbers.len() { numbers } else { listed() }
}

#[cfg(test)]
mod tests {
    use quintet_engine::DataType;

    use super::*;

    #[test]
    fn takes_indices_from_names_or_from_the_order() {
        let of_names = |names: &[&str]| {
            let tensors: Vec<_> = names.iter().map(|name| TensorSpec::new(*name, DataType::Fp32, [])).collect();
            indices(&tensors)
        };
        assert_eq!(of_names(&["INPUT__1", "INPUT__0"]), [1, 0]);
        assert_eq!(of_names(&["a__2"]), [2]);
        assert_eq!(of_names(&["INPUT__1", "mask"]), [0, 1]);
        assert_eq!(of_names(&["a__0", "b__0"]), [0, 1]);
        assert_eq!(of_names(&["logits", "embedding"]), [0, 1]);
    }
}
