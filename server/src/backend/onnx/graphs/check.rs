//! Whether a graph's replays answer as plain runs do.

use anyhow::{Context as _, ensure};
use quintet_engine::{BufferPool, DataType, Shape, Tensor};

/// How far a replay's numbers may be from a run's, as a part of the largest.
const TOLERANCE: f64 = 1e-3;

/// Whether replays answer the probes as runs did. The first of them records.
pub(super) fn check(
    probes: &[Vec<Tensor>; 2],
    expected: &[Vec<Tensor>; 2],
    mut replay: impl FnMut(&[Tensor]) -> anyhow::Result<Vec<Option<Tensor>>>,
) -> anyhow::Result<()> {
    let [first, second] = expected;
    let is_blind = first.iter().zip(second).all(|(a, b)| alike(a, b));
    ensure!(!is_blind, "the model's answers do not show whether a replay reads its inputs");
    for (probe, expected) in [0, 1, 0].map(|index| (&probes[index], &expected[index])) {
        let answers = replay(probe)?;
        let is_alike = |(answer, expected): (&Option<Tensor>, _)| answer.as_ref().is_some_and(|it| alike(it, expected));
        ensure!(answers.iter().zip(expected).all(is_alike), "a replay does not answer as a run does");
    }
    Ok(())
}

/// A tensor of zeros, or with a 1 in every third place: every model takes both as numbers, and as indices.
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
    // Aligned, as what requests bring is.
    let mut buffer = BufferPool::new(0).take(bytes);
    buffer.fill(0);
    if is_marked {
        buffer.chunks_exact_mut(size).step_by(3).for_each(|element| element.copy_from_slice(&mark));
    }
    Ok(Tensor::new(data_type, shape.clone(), buffer.freeze())?)
}

/// Whether two answers are the same but for rounding.
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
    fn replays_that_answer_otherwise_are_found() {
        let tensors = |start: f32| vec![numbers_from(start, 4)];
        let probes = [tensors(0.0), tensors(1.0)];
        let expected = [tensors(10.0), tensors(20.0)];
        let told = |answer: &dyn Fn(usize) -> Vec<Tensor>| {
            let replay = |probe: &[Tensor]| answer(usize::from(*probe == probes[1])).into_iter().map(Some).collect();
            check(&probes, &expected, |probe| Ok(replay(probe))).map_err(|error| error.to_string())
        };
        let otherwise = Err("a replay does not answer as a run does".to_owned());
        assert_eq!(told(&|index| expected[index].clone()), Ok(()));
        assert_eq!(told(&|index| tensors([10.0, 20.1][index])), otherwise);
        assert_eq!(told(&|_| expected[0].clone()), otherwise, "it reads what was there when it was recorded");
        assert_eq!(told(&|index| tensors([10.001, 20.001][index])), Ok(()), "rounding");
        let same = check(&probes, &[tensors(10.0), tensors(10.0)], |_| Ok(vec![Some(numbers_from(10.0, 4))]));
        assert_eq!(same.unwrap_err().to_string(), "the model's answers do not show whether a replay reads its inputs");
    }
}
