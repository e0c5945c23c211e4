//! Inserts QuantizeLinear and DequantizeLinear, from which ONNX Runtime makes integer operators.
//!
//! Activations are UINT8 with a scale for each tensor, weights are symmetric INT8 with a scale for each output channel,
//! biases are INT32 with the product of both scales. Weights use 7 of their 8 bits: AVX2 adds two products of UINT8 and
//! INT8 in 16 bits, and 2 * 255 * 64 is the largest such sum that cannot saturate with a power of two.

use std::collections::{BTreeMap, BTreeSet};

use super::range::Range;
use crate::{
    graph::{Graph, PIXELS},
    onnx::{DataType, NodeProto, TensorProto, constant, floats, int, node, tensor},
};

/// The largest absolute value of an INT8 weight.
const LARGEST_WEIGHT: f32 = 64.0;
/// The largest absolute value of an INT32 bias: half of what fits leaves room for the sum of the products.
const LARGEST_BIAS: f32 = (1 << 30) as f32;

/// The tensors that become UINT8: what convolutions, additions, pools and the linear layer read. Between a convolution
/// or an addition and its ReLU nothing is inserted, because the levels of a ReLU's output have no negative ones anyway.
pub(super) fn activations(nodes: &[NodeProto]) -> BTreeSet<String> {
    nodes.iter().filter(|node| reads_levels(node)).flat_map(data_inputs).cloned().collect()
}

/// Whether the operator reads dequantised tensors.
fn reads_levels(node: &NodeProto) -> bool {
    !["Relu", "Flatten"].contains(&node.op_type.as_str())
}

/// The inputs that are not weights.
fn data_inputs(node: &NodeProto) -> &[String] {
    let count = if has_weights(node) { 1 } else { node.input.len() };
    &node.input[..count]
}

/// Whether the second input is a weight, with its output channels first, and the third a bias.
fn has_weights(node: &NodeProto) -> bool {
    ["Conv", "Gemm"].contains(&node.op_type.as_str())
}

/// The graph in which the tensors of `ranges`, which are its [`activations`], and the weights are quantised.
pub(super) fn insert(graph: &Graph, ranges: &BTreeMap<String, Range>) -> Graph {
    let weights = graph.initializers().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut quantizer = Quantizer { weights, scales: BTreeMap::new(), nodes: Vec::new(), initializers: Vec::new() };
    quantizer.activation(PIXELS, ranges);
    for node in graph.nodes() {
        quantizer.operator(node);
        for output in &node.output {
            quantizer.activation(output, ranges);
        }
    }
    graph.quantized(quantizer.nodes, quantizer.initializers)
}

struct Quantizer<'a> {
    weights: BTreeMap<&'a str, &'a TensorProto>,
    /// The scales of the activations so far.
    scales: BTreeMap<String, f32>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Quantizer<'_> {
    /// Quantises and dequantises this tensor, if it has a range.
    fn activation(&mut self, name: &str, ranges: &BTreeMap<String, Range>) {
        let Some(range) = ranges.get(name) else {
            return;
        };
        let (scale, zero_point) = range.scale_and_zero_point();
        let [quantized, scale_name, zero_name] = parts(name);
        self.initializers.push(constant(&scale_name, &[], &[scale]));
        self.initializers.push(tensor(&zero_name, DataType::Uint8, &[], vec![zero_point]));
        self.nodes.push(node("QuantizeLinear", &[name, &scale_name, &zero_name], &quantized, vec![]));
        let inputs = [quantized.as_str(), &scale_name, &zero_name];
        self.nodes.push(node("DequantizeLinear", &inputs, &dequantized(name), vec![]));
        self.scales.insert(name.into(), scale);
    }

    /// The operator, on dequantised inputs.
    fn operator(&mut self, operator: &NodeProto) {
        let mut operator = operator.clone();
        if has_weights(&operator) {
            self.weights_and_bias(&operator.input);
        }
        if reads_levels(&operator) {
            for input in &mut operator.input {
                *input = dequantized(input);
            }
        }
        self.nodes.push(operator);
    }

    /// Quantises the weights and the bias of an operator with these inputs.
    fn weights_and_bias(&mut self, inputs: &[String]) {
        let [input, weight, bias] = inputs else {
            return;
        };
        let (Some(&input_scale), Some(&weight_tensor), Some(&bias_tensor)) =
            (self.scales.get(input), self.weights.get(weight.as_str()), self.weights.get(bias.as_str()))
        else {
            return;
        };
        let shape: Vec<usize> = weight_tensor.dims.iter().map(|&dim| dim as usize).collect();
        let (values, biases) = (floats(weight_tensor), floats(bias_tensor));
        let per_channel = values.len() / biases.len();
        let (mut levels, mut bias_levels) = (Vec::with_capacity(values.len()), Vec::with_capacity(4 * biases.len()));
        let (mut scales, mut bias_scales) = (Vec::new(), Vec::new());
        for (channel, &bias) in values.chunks_exact(per_channel).zip(&biases) {
            let scale = weight_scale(channel, bias, input_scale);
            // A conversion to an integer saturates.
            levels.extend(channel.iter().map(|weight| (weight / scale).round() as i8 as u8));
            let bias_scale = input_scale * scale;
            bias_levels.extend(((bias / bias_scale).round() as i32).to_le_bytes());
            scales.push(scale);
            bias_scales.push(bias_scale);
        }
        let channels = biases.len();
        self.constant(weight, (DataType::Int8, &shape, levels), &scales, vec![0; channels]);
        self.constant(bias, (DataType::Int32, &[channels], bias_levels), &bias_scales, vec![0; 4 * channels]);
    }

    /// Dequantises a constant, given by type, shape and data, with a scale for each element of its first dimension.
    fn constant(
        &mut self,
        name: &str,
        (data_type, shape, levels): (DataType, &[usize], Vec<u8>),
        scales: &[f32],
        zero_points: Vec<u8>,
    ) {
        let [quantized, scale_name, zero_name] = parts(name);
        self.initializers.extend([
            tensor(&quantized, data_type, shape, levels),
            constant(&scale_name, &[scales.len()], scales),
            tensor(&zero_name, data_type, &[scales.len()], zero_points),
        ]);
        let inputs = [quantized.as_str(), &scale_name, &zero_name];
        self.nodes.push(node("DequantizeLinear", &inputs, &dequantized(name), vec![int("axis", 0)]));
    }
}

/// The scale of one channel's weights: the largest weight becomes [`LARGEST_WEIGHT`], unless the bias would then be more
/// than [`LARGEST_BIAS`].
fn weight_scale(weights: &[f32], bias: f32, input_scale: f32) -> f32 {
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let scale = (largest / LARGEST_WEIGHT).max(bias.abs() / LARGEST_BIAS / input_scale);
    // A channel of zeros: any scale represents it.
    if scale < f32::MIN_POSITIVE { 1.0 } else { scale }
}

/// The names of a tensor's levels, scale and zero point.
fn parts(name: &str) -> [String; 3] {
    ["quantized", "scale", "zero_point"].map(|part| format!("{name}.{part}"))
}

fn dequantized(name: &str) -> String {
    format!("{name}.dequantized")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{arch::Arch, variant::Variant, weights::Weights};

    fn resnet18() -> Graph {
        Graph::new(&Weights::from_seed(Arch::ResNet18, 0)).unwrap()
    }

    /// The graph of ResNet-18 with the same range for every activation.
    fn quantized(graph: &Graph) -> crate::onnx::GraphProto {
        let ranges = activations(graph.nodes()).into_iter().map(|name| (name, Range { min: -1.0, max: 4.0 }));
        insert(graph, &ranges.collect()).model(Variant::Int8).unwrap().graph.unwrap()
    }

    #[test]
    fn every_operator_with_weights_reads_dequantized_tensors() {
        let graph = resnet18();
        let int8 = quantized(&graph);
        let mut known: HashSet<_> = int8.initializer.iter().map(|tensor| &tensor.name).collect();
        known.extend(int8.input.iter().map(|value| &value.name));
        let mut dequantized = HashSet::new();
        for node in &int8.node {
            assert!(node.input.iter().all(|name| known.contains(name)), "{}", node.name);
            assert!(node.output.iter().all(|name| known.insert(name)), "{}", node.name);
            match node.op_type.as_str() {
                "DequantizeLinear" => assert!(dequantized.insert(&node.output[0])),
                "QuantizeLinear" | "Relu" | "Flatten" => {}
                _ => assert!(node.input.iter().all(|name| dequantized.contains(name)), "{}", node.name),
            }
        }
        let count = |nodes: &[NodeProto], op: &str| nodes.iter().filter(|node| node.op_type == op).count();
        assert_eq!((count(&int8.node, "Conv"), count(&int8.node, "Gemm")), (20, 1));
        assert_eq!(count(&int8.node, "Relu"), count(graph.nodes(), "Relu"));
        // A convolution whose output has a ReLU of its own is not quantised before it.
        assert!(!known.contains(&"layer1.0.conv1.quantized".to_owned()));
        assert!(known.contains(&"layer1.0.conv2.quantized".to_owned()));
    }

    #[test]
    fn weights_and_biases_are_at_most_half_a_step_away() {
        let graph = resnet18();
        let int8 = quantized(&graph);
        let of =
            |tensors: &[TensorProto], name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap().clone();
        let input_scale = 5.0 / 255.0;
        for name in ["conv1", "layer2.0.downsample.0", "fc"] {
            let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
            let original = floats(&of(graph.initializers(), &weight));
            let levels = of(&int8.initializer, &format!("{weight}.quantized"));
            let scales = floats(&of(&int8.initializer, &format!("{weight}.scale")));
            let per_channel = original.len() / scales.len();
            for ((weights, levels), scale) in
                original.chunks(per_channel).zip(levels.raw_data.chunks(per_channel)).zip(&scales)
            {
                let levels: Vec<i8> = levels.iter().map(|&level| level as i8).collect();
                assert_eq!(levels.iter().map(|level| level.unsigned_abs()).max(), Some(LARGEST_WEIGHT as u8));
                let is_close =
                    |(weight, level): (&f32, &i8)| (weight - f32::from(*level) * scale).abs() <= 0.501 * scale;
                assert!(weights.iter().zip(&levels).all(is_close), "{weight}");
            }
            let original = floats(&of(graph.initializers(), &bias));
            let levels = of(&int8.initializer, &format!("{bias}.quantized"));
            let (levels, _) = levels.raw_data.as_chunks();
            for ((bias, level), scale) in original.iter().zip(levels).zip(&scales) {
                let step = input_scale * scale;
                assert!((bias - i32::from_le_bytes(*level) as f32 * step).abs() <= 0.51 * step, "{name}");
            }
        }
    }

    #[test]
    fn a_channel_of_zeros_and_a_large_bias_have_a_scale() {
        assert_eq!(weight_scale(&[0.0, 0.0], 0.0, 1.0), 1.0);
        assert_eq!(weight_scale(&[0.0, -32.0], 0.0, 1.0), 0.5);
        let (bias, input_scale) = (1e6, 1e-3);
        let scale = weight_scale(&[1e-9], bias, input_scale);
        assert!(bias / (scale * input_scale) <= 1.001 * LARGEST_BIAS, "{scale}");
    }
}
