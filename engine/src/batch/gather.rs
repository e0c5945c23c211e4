//! Joins the rows of requests to one batch, and splits its outputs by request.

use bytes::Bytes;
use quintet_proto::{DataType, elements};

use crate::{
    buffer::BufferPool,
    error::{InferError, RowsError},
    request::InferRequest,
    spec::{ModelSpec, OutputSet},
    tensor::Tensor,
};

/// The inputs of a batch. Its requests all omit the same inputs.
///
/// A batch of one request shares its buffers; larger batches are copied once, into pooled buffers. Data that is
/// not aligned to its element type (a slice of a protobuf message may not be) is copied too.
pub fn gather(requests: &[&InferRequest], pool: &BufferPool) -> Result<Vec<Option<Tensor>>, InferError> {
    let Some((first, rest)) = requests.split_first() else {
        return Ok(Vec::new());
    };
    if rest.is_empty() {
        return first.inputs.iter().map(|input| input.as_ref().map(|input| aligned(input, pool)).transpose()).collect();
    }
    let rows = requests.iter().map(|request| request.rows).sum();
    let inputs = first.inputs.iter().enumerate().map(|(index, input)| {
        let Some(model) = input else { return Ok(None) };
        let parts = requests.iter().filter_map(|request| request.inputs[index].as_ref().map(Tensor::data));
        let parts: Vec<&Bytes> = parts.collect();
        tensor(model.data_type(), model.shape().with_rows(rows), concatenate(&parts, pool)).map(Some)
    });
    inputs.collect()
}

fn aligned(input: &Tensor, pool: &BufferPool) -> Result<Tensor, InferError> {
    if input.is_aligned() {
        return Ok(input.clone());
    }
    tensor(input.data_type(), input.shape().clone(), concatenate(&[input.data()], pool))
}

fn concatenate(parts: &[&Bytes], pool: &BufferPool) -> Bytes {
    let mut buffer = pool.take(parts.iter().map(|part| part.len()).sum());
    let mut rest = &mut buffer[..];
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    buffer.freeze()
}

/// Gives each request its rows of the batch's outputs, as slices of one buffer.
///
/// A lone request gets what the model gave if it is only assumed that the model batches.
///
/// # Errors
/// When an output does not have the batch's rows: the model does not batch as it is configured to.
pub fn scatter(
    spec: &ModelSpec,
    requests: &[&InferRequest],
    outputs: Vec<Option<Tensor>>,
) -> Result<Vec<Vec<(usize, Tensor)>>, InferError> {
    let mut answers: Vec<Vec<(usize, Tensor)>> = requests.iter().map(|_| Vec::new()).collect();
    let rows: usize = requests.iter().map(|request| request.rows).sum();
    for (index, output) in outputs.into_iter().enumerate() {
        let Some(output) = output else { continue };
        let wanted = |outputs: OutputSet| outputs.contains(index);
        let is_exempt = requests.len() == 1 && spec.batching_is_assumed();
        if !is_exempt && lacks_rows(spec, &output, rows) {
            let name = spec.outputs().get(index).map_or("?", |output| &output.name);
            let shape = output.shape().clone();
            let (model, output) = (spec.name().to_owned(), name.to_owned());
            return Err(Box::new(RowsError { model, output, shape, rows }).into());
        }
        if let ([request], [answer]) = (requests, &mut answers[..]) {
            if wanted(request.outputs) {
                answer.push((index, output));
            }
            continue;
        }
        let mut from = 0;
        for (request, answer) in requests.iter().zip(&mut answers) {
            let part = slice_rows(&output, from, request.rows, rows)?;
            from += request.rows;
            if wanted(request.outputs) {
                answer.push((index, part));
            }
        }
    }
    Ok(answers)
}

/// Whether an output of the model is not one of a batch of this many rows.
pub fn lacks_rows(spec: &ModelSpec, output: &Tensor, rows: usize) -> bool {
    spec.batches() && output.shape().dims().first() != Some(&rows)
}

/// Rows `from..from + count` of a tensor with `rows` rows.
fn slice_rows(output: &Tensor, from: usize, count: usize, rows: usize) -> Result<Tensor, InferError> {
    let data = output.data();
    let part = if output.data_type() == DataType::Bytes {
        let per_row = output.shape().elements().unwrap_or(0) / rows.max(1);
        let lengths: Vec<usize> =
            elements::iter(data).map(|element| element.map_or(0, |element| element.len() + 4)).collect();
        let bytes_of = |rows: usize| lengths.iter().take(rows * per_row).sum::<usize>();
        data.slice(bytes_of(from)..bytes_of(from + count))
    } else {
        let row_bytes = data.len() / rows.max(1);
        data.slice(from * row_bytes..(from + count) * row_bytes)
    };
    tensor(output.data_type(), output.shape().with_rows(count), part)
}

fn tensor(data_type: DataType, shape: crate::tensor::Shape, data: Bytes) -> Result<Tensor, InferError> {
    Ok(Tensor::new(data_type, shape, data)?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        spec::{BatchPolicy, TensorSpec},
        tensor::Shape,
    };

    fn request(data_type: DataType, rows: usize, width: usize, data: Bytes) -> InferRequest {
        InferRequest::new(
            Instant::now(),
            vec![Some(Tensor::new(data_type, Shape::new([rows, width]), data).unwrap())],
            rows,
            OutputSet::all(1),
        )
    }

    fn spec(data_type: DataType) -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, data_type, [None]);
        let policy = BatchPolicy { max_batch_size: 64, dynamic: true, ..BatchPolicy::default() };
        ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap()
    }

    proptest! {
        #[test]
        fn each_request_gets_its_own_rows_back(batch in prop::collection::vec((1usize..5, any::<u8>()), 1..6), width in 1usize..9) {
            let pool = BufferPool::new(1 << 20);
            let requests: Vec<_> = batch.iter()
                .map(|&(rows, mark)| request(DataType::Uint8, rows, width, Bytes::from(vec![mark; rows * width])))
                .collect();
            let requests: Vec<_> = requests.iter().collect();
            let inputs = gather(&requests, &pool).unwrap();
            let answers = scatter(&spec(DataType::Uint8), &requests, inputs).unwrap();
            for (answer, request) in answers.iter().zip(&requests) {
                prop_assert_eq!(Some(&answer[0].1), request.inputs[0].as_ref());
            }
        }

        #[test]
        fn each_request_gets_its_own_strings_back(batch in prop::collection::vec(prop::collection::vec("[a-z]{0,6}", 2), 1..6)) {
            let pool = BufferPool::new(1 << 20);
            let requests: Vec<_> =
                batch.iter().map(|row| request(DataType::Bytes, 1, 2, elements::encode(row))).collect();
            let requests: Vec<_> = requests.iter().collect();
            let inputs = gather(&requests, &pool).unwrap();
            let answers = scatter(&spec(DataType::Bytes), &requests, inputs).unwrap();
            for (answer, request) in answers.iter().zip(&requests) {
                prop_assert_eq!(Some(&answer[0].1), request.inputs[0].as_ref());
            }
        }
    }

    #[test]
    fn a_batch_of_one_moves_without_a_copy() {
        let pool = BufferPool::new(1 << 20);
        let data = pool.take(64).freeze();
        let one = request(DataType::Fp32, 1, 16, data.clone());
        let inputs = gather(&[&one], &pool).unwrap();
        assert_eq!(inputs[0].as_ref().unwrap().data().as_ptr(), data.as_ptr());
        let answers = scatter(&spec(DataType::Fp32), &[&one], inputs).unwrap();
        assert_eq!(answers[0][0].1.data().as_ptr(), data.as_ptr());
    }

    #[test]
    fn data_that_is_not_aligned_is_copied_to_an_aligned_buffer() {
        let pool = BufferPool::new(1 << 20);
        let one = request(DataType::Fp32, 1, 4, pool.take(64).freeze().slice(1..17));
        let inputs = gather(&[&one], &pool).unwrap();
        let (sent, moved) = (one.inputs[0].as_ref().unwrap(), inputs[0].as_ref().unwrap());
        assert!(!sent.is_aligned() && moved.is_aligned());
        assert_eq!(moved.data(), sent.data());
    }

    #[test]
    fn an_output_without_the_rows_of_the_batch_is_an_error() {
        let two = request(DataType::Uint8, 2, 1, Bytes::from_static(b"ab"));
        let short = Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(b"a")).unwrap();
        let error = scatter(&spec(DataType::Uint8), &[&two], vec![Some(short)]).unwrap_err();
        let shape = Shape::new([1, 1]);
        let expected = RowsError { model: "echo".into(), output: "y".into(), shape, rows: 2 };
        assert_eq!(error, InferError::Rows(Box::new(expected)));
        assert!(error.to_string().contains("output 'y' of model 'echo' has shape [1,1] for a batch of 2"));
    }
}
