//! How far the logits of the INT8 graph are from those of the FP32 graph.

use std::fmt;

use ort::{environment::Environment, session::Session, value::Tensor};
use prost::Message as _;

use super::{error::QuantizeError, photographs::Image};
use crate::{
    arch::IMAGE_SIDE,
    graph::{IMAGE, LOGITS},
    onnx::ModelProto,
    session::open_bytes,
};

/// The agreement of the logits of two graphs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Agreement {
    /// The number of images.
    pub(crate) images: usize,
    /// Images for which the largest logit is that of the same class.
    pub(crate) same_top_1: usize,
    /// The largest absolute difference of two logits.
    pub(crate) largest_difference: f32,
    /// The largest absolute logit of the first graph.
    pub(crate) largest_logit: f32,
    /// The smallest cosine of the angle between both logits of an image.
    pub(crate) smallest_cosine: f32,
}

impl Agreement {
    const NONE: Self =
        Self { images: 0, same_top_1: 0, largest_difference: 0.0, largest_logit: 0.0, smallest_cosine: 1.0 };

    /// Adds the logits of one image.
    fn add(&mut self, a: &[f32], b: &[f32]) {
        let top_1 =
            |logits: &[f32]| logits.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).map(|(class, _)| class);
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        self.images += 1;
        self.same_top_1 += usize::from(top_1(a) == top_1(b));
        self.largest_difference = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(self.largest_difference, f32::max);
        self.largest_logit = a.iter().map(|x| x.abs()).fold(self.largest_logit, f32::max);
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        self.smallest_cosine = self.smallest_cosine.min(cosine as f32);
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "top-1 agreement {} of {}, largest difference {:.3} of logits up to {:.3}, smallest cosine {:.5}",
            self.same_top_1, self.images, self.largest_difference, self.largest_logit, self.smallest_cosine
        )
    }
}

/// Runs both models on each image.
pub(super) fn compare(
    environment: &Environment,
    [a, b]: [ModelProto; 2],
    images: impl Iterator<Item = Result<Image, QuantizeError>>,
) -> Result<Agreement, QuantizeError> {
    let mut a = open_bytes(environment, &a.encode_to_vec())?;
    let mut b = open_bytes(environment, &b.encode_to_vec())?;
    let mut agreement = Agreement::NONE;
    for image in images {
        let input = Tensor::from_array(([1, 3, IMAGE_SIDE, IMAGE_SIDE], image?))?;
        let logits = |session: &mut Session| -> ort::Result<Vec<f32>> {
            let outputs = session.run(ort::inputs![IMAGE => &input])?;
            let (_, values) = outputs[LOGITS].try_extract_tensor::<f32>()?;
            Ok(values.to_vec())
        };
        agreement.add(&logits(&mut a)?, &logits(&mut b)?);
    }
    Ok(agreement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_equal_classes_and_finds_the_largest_difference() {
        let mut agreement = Agreement::NONE;
        agreement.add(&[1.0, 3.0, -4.0], &[1.0, 3.0, -4.0]);
        agreement.add(&[3.0, 0.0, 0.0], &[3.0, 4.0, 0.0]);
        let expected =
            "top-1 agreement 1 of 2, largest difference 4.000 of logits up to 4.000, smallest cosine 0.60000";
        assert_eq!(agreement.to_string(), expected);
    }
}
