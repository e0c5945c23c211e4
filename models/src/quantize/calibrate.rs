//! Finds the ranges of the tensors to quantise: runs the FP32 graph with them as outputs.

use std::collections::{BTreeMap, BTreeSet};

use ort::{environment::Environment, session::Session, value::Tensor};
use prost::Message as _;

use super::{error::QuantizeError, photographs::Image, range::Range};
use crate::{
    arch::IMAGE_SIDE,
    graph::{EMBEDDING, IMAGE, PIXELS},
    onnx::{self, ModelProto},
    session::open_bytes,
    variant::{MEAN, STD},
};

/// The FP32 graph, and the ranges so far.
pub(super) struct Calibration {
    session: Session,
    ranges: BTreeMap<String, Range>,
}

impl Calibration {
    /// Opens the FP32 model with the tensors `names` as outputs.
    pub(super) fn new(
        environment: &Environment,
        mut model: ModelProto,
        names: BTreeSet<String>,
    ) -> Result<Self, QuantizeError> {
        if let Some(graph) = &mut model.graph {
            let inner = names.iter().filter(|name| ![PIXELS, EMBEDDING].contains(&name.as_str()));
            graph.output.extend(inner.map(|name| onnx::output_of_any_shape(name)));
        }
        let session = open_bytes(environment, &model.encode_to_vec())?;
        let mut ranges: BTreeMap<_, _> = names.into_iter().map(|name| (name, Range::default())).collect();
        // The range of the normalised pixels is known.
        let mut pixels = Range::default();
        for (mean, std) in MEAN.into_iter().zip(STD) {
            pixels.extend(&[-mean / std, (1.0 - mean) / std]);
        }
        ranges.insert(PIXELS.into(), pixels);
        Ok(Self { session, ranges })
    }

    /// Extends the ranges by the values that this image causes.
    pub(super) fn observe(&mut self, image: Image) -> Result<(), QuantizeError> {
        let input = Tensor::from_array(([1, 3, IMAGE_SIDE, IMAGE_SIDE], image))?;
        let outputs = self.session.run(ort::inputs![IMAGE => input])?;
        for (name, range) in &mut self.ranges {
            if let Some(value) = outputs.get(name) {
                let (_, values) = value.try_extract_tensor::<f32>()?;
                if !range.extend(values) {
                    return Err(QuantizeError::NotFinite(name.clone()));
                }
            }
        }
        Ok(())
    }

    /// The smallest range of each tensor that holds all values seen.
    pub(super) fn ranges(&self) -> &BTreeMap<String, Range> {
        &self.ranges
    }
}
