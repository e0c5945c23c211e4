//! Checks that a graph's replays give the same outputs as plain runs.

use anyhow::{Context as _, ensure};
use quintet_engine::{BufferPool, DataType, Shape, Tensor};

/// Largest difference between the numbers of a replay and of a plain run, as a fraction of the largest number.
const TOLERANCE: f64 = 1e-3;

/// Checks that replays give the `expected` outputs for the probes. The first replay records.
pub(super) fn check(
    probes: &[Vec<Tensor>; 2],
    expected: &[Vec<Tensor>; 2],
    mut replay: impl FnMut(&[Tensor]) -> anyhow::Result<Vec<Option<Tensor>>>,
) -> anyhow::Result<()> {
    let [first, second] = expected;
    let is_blind = first.iter().zip(second).all(|(a, b)| alike(a, b));
    ensure!(!is_blind, "the model gives equal outputs for both probes, so a replay cannot be checked");
    for (probe, expected) in [0, 1, 0].map(|index| (&probes[index], &expected[index])) {
        let answers = replay(probe)?;
        let is_alike =
            |(answer, expected): (&Option<Tensor>, _)| answer.as_ref().is_some_and(|tensor| alike(tensor, expected));
        ensure!(answers.iter().zip(expected).all(is_alike), "the outputs of a replay differ from those of a run");
    }
    Ok(())
}

/// A tensor of zeros, or with a 1 at every third element. Both are valid as numbers and as indices for every model.
pub(super) fn probe(data_type: DataType, shape: &Shape, is_marked: bool) -> anyhow::Result<Tensor> {
    let size = data_type.size().context("BYTES have no fixed size")?;
    let mut mark = vec![0; size];
    match data_type {
        DataType::Fp64 => mark.copy_from_slice(&1f64.to_le_bytes()),
        DataType::Fp32 => mark.copy_from_slice(&1f32.to_le_bytes()),
        DataType::Fp16 => mark.copy_from_slice(&half::f16::ONE.to_le_bytes()),
        DataType::Bf16 => mark.copy_from_slice(&half::bf16::ONE.to_le_bytes()),
        _ => mark.iter_mut().take(1).for_each(|byte| *byte = 1),
    }
    let bytes = shape.elements().and_then(|count| count.checked_mul(size)).context("its shape is too large")?;
    // Aligned, as the tensors of requests are.
    let mut buffer = BufferPool::new(0).take(bytes);
    buffer.fill(0);
    if is_marked {
        buffer.chunks_exact_mut(size).step_by(3).for_each(|element| element.copy_from_slice(&mark));
    }
    Ok(Tensor::new(data_type, shape.clone(), buffer.freeze())?)
}

/// Whether two outputs are equal except for rounding.
fn alike(a: &Tensor, b: &Tensor) -> bool {
    if (a.data_type(), a.shape()) != (b.data_type(), b.shape()) {
        return false;
    }
    a.data() == b.data()
        || match (numbers(a), numbers(b)) {
            (Some(a), Some(b)) => {
                let largest = a.iter().fold(0f64, |largest, number| largest.max(number.abs()));
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= TOLERANCE * largest)
            }
            _ => false,
        }
}

/// The numbers of a tensor of floats.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    if tensor.data_type().is_float() { tensor.data_type().numbers(tensor.data()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::onnx::graphs::tests::numbers_from;

    #[test]
    fn finds_replays_with_different_outputs() {
        let tensors = |start: f32| vec![numbers_from(start, 4)];
        let probes = [tensors(0.0), tensors(1.0)];
        let expected = [tensors(10.0), tensors(20.0)];
        let checked = |answer: &dyn Fn(usize) -> Vec<Tensor>| {
            let replay = |probe: &[Tensor]| answer(usize::from(*probe == probes[1])).into_iter().map(Some).collect();
            check(&probes, &expected, |probe| Ok(replay(probe))).map_err(|error| error.to_string())
        };
        let differs = Err("the outputs of a replay differ from those of a run".to_owned());
        assert_eq!(checked(&|index| expected[index].clone()), Ok(()));
        assert_eq!(checked(&|index| tensors([10.0, 20.1][index])), differs);
        assert_eq!(checked(&|_| expected[0].clone()), differs, "it reads the inputs of the recording");
        assert_eq!(checked(&|index| tensors([10.001, 20.001][index])), Ok(()), "rounding");
        let same = check(&probes, &[tensors(10.0), tensors(10.0)], |_| Ok(vec![Some(numbers_from(10.0, 4))]));
        assert_eq!(
            same.unwrap_err().to_string(),
            "the model gives equal outputs for both probes, so a replay cannot be checked"
        );
    }
}
