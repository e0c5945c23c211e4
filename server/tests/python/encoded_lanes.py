"""Sends an encoded image to an ensemble and to its network on the onnx and trt lanes with each of Triton's clients;
compares the logits.

encoded_lanes.py PORTS PHOTO TENSOR
"""

import asyncio
import base64
import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from answers import refused

ports, photo, tensor = json.loads(sys.argv[1]), open(sys.argv[2], "rb").read(), sys.argv[3]
prepared = numpy.fromfile(tensor, dtype=numpy.float32).reshape(1, 3, 224, 224)
MODEL, NETWORK = "resnet18_jpeg", "resnet18"
logits = {}


def images(module, *encoded):
    tensor = module.InferInput("image", [len(encoded), 1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([[image] for image in encoded], dtype=object))
    return [tensor]


def network(module, *encoded, **form):
    """The images as the network takes them: [N] in place of [N,3,224,224]."""
    tensor = module.InferInput("image", [len(encoded)], "BYTES")
    tensor.set_data_from_numpy(numpy.array(encoded, dtype=object), **form)
    return [tensor]


def blocking(lane, module):
    client = module.InferenceServerClient(f"127.0.0.1:{ports[lane]}")
    pixels = module.InferInput("image", prepared.shape, "FP32")
    pixels.set_data_from_numpy(prepared)
    expected = client.infer(NETWORK, [pixels]).as_numpy("logits")[0]
    rows = client.infer(MODEL, images(module, photo, photo)).as_numpy("logits")
    assert rows.shape == (2, 1000) and numpy.abs(rows - expected).max() < 1e-3, lane
    logits[lane] = rows[0]
    refused("in ensemble 'resnet18_jpeg', image 0: not a JPEG", client.infer, MODEL, images(module, b"no image"))

    text = base64.b64encode(photo)
    sent = [network(module, photo, photo), network(module, text, photo)]
    if module is tritonclient.http:
        sent.append(network(module, text, text, binary_data=False))
    for inputs in sent:
        rows = client.infer(NETWORK, inputs).as_numpy("logits")
        assert rows.shape == (2, 1000) and numpy.abs(rows - expected).max() < 1e-3, lane
    refused("image[1]: not a JPEG", client.infer, NETWORK, network(module, photo, b"no image"))


async def asynchronous(lane, module, aio):
    async with aio.InferenceServerClient(f"127.0.0.1:{ports[lane]}") as client:
        logits[lane + " aio"] = (await client.infer(MODEL, images(module, photo))).as_numpy("logits")[0]


for service in ("onnx", "trt"):
    blocking(service + "-http", tritonclient.http)
    blocking(service + "-grpc", tritonclient.grpc)
    asyncio.run(asynchronous(service + "-http", tritonclient.http, tritonclient.http.aio))
    asyncio.run(asynchronous(service + "-grpc", tritonclient.grpc, tritonclient.grpc.aio))
first = next(iter(logits.values()))
for client, other in logits.items():
    assert numpy.abs(other - first).max() < 1e-3, client
print(f"{len(logits)} clients on 4 lanes agree")
