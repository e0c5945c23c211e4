"""Writes models as others export them: own_models.py FOLDER

model.onnx and labels.txt: a classifier with `input` [n,3,224,224] and `output` [n,10], as torch.onnx.export writes it.
repository/clip: `pixel_values` to `image_embeds` [n,512] and `last_hidden_state` [n,4,512], without a configuration.
repository/detector: `images` [n,3,640,640] to `boxes` [n,4,100] and `scores` [n,2,50], prepared by letterbox.
repository/gated: `image` [n,3,224,224] and `gain` [n,1] to `features` [n,8] and `classes` [n,4].
"""

import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

folder = pathlib.Path(sys.argv[1])
random = numpy.random.default_rng(1)


def tensor(name, *dims):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *dims])


def weights(name, *shape):
    return numpy_helper.from_array(random.standard_normal(shape).astype(numpy.float32), name)


def colours(image):
    """The mean of each channel of each quarter of the image: [n, 12]."""
    shape = numpy_helper.from_array(numpy.array([0, -1], dtype=numpy.int64), "flat")
    side = image.type.tensor_type.shape.dim[3].dim_value // 2
    nodes = [
        helper.make_node("AveragePool", [image.name], ["quarters"], kernel_shape=[side, side], strides=[side, side]),
        helper.make_node("Reshape", ["quarters", "flat"], ["colours"]),
    ]
    return nodes, [shape]


def linear(output, *dims):
    """A linear layer on the colours, as `output` [n, *dims]."""
    width = int(numpy.prod(dims))
    shape = numpy_helper.from_array(numpy.array([-1, *dims], dtype=numpy.int64), f"{output}_shape")
    nodes = [
        helper.make_node("MatMul", ["colours", f"{output}_weights"], [f"{output}_flat"]),
        helper.make_node("Reshape", [f"{output}_flat", f"{output}_shape"], [output]),
    ]
    return nodes, [weights(f"{output}_weights", 12, width), shape]


def save(path, inputs, outputs, parts):
    nodes = [node for nodes, _ in parts for node in nodes]
    initializers = [tensor for _, tensors in parts for tensor in tensors]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def write(name, inputs, outputs, parts, config):
    model = folder / "repository" / name
    save(model / "1" / "model.onnx", inputs, outputs, parts)
    if config:
        (model / "config.pbtxt").write_text(config)


def parameters(**values):
    return "".join(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' for key, value in values.items())


image = tensor("input", 3, 224, 224)
save(folder / "model.onnx", [image], [tensor("output", 10)], [colours(image), linear("output", 10)])
(folder / "labels.txt").write_text("".join(f"thing {index}\n" for index in range(10)))

image = tensor("pixel_values", 3, 224, 224)
outputs = [tensor("last_hidden_state", 4, 512), tensor("image_embeds", 512)]
write("clip", [image], outputs, [colours(image), linear("last_hidden_state", 4, 512), linear("image_embeds", 512)], "")

image = tensor("images", 3, 640, 640)
outputs = [tensor("boxes", 4, 100), tensor("scores", 2, 50)]
parts = [colours(image), linear("boxes", 4, 100), linear("scores", 2, 50)]
write("detector", [image], outputs, parts, parameters(image_preprocess="letterbox"))

image = tensor("image", 3, 224, 224)
gain = helper.make_node("Mul", ["plain", "gain"], ["features"])
config = parameters(image_preprocess="torchvision", image_input="image", embedding_output="features", logits_output="classes")
write("gated", [image, tensor("gain", 1)], [tensor("features", 8), tensor("classes", 4)],
      [colours(image), linear("plain", 8), ([gain], []), linear("classes", 4)], config)
