"""Writes a repository of small models: small_models.py FOLDER

identity: returns its FP32 input [-1, -1], in batches of up to 8. words: the same for BYTES.
sum: the sum and difference of two INT32 inputs [-1, 16]; the output sum has labels.
"""

import pathlib
import sys

import onnx
from onnx import TensorProto, helper

folder = pathlib.Path(sys.argv[1])


def tensor(name, data_type, *dims):
    return helper.make_tensor_value_info(name, data_type, ["batch", *dims])


def write(name, nodes, inputs, outputs, config):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / name / "1").mkdir(parents=True)
    onnx.save(model, folder / name / "1" / "model.onnx")
    (folder / name / "config.pbtxt").write_text(config)


def write_identity(name, data_type):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    write(name, nodes, [tensor("x", data_type, "n")], [tensor("y", data_type, "n")], "max_batch_size: 8\n")


write_identity("identity", TensorProto.FLOAT)
write_identity("words", TensorProto.STRING)
inputs = [tensor(name, TensorProto.INT32, 16) for name in ("a", "b")]
outputs = [tensor(name, TensorProto.INT32, 16) for name in ("sum", "difference")]
nodes = [helper.make_node(operator, ["a", "b"], [name]) for operator, name in (("Add", "sum"), ("Sub", "difference"))]
config = 'max_batch_size: 8\noutput { name: "sum" label_filename: "labels.txt" }\noutput { name: "difference" }\n'
write("sum", nodes, inputs, outputs, config)
(folder / "sum" / "labels.txt").write_text("".join(f"class {index}\n" for index in range(16)))
