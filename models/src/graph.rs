//! Builds the ONNX graph of a ResNet, with batch norm folded into the convolutions.

use quintet_onnxruntime::{PRECISION_KEY, WEIGHTS_KEY};

use crate::{
    arch::{Arch, Block, CLASSES, Conv},
    onnx::{self, DataType, GraphProto, ModelProto, NodeProto, TensorProto, constant, int, ints, node},
    variant::{MEAN, STD, Variant},
    weights::{Weights, WeightsError},
};

/// PyTorch's `BatchNorm2d` adds this to the variance.
const EPSILON: f64 = 1e-5;
/// Placeholder for the name of the stem's input, which depends on the variant.
pub(crate) const PIXELS: &str = "pixels";
pub(crate) const IMAGE: &str = "image";
pub(crate) const EMBEDDING: &str = "embedding";
pub(crate) const LOGITS: &str = "logits";

/// The nodes and weights of one depth, from which every variant is made. The variants share the weights' memory, except
/// for [`Variant::Int8`], whose graph is another one.
#[derive(Debug, Clone)]
pub struct Graph {
    arch: Arch,
    source: String,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    is_quantized: bool,
}

impl Graph {
    /// Folds the batch norms and makes the nodes.
    ///
    /// # Errors
    /// When a tensor is missing or a variance is negative.
    pub fn new(weights: &Weights) -> Result<Self, WeightsError> {
        let arch = weights.arch();
        let network = arch.network();
        let source = weights.source().into();
        let mut graph = Self { arch, source, nodes: Vec::new(), initializers: Vec::new(), is_quantized: false };
        let stem = graph.conv(weights, &network.stem, PIXELS)?;
        let stem = graph.push("Relu", &[&stem], "relu", vec![]);
        let window = vec![ints("kernel_shape", [3, 3]), ints("strides", [2, 2]), ints("pads", [1, 1, 1, 1])];
        let mut x = graph.push("MaxPool", &[&stem], "maxpool", window);
        for block in &network.blocks {
            x = graph.block(weights, block, &x)?;
        }
        let pooled = graph.push("GlobalAveragePool", &[&x], "avgpool", vec![]);
        graph.push("Flatten", &[&pooled], EMBEDDING, vec![int("axis", 1)]);
        for (name, shape) in [("fc.weight", &[CLASSES, network.features][..]), ("fc.bias", &[CLASSES])] {
            let tensor = constant(name, shape, weights.tensor(name)?);
            graph.initializers.push(tensor);
        }
        let linear = [EMBEDDING, "fc.weight", "fc.bias"];
        graph.push("Gemm", &linear, LOGITS, vec![int("transB", 1)]);
        Ok(graph)
    }

    /// The model's name in a repository, for example `resnet50_fp16`.
    pub fn name(&self, variant: Variant) -> String {
        format!("{}{}", self.arch, variant.suffix())
    }

    /// The depth.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The nodes in an order in which they can run. The stem reads [`PIXELS`].
    pub(crate) fn nodes(&self) -> &[NodeProto] {
        &self.nodes
    }

    /// The weights.
    pub(crate) fn initializers(&self) -> &[TensorProto] {
        &self.initializers
    }

    /// The graph with these nodes and weights, which compute the same in INT8, in place of its own.
    pub(crate) fn quantized(&self, nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> Self {
        Self { arch: self.arch, source: self.source.clone(), nodes, initializers, is_quantized: true }
    }

    /// The whole model: input `image`, outputs `logits` `[N,1000]` and `embedding` `[N,512|2048]`. `None` for
    /// [`Variant::Int8`] of a graph that is not quantised, and for the other variants of one that is.
    pub fn model(&self, variant: Variant) -> Option<ModelProto> {
        if self.is_quantized != (variant == Variant::Int8) {
            return None;
        }
        let prelude = Prelude::new(variant);
        let mut body = self.nodes.clone();
        // The stem reads the prelude's output.
        for input in body.iter_mut().flat_map(|node| &mut node.input) {
            if input == PIXELS {
                *input = prelude.pixels.into();
            }
        }
        let node = [prelude.nodes, body].concat();
        let initializer = [prelude.constants, self.initializers.clone()].concat();
        let graph = GraphProto {
            node,
            name: self.name(variant),
            initializer,
            input: vec![onnx::batched(IMAGE, variant.data_type(), &variant.dims())],
            output: vec![
                onnx::batched(LOGITS, DataType::Float, &[CLASSES]),
                onnx::batched(EMBEDDING, DataType::Float, &[self.arch.embedding_len()]),
            ],
        };
        let mut metadata = vec![(WEIGHTS_KEY, self.source.as_str())];
        if self.is_quantized {
            metadata.push((PRECISION_KEY, "INT8"));
        }
        Some(onnx::model(graph, &metadata))
    }

    fn push(&mut self, op_type: &str, inputs: &[&str], output: &str, attributes: Vec<onnx::AttributeProto>) -> String {
        self.nodes.push(node(op_type, inputs, output, attributes));
        output.into()
    }

    fn block(&mut self, weights: &Weights, block: &Block, input: &str) -> Result<String, WeightsError> {
        let mut x = input.to_owned();
        for (index, conv) in block.convs.iter().enumerate() {
            x = self.conv(weights, conv, &x)?;
            if index + 1 < block.convs.len() {
                let output = format!("{}.relu{}", block.name, index + 1);
                x = self.push("Relu", &[&x], &output, vec![]);
            }
        }
        let shortcut = match &block.downsample {
            Some(conv) => self.conv(weights, conv, input)?,
            None => input.to_owned(),
        };
        let sum = self.push("Add", &[&x, &shortcut], &format!("{}.add", block.name), vec![]);
        Ok(self.push("Relu", &[&sum], &format!("{}.relu", block.name), vec![]))
    }

    fn conv(&mut self, weights: &Weights, conv: &Conv, input: &str) -> Result<String, WeightsError> {
        let (filters, bias) = fold(weights, conv)?;
        let weight_name = format!("{}.weight", conv.name);
        let bias_name = format!("{}.bias", conv.name);
        self.initializers.push(constant(&weight_name, &conv.shape(), &filters));
        self.initializers.push(constant(&bias_name, &[conv.outputs], &bias));
        let attributes = vec![
            ints("kernel_shape", [conv.kernel; 2]),
            ints("strides", [conv.stride; 2]),
            ints("pads", [conv.padding(); 4]),
        ];
        let inputs = [input, &weight_name, &bias_name];
        Ok(self.push("Conv", &inputs, &conv.name, attributes))
    }
}

/// The filters and bias of one convolution that replaces a convolution and the batch norm after it:
/// `weight * s` and `shift - mean * s` with `s = scale / sqrt(variance + epsilon)`.
fn fold(weights: &Weights, conv: &Conv) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
    let norm = |part: &str| weights.tensor(&format!("{}.{part}", conv.norm));
    let (scale, shift) = (norm("weight")?, norm("bias")?);
    let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
    let mut filters = weights.tensor(&format!("{}.weight", conv.name))?.to_vec();
    let mut bias = Vec::with_capacity(conv.outputs);
    let per_filter = conv.inputs * conv.kernel * conv.kernel;
    for (channel, filter) in filters.chunks_exact_mut(per_filter).enumerate() {
        if variance[channel] < 0.0 {
            return Err(WeightsError::Tensors {
                arch: weights.arch(),
                problems: vec![format!("`{}.running_var` holds a negative variance, {}", conv.norm, variance[channel])],
            });
        }
        let s = f64::from(scale[channel]) / (f64::from(variance[channel]) + EPSILON).sqrt();
        for weight in filter {
            *weight = (f64::from(*weight) * s) as f32;
        }
        bias.push((f64::from(shift[channel]) - f64::from(mean[channel]) * s) as f32);
    }
    Ok((filters, bias))
}

/// The nodes between the model's input and the stem.
struct Prelude {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// The normalised FP32 `[N,3,224,224]` tensor.
    pixels: &'static str,
}

impl Prelude {
    fn new(variant: Variant) -> Self {
        let cast = |output| node("Cast", &[IMAGE], output, vec![int("to", DataType::Float as i64)]);
        match variant {
            Variant::Fp32 | Variant::Int8 => Self { nodes: vec![], constants: vec![], pixels: IMAGE },
            Variant::Fp16 => Self { nodes: vec![cast("image.fp32")], constants: vec![], pixels: "image.fp32" },
            // The cast comes first: TensorRT accepts UINT8 only as the input of a cast.
            Variant::U8 => {
                // (pixel / 255 - mean) / std as one multiplication and one addition.
                let scale = STD.map(|std| 1.0 / (255.0 * std));
                let shift = [0, 1, 2].map(|channel| -MEAN[channel] / STD[channel]);
                let to_nchw = vec![ints("perm", [0, 3, 1, 2])];
                Self {
                    nodes: vec![
                        cast("image.fp32"),
                        node("Transpose", &["image.fp32"], "image.nchw", to_nchw),
                        node("Mul", &["image.nchw", "image.scale"], "image.scaled", vec![]),
                        node("Add", &["image.scaled", "image.shift"], "image.normalised", vec![]),
                    ],
                    constants: vec![
                        constant("image.scale", &[1, 3, 1, 1], &scale),
                        constant("image.shift", &[1, 3, 1, 1], &shift),
                    ],
                    pixels: "image.normalised",
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_tensor_is_defined_once_before_its_use() {
        let graph = Graph::new(&Weights::from_seed(Arch::ResNet50, 0)).unwrap();
        for variant in Variant::UNCALIBRATED {
            let proto = graph.model(variant).unwrap().graph.unwrap();
            let mut known: HashSet<_> = proto.initializer.iter().map(|t| &t.name).collect();
            known.extend(proto.input.iter().map(|value| &value.name));
            for node in &proto.node {
                assert!(node.input.iter().all(|name| known.contains(name)));
                assert!(node.output.iter().all(|name| known.insert(name)));
            }
            assert!(proto.output.iter().all(|value| known.contains(&value.name)));
            assert!(proto.node.iter().all(|n| n.op_type != "BatchNormalization"));
        }
    }

    #[test]
    fn variants_share_the_memory_of_their_weights() {
        let graph = Graph::new(&Weights::from_seed(Arch::ResNet18, 0)).unwrap();
        let [one, two] = [Variant::Fp32, Variant::U8].map(|variant| {
            let tensors = graph.model(variant).unwrap().graph.unwrap().initializer;
            tensors.last().unwrap().raw_data.as_ptr()
        });
        assert_eq!(one, two);
    }

    #[test]
    fn a_graph_that_is_not_quantized_has_no_int8_variant() {
        let graph = Graph::new(&Weights::from_seed(Arch::ResNet18, 0)).unwrap();
        assert!(graph.model(Variant::Int8).is_none());
    }
}
