//! The classification extension: an output's numbers become its top classes.

use quintet_engine::{DataType, InferError, Shape, Tensor};
use serde::Serialize;

/// One class of an image.
#[derive(Debug, PartialEq, Serialize)]
pub struct Class<'a> {
    /// Its index in the output.
    pub index: usize,
    /// Its name, if the model has labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// Its probability: softmax over all classes.
    pub score: f64,
    /// Its value in the output.
    pub logit: f32,
}

/// The `count` most likely classes of an image with these logits, the most likely first.
pub fn most_likely<'a>(logits: &[f64], count: usize, labels: Option<&'a [String]>) -> Vec<Class<'a>> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let class = |(index, logit): (usize, f64)| Class {
        index,
        label: labels.and_then(|labels| labels.get(index)).map(String::as_str),
        score: (logit - largest).exp() / sum,
        logit: logit as f32,
    };
    top_k(logits, count).into_iter().map(class).collect()
}

/// The `count` largest values of `scores` with their indices, largest first; equal values stay in index order.
pub fn top_k(scores: &[f64], count: usize) -> Vec<(usize, f64)> {
    let mut ranked: Vec<_> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(count);
    ranked
}

/// The elements of a numeric tensor as FP64.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for BYTES and BOOL, which have no order.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>, InferError> {
    let data_type = tensor.data_type();
    data_type.numbers(tensor.data()).ok_or_else(|| {
        InferError::invalid(format_args!("class result not available for output due to unsupported type '{data_type}'"))
    })
}

/// The top classes of each row as `value:index[:label]`, in a BYTES tensor `[rows, classes]`, or `[classes]` for a
/// model that does not batch.
///
/// # Errors
/// As [`numbers`].
pub fn top(output: &Tensor, batches: bool, classes: usize, labels: Option<&[String]>) -> Result<Tensor, InferError> {
    let scores = numbers(output)?;
    let rows = if batches { output.shape().dims().first().copied().unwrap_or(1) } else { 1 };
    let per_row = scores.len() / rows.max(1);
    let classes = classes.min(per_row);
    let print = |(index, score): (usize, f64)| {
        let score = if output.data_type().is_float() { format!("{score:.6}") } else { format!("{score}") };
        match labels.and_then(|labels| labels.get(index)) {
            Some(label) => format!("{score}:{index}:{label}"),
            None => format!("{score}:{index}"),
        }
    };
    let names: Vec<String> = scores.chunks(per_row.max(1)).flat_map(|row| top_k(row, classes)).map(print).collect();
    let dims = if batches { vec![rows, classes] } else { vec![classes] };
    bytes_tensor(Shape::new(dims), names)
}

/// A BYTES tensor of these elements.
///
/// # Errors
/// When the number of elements is not that of the shape.
fn bytes_tensor<T: AsRef<[u8]>>(shape: Shape, elements: impl IntoIterator<Item = T>) -> Result<Tensor, InferError> {
    Tensor::new(DataType::Bytes, shape, quintet_proto::elements::encode(elements)).map_err(InferError::internal)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_proto::elements;

    use super::*;

    #[test]
    fn each_row_has_its_own_classes() {
        let data: Vec<u8> = [1.0f32, 3.0, 2.0, 9.0, 7.0, 8.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = Tensor::new(DataType::Fp32, Shape::new([2, 3]), Bytes::from(data)).unwrap();
        let labels = ["a".to_owned(), "b".to_owned()];
        let classes = top(&tensor, true, 2, Some(&labels)).unwrap();
        let text: Vec<_> =
            elements::iter(classes.data()).map(|e| String::from_utf8_lossy(e.unwrap()).into_owned()).collect();
        assert_eq!(text, ["3.000000:1:b", "2.000000:2", "9.000000:0:a", "8.000000:2"]);
        assert_eq!(classes.shape().dims(), [2, 2]);
    }

    #[test]
    fn integers_are_printed_without_decimals() {
        let tensor = Tensor::new(DataType::Uint8, Shape::new([1, 3]), Bytes::from_static(&[5, 9, 9])).unwrap();
        let classes = top(&tensor, true, 5, None).unwrap();
        let text: Vec<_> = elements::iter(classes.data()).map(|e| e.unwrap().to_vec()).collect();
        assert_eq!(text, [b"9:1", b"9:2", b"5:0"]);
    }
}
