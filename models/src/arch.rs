//! The ResNet family as data: the layers of each depth, under torchvision's names.

use std::fmt;

/// Height and width of the input image, in pixels.
pub const IMAGE_SIDE: usize = 224;
/// The number of ImageNet classes, the length of the `logits` output.
pub const CLASSES: usize = 1000;
/// Output channels of the stem, and inner channels of the first stage's blocks.
const STEM_CHANNELS: usize = 64;

/// One depth of the ResNet family, in torchvision's topology ("ResNet v1.5": the 3x3 convolution of a
/// bottleneck has the stride).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum Arch {
    #[value(name = "resnet18")]
    ResNet18,
    #[value(name = "resnet34")]
    ResNet34,
    #[value(name = "resnet50")]
    ResNet50,
    #[value(name = "resnet101")]
    ResNet101,
    #[value(name = "resnet152")]
    ResNet152,
}

impl Arch {
    /// Every depth, from 18 to 152.
    pub const ALL: [Self; 5] = [Self::ResNet18, Self::ResNet34, Self::ResNet50, Self::ResNet101, Self::ResNet152];

    /// The name in torchvision; the model has the same name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
        }
    }

    /// The length of the `embedding` output: 512, or 2048 for depths with bottlenecks.
    pub fn embedding_len(self) -> usize {
        512 * self.expansion()
    }

    /// The layers, from the input to the output.
    pub fn network(self) -> Network {
        Network::new(self)
    }

    /// Blocks in each of the four stages (He et al. 2015, "Deep Residual Learning for Image Recognition", table 1).
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Ratio of a block's output channels to its inner channels: 1 for basic blocks, 4 for bottlenecks.
    fn expansion(self) -> usize {
        match self {
            Self::ResNet18 | Self::ResNet34 => 1,
            Self::ResNet50 | Self::ResNet101 | Self::ResNet152 => 4,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A convolution without bias, followed by a batch norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// For example `layer1.0.conv1`.
    pub name: String,
    /// The batch norm's name, for example `layer1.0.bn1`.
    pub norm: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Height and width of the output.
    pub side: usize,
}

impl Conv {
    /// Zeros added on each side: at stride 1 they keep the image's size.
    pub fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// The kernel's shape: `[outputs, inputs, kernel, kernel]`.
    pub fn shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel, self.kernel]
    }
}

/// A residual block: `relu(convs(x) + shortcut(x))`, with a ReLU after each convolution except the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// For example `layer1.0`.
    pub name: String,
    /// Two 3x3 convolutions, or a bottleneck's 1x1, 3x3, 1x1.
    pub convs: Vec<Conv>,
    /// The 1x1 convolution of the shortcut, if the block changes the shape; otherwise the shortcut is `x`.
    pub downsample: Option<Conv>,
}

/// The layers of one depth: stem, 3x3 max pool of stride 2, blocks, global average pool, linear layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The 7x7 convolution of stride 2.
    pub stem: Conv,
    /// The blocks of all four stages.
    pub blocks: Vec<Block>,
    /// The length of the embedding.
    pub features: usize,
}

/// The name and shape of one tensor of a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// torchvision's name, for example `layer1.0.conv1.weight`.
    pub name: String,
    /// The shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl Network {
    fn new(arch: Arch) -> Self {
        let stem = Conv {
            name: "conv1".into(),
            norm: "bn1".into(),
            inputs: 3,
            outputs: STEM_CHANNELS,
            kernel: 7,
            stride: 2,
            side: IMAGE_SIDE / 2,
        };
        let stages = arch.blocks().into_iter().enumerate();
        let blocks = stages.flat_map(|(stage, count)| (0..count).map(move |index| Block::new(arch, stage, index)));
        Self { stem, blocks: blocks.collect(), features: arch.embedding_len() }
    }

    /// Every convolution: the stem, then those of each block, the shortcut's last.
    pub fn convs(&self) -> impl Iterator<Item = &Conv> {
        let in_blocks = self.blocks.iter().flat_map(|block| block.convs.iter().chain(&block.downsample));
        std::iter::once(&self.stem).chain(in_blocks)
    }

    /// Every tensor of a weight file, in the order of torchvision's state dict.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let spec = |name: String, shape: &[usize]| TensorSpec { name, shape: shape.to_vec() };
        let mut tensors = Vec::new();
        for conv in self.convs() {
            tensors.push(spec(format!("{}.weight", conv.name), &conv.shape()));
            for part in ["weight", "bias", "running_mean", "running_var"] {
                tensors.push(spec(format!("{}.{part}", conv.norm), &[conv.outputs]));
            }
        }
        tensors.push(spec("fc.weight".into(), &[CLASSES, self.features]));
        tensors.push(spec("fc.bias".into(), &[CLASSES]));
        tensors
    }

    /// Number of learned parameters. As in PyTorch, batch norm's running statistics do not count.
    pub fn parameters(&self) -> usize {
        self.tensors()
            .iter()
            .filter(|tensor| !tensor.name.contains(".running_"))
            .map(|tensor| tensor.shape.iter().product::<usize>())
            .sum()
    }

    /// Multiply-adds of the convolutions and the linear layer for one image.
    pub fn multiply_adds(&self) -> usize {
        let convs: usize =
            self.convs().map(|conv| conv.shape().iter().product::<usize>() * conv.side * conv.side).sum();
        convs + self.features * CLASSES
    }
}

impl Block {
    /// Block `index` of `stage`, both counted from 0.
    fn new(arch: Arch, stage: usize, index: usize) -> Self {
        let name = format!("layer{}.{index}", stage + 1);
        let width = STEM_CHANNELS << stage;
        let outputs = width * arch.expansion();
        // The first block of a stage takes the channels of the stage before; from the second stage on it halves the
        // image as well.
        let (inputs, stride) = match (stage, index) {
            (0, 0) => (STEM_CHANNELS, 1),
            (_, 0) => (outputs / 2, 2),
            _ => (outputs, 1),
        };
        // The stem and the max pool halve the image once each.
        let output_side = (IMAGE_SIDE / 4) >> stage;
        let input_side = output_side * stride;
        // (inputs, outputs, kernel, stride, output side)
        let layers = if arch.expansion() == 1 {
            vec![(inputs, width, 3, stride, output_side), (width, width, 3, 1, output_side)]
        } else {
            vec![
                (inputs, width, 1, 1, input_side),
                (width, width, 3, stride, output_side),
                (width, outputs, 1, 1, output_side),
            ]
        };
        let convs = layers
            .into_iter()
            .enumerate()
            .map(|(index, (inputs, outputs, kernel, stride, side))| Conv {
                name: format!("{name}.conv{}", index + 1),
                norm: format!("{name}.bn{}", index + 1),
                inputs,
                outputs,
                kernel,
                stride,
                side,
            })
            .collect();
        let downsample = (stride != 1 || inputs != outputs).then(|| Conv {
            name: format!("{name}.downsample.0"),
            norm: format!("{name}.downsample.1"),
            inputs,
            outputs,
            kernel: 1,
            stride,
            side: output_side,
        });
        Self { name, convs, downsample }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_multiply_adds_match_torchvision() {
        // "num_params" and "_ops" (in units of 10^9) of the weights' metadata in torchvision 0.29.
        let documented = [
            (Arch::ResNet18, 11_689_512, 1.814),
            (Arch::ResNet34, 21_797_672, 3.664),
            (Arch::ResNet50, 25_557_032, 4.089),
            (Arch::ResNet101, 44_549_160, 7.801),
            (Arch::ResNet152, 60_192_808, 11.514),
        ];
        for (arch, parameters, billions) in documented {
            let network = arch.network();
            assert_eq!(network.parameters(), parameters, "{arch}");
            let ours = network.multiply_adds() as f64 / 1e9;
            assert!((ours - billions).abs() < 6e-4, "{arch}: {ours}");
        }
    }

    #[test]
    fn depth_is_the_number_of_layers_with_weights() {
        for (arch, depth) in Arch::ALL.into_iter().zip([18, 34, 50, 101, 152]) {
            let blocks = arch.network().blocks;
            let in_blocks: usize = blocks.iter().map(|block| block.convs.len()).sum();
            // The stem and the linear layer count; the shortcuts do not.
            assert_eq!(in_blocks + 2, depth);
            assert_eq!(blocks[blocks.len() - 1].convs[0].side, 7, "{arch}");
        }
    }

    #[test]
    fn the_3x3_convolution_of_a_bottleneck_has_the_stride() {
        let network = Arch::ResNet50.network();
        let block = &network.blocks[3];
        assert_eq!(block.name, "layer2.0");
        let strides: Vec<_> = block.convs.iter().map(|c| (c.kernel, c.stride)).collect();
        assert_eq!(strides, [(1, 1), (3, 2), (1, 1)]);
        assert_eq!(block.downsample.as_ref().map(|c| c.stride), Some(2));
    }
}
