"""Loads a model on OpenVINO and on the CPU in turn; the outputs must agree within 1e-3.

openvino.py PORTS MODEL TENSOR
"""

import json
import sys

import numpy
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

ports, model, tensor = json.loads(sys.argv[1]), *sys.argv[2:]
client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{ports['grpc']}")
image = numpy.fromfile(tensor, dtype=numpy.float32).reshape(1, 3, 224, 224)


def load(options):
    """Loads the model on OpenVINO with these options, or on the CPU (None)."""
    config = {"platform": "onnxruntime_onnx", "max_batch_size": 4}
    if options is not None:
        accelerator = {"name": "openvino", "parameters": options}
        config["optimization"] = {"execution_accelerators": {"cpu_execution_accelerator": [accelerator]}}
    client.load_model(model, config=json.dumps(config))
    config = client.get_model_config(model).config
    assert len(config.optimization.execution_accelerators.cpu_execution_accelerator) == (options is not None)


def infer():
    request = tritonclient.grpc.InferInput("image", image.shape, "FP32")
    request.set_data_from_numpy(image)
    return client.infer(model, [request]).as_numpy("logits")


def refused(options):
    try:
        load(options)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError(f"{options} were taken")


load(None)
expected = infer()
for options in ({}, {"num_streams": "1", "num_of_threads": "2"}, None, {}):
    load(options)
    assert numpy.abs(infer() - expected).max() < 1e-3, options
    client.unload_model(model)
    assert not client.is_model_ready(model)
message = refused({"num_of_thread": "2"})
assert "num_of_threads" in message, message
print(message)
print("openvino ok")
