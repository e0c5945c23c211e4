"""Writes a repository of small models: small_models.py FOLDER

identity: FP32 [-1, -1] as it is, in batches of up to 8. words: the same of BYTES. sum: INT32 [-1, 16] sum and difference of two inputs,
the sum with labels.
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


def copy(name, data_type):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    write(name, nodes, [tensor("x", data_type, "n")], [tensor("y", data_type, "n")], "max_batch_size: 8\n")


copy("identity", TensorProto.FLOAT)
copy("words", TensorProto.STRING)
two = [tensor(name, TensorProto.INT32, 16) for name in ("a", "b")]
results = [tensor(name, TensorProto.INT32, 16) for name in ("sum", "difference")]
nodes = [helper.make_node(kind, ["a", "b"], [name]) for kind, name in (("Add", "sum"), ("Sub", "difference"))]
labelled = 'max_batch_size: 8\noutput { name: "sum" label_filename: "labels.txt" }\noutput { name: "difference" }\n'
write("sum", nodes, two, results, labelled)
(folder / "sum" / "labels.txt").write_text("".join(f"class {index}\n" for index in range(16)))
