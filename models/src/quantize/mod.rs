//! Makes the INT8 graph of a model: calibrates the ranges of its tensors on photographs, and inserts QuantizeLinear and
//! DequantizeLinear. Measures how well it agrees with the FP32 graph on photographs that were held back.

mod agreement;
mod calibrate;
mod error;
mod photographs;
mod qdq;
mod range;

use ort::environment::Environment;

pub(crate) use agreement::Agreement;
pub(crate) use error::QuantizeError;
pub(crate) use photographs::Photographs;

use self::calibrate::Calibration;
use crate::{graph::Graph, onnx::ModelProto, variant::Variant};

/// An INT8 graph, and how it agrees with the FP32 graph.
pub(crate) struct Quantized {
    /// The graph, whose only variant is [`Variant::Int8`].
    pub(crate) graph: Graph,
    /// Over the views of the photographs that were held back from the calibration.
    pub(crate) agreement: Agreement,
}

/// Calibrates `graph` on these photographs, quantises it, and compares both on the photographs that are held back.
///
/// # Errors
/// When a photograph cannot be decoded, a tensor is not finite, or ONNX Runtime cannot run a graph.
pub(crate) fn quantize(
    environment: &Environment,
    graph: &Graph,
    photographs: &Photographs,
) -> Result<Quantized, QuantizeError> {
    let fp32 = model(graph, Variant::Fp32)?;
    let mut calibration = Calibration::new(environment, fp32.clone(), qdq::activations(graph.nodes()))?;
    for image in photographs.for_calibration() {
        calibration.observe(image?)?;
    }
    let quantized = qdq::insert(graph, calibration.ranges());
    let models = [fp32, model(&quantized, Variant::Int8)?];
    let agreement = agreement::compare(environment, models, photographs.held_back())?;
    Ok(Quantized { graph: quantized, agreement })
}

fn model(graph: &Graph, variant: Variant) -> Result<ModelProto, QuantizeError> {
    graph.model(variant).ok_or_else(|| QuantizeError::Quantized(graph.name(variant)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use ort::session::Session;
    use prost::Message as _;
    use quintet_onnxruntime::{Loaded, ThreadPool};
    use safetensors::{SafeTensors, tensor::TensorView};

    use super::*;
    use crate::{arch::Arch, weights::Weights};

    fn library() -> &'static Loaded {
        quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 2, spin: false }).unwrap()
    }

    fn resnet18(seed: u64) -> Graph {
        Graph::new(&Weights::from_seed(Arch::ResNet18, seed)).unwrap()
    }

    #[test]
    fn int8_agrees_with_fp32_on_photographs_held_back_and_is_deterministic() {
        let graph = resnet18(1);
        let quantized = [(); 2].map(|()| quantize(&library().environment, &graph, &Photographs::own()).unwrap());
        let models = quantized.each_ref().map(|it| it.graph.model(Variant::Int8).unwrap().encode_to_vec());
        assert!(models[0] == models[1], "two calibrations give different models");
        let agreement = quantized[0].agreement;
        assert_eq!((agreement, agreement.images), (quantized[1].agreement, 10));
        assert!(agreement.smallest_cosine > 0.99, "{agreement}");
        assert!(agreement.largest_difference < 0.1 * agreement.largest_logit, "{agreement}");
        assert!(quantize(&library().environment, &quantized[0].graph, &Photographs::own()).is_err());
    }

    /// Otherwise the model would be rounded to INT8, and computed in FP32.
    #[test]
    fn onnx_runtime_computes_every_convolution_with_integers() {
        let graph = resnet18(0);
        let quantized = quantize(&library().environment, &graph, &Photographs::own()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let optimized = dir.path().join("optimized.onnx");
        let builder = Session::builder(&library().environment).unwrap();
        let mut builder = builder.with_optimized_model_path(&optimized).unwrap();
        builder.commit_from_memory(&quantized.graph.model(Variant::Int8).unwrap().encode_to_vec()).unwrap();
        let nodes = ModelProto::decode(&fs::read(optimized).unwrap()[..]).unwrap().graph.unwrap().node;
        let mut counts = BTreeMap::new();
        for node in &nodes {
            *counts.entry(node.op_type.as_str()).or_insert(0) += 1;
        }
        let count = |op: &str| counts.get(op).copied().unwrap_or(0);
        assert_eq!(["QLinearConv", "QLinearAdd", "QGemm"].map(count), [20, 8, 1], "{counts:?}");
        assert_eq!(["Conv", "Add", "Gemm", "Relu"].map(count), [0; 4], "{counts:?}");
    }

    #[test]
    fn weights_that_overflow_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        Weights::from_seed(Arch::ResNet18, 0).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let largest = f32::MAX.to_le_bytes().repeat(128);
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(|(name, tensor)| {
            let data = if name == "layer2.0.bn1.bias" { &largest[..] } else { tensor.data() };
            let tensor = TensorView::new(tensor.dtype(), tensor.shape().into(), data).unwrap();
            (name, tensor)
        });
        let tensors: Vec<_> = tensors.collect();
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let graph = Graph::new(&Weights::from_safetensors(Arch::ResNet18, &path).unwrap()).unwrap();
        let error = quantize(&library().environment, &graph, &Photographs::own()).err().unwrap().to_string();
        assert!(error.contains("is not finite"), "{error}");
    }
}
