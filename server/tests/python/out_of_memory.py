"""Checks that a run that fails to allocate memory is an error of its request only.

out_of_memory.py FOLDER writes the model. out_of_memory.py PORTS MODEL sends the requests.
"""

import json
import pathlib
import sys

import numpy
import onnx
import tritonclient.http
from onnx import TensorProto, helper

from answers import refused

if len(sys.argv) == 2:
    nodes = [helper.make_node("ConstantOfShape", ["count"], ["zeros"])]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [1])
    zeros = helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "zeros", [count], [zeros])
    folder = pathlib.Path(sys.argv[1]) / "zeros"
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")
    sys.exit()

client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{json.loads(sys.argv[1])['http']}")


def zeros(count):
    tensor = tritonclient.http.InferInput("count", [1], "INT64")
    tensor.set_data_from_numpy(numpy.array([count]))
    return client.infer("zeros", [tensor]).as_numpy("zeros")


assert zeros(3).shape == (3,)
refused("llocate", zeros, 1 << 46)
assert client.is_server_ready() and zeros(2).shape == (2,)
print("out of memory ok")
