"""Compares TorchScript models with the same model in ONNX, over HTTP and gRPC: torchscript.py PORTS MODEL TENSOR"""

import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.http

from answers import refused

ports, model, tensor = json.loads(sys.argv[1]), *sys.argv[2:]
image = numpy.fromfile(tensor, dtype=numpy.float32).reshape(1, 3, 224, 224)


def infer(client, module, model, outputs, **inputs):
    def input_tensor(name, values):
        tensor = module.InferInput(name, values.shape, "FP32" if values.dtype == numpy.float32 else "INT64")
        tensor.set_data_from_numpy(values)
        return tensor

    outputs = [module.InferRequestedOutput(name) for name in outputs]
    return client.infer(model, [input_tensor(name, values) for name, values in inputs.items()], outputs=outputs)


for module, port in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    client = module.InferenceServerClient(f"127.0.0.1:{ports[port]}")
    onnx = infer(client, module, model, ("logits", "embedding"), image=image)
    images = numpy.concatenate([image, numpy.zeros_like(image), image])
    script = infer(client, module, "script", ("OUTPUT__0", "OUTPUT__1"), INPUT__0=images)
    for name, onnx_name in (("OUTPUT__0", "logits"), ("OUTPUT__1", "embedding")):
        values, expected = script.as_numpy(name), onnx.as_numpy(onnx_name)[0]
        assert values.shape == (3, *expected.shape), values.shape
        difference = float(numpy.abs(values[[0, 2]] - expected).max())
        print(f"{port} {name}: {difference:.2e} from {onnx_name}")
        assert difference < 1e-3 and expected.std() > 0.01 and numpy.abs(values[1] - expected).max() > 1e-3
    a, b = numpy.array([[7, 8], [9, 10]]), numpy.array([[1, 2], [3, 4]])
    pair = infer(client, module, "pair", ("OUTPUT__1", "OUTPUT__0"), INPUT__0=a, INPUT__1=b)
    assert (pair.as_numpy("OUTPUT__0") == a - b).all() and (pair.as_numpy("OUTPUT__1") == a + b).all()
    refused("unexpected shape for input 'INPUT__0'", infer, client, module, "pair", (), INPUT__0=a[:, :1].copy(), INPUT__1=b)
    refused("data-type is 'FP32'", infer, client, module, "pair", (), INPUT__0=a.astype(numpy.float32), INPUT__1=b)
    metadata = client.get_model_metadata("script", **({} if port == "http" else {"as_json": True}))
    assert metadata["platform"] == "pytorch_libtorch", metadata

print("torchscript ok")
