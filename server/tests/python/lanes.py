"""Sends one photograph with each of Triton's clients on each lane; the logits must agree within 1e-3.

lanes.py PORTS MODEL PHOTO TENSOR
"""

import asyncio
import json
import sys
import urllib.request

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

ports, model, photo, tensor = json.loads(sys.argv[1]), *sys.argv[2:]
image = numpy.fromfile(tensor, dtype=numpy.float32).reshape(1, 3, 224, 224)
logits = {}


def request(module, binary):
    tensor = module.InferInput("image", image.shape, "FP32")
    if module is tritonclient.http:
        tensor.set_data_from_numpy(image, binary_data=binary)
        return [tensor], [module.InferRequestedOutput(name, binary_data=binary) for name in ("logits", "embedding")]
    tensor.set_data_from_numpy(image)
    return [tensor], [module.InferRequestedOutput(name) for name in ("logits", "embedding")]


def check(name, result):
    assert result.as_numpy("embedding").shape == (1, 512), name
    logits[name] = result.as_numpy("logits")[0]


def blocking(service):
    http = tritonclient.http.InferenceServerClient(f"127.0.0.1:{ports[service + '-http']}")
    grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{ports[service + '-grpc']}")
    for client, module in ((http, tritonclient.http), (grpc, tritonclient.grpc)):
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
        inputs, outputs = request(module, True)
        check(f"{service} {module.__name__}", client.infer(model, inputs, outputs=outputs, request_id="7"))
    metadata = http.get_model_metadata(model)
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 224, 224]}], metadata
    grpc_metadata = grpc.get_model_metadata(model, as_json=True)
    assert [tensor["name"] for tensor in grpc_metadata["outputs"]] == [tensor["name"] for tensor in metadata["outputs"]]
    assert http.get_model_config(model)["max_batch_size"] == 4
    assert grpc.get_model_config(model).config.max_batch_size == 4
    inputs, outputs = request(tritonclient.http, False)
    check(f"{service} JSON", http.infer(model, inputs, outputs=outputs))


async def asynchronous(service):
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{ports[service + '-http']}") as client:
        inputs, outputs = request(tritonclient.http, True)
        check(f"{service} http.aio", await client.infer(model, inputs, outputs=outputs))
    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{ports[service + '-grpc']}") as client:
        inputs, outputs = request(tritonclient.grpc, True)
        check(f"{service} grpc.aio", await client.infer(model, inputs, outputs=outputs))


def jpeg():
    url = f"http://127.0.0.1:{ports['jpeg']}/classify?k=1000"
    with open(photo, "rb") as file:
        request = urllib.request.Request(url, file.read(), {"Content-Type": "image/jpeg"})
    response = json.load(urllib.request.urlopen(request))
    assert response["count"] == 1, response["count"]
    values = numpy.empty(1000, numpy.float32)
    for entry in response["classifications"][0]:
        values[entry["index"]] = entry["logit"]
    logits["jpeg"] = values


jpeg()
for service in ("onnx", "trt"):
    blocking(service)
    asyncio.run(asynchronous(service))
assert len(logits) == 11, list(logits)
reference = logits["jpeg"]
assert reference.std() > 0.01, "the logits of all classes are nearly equal"
for name, values in logits.items():
    difference = float(numpy.abs(values - reference).max())
    print(f"{name}: {difference:.2e} from the jpeg lane")
    assert difference < 1e-3, name
print("11 clients on 5 lanes agree")
