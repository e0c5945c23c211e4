"""An encoded image to an ensemble on the onnx and trt lanes, with each of Triton's clients.

encoded_lanes.py PORTS PHOTO TENSOR
"""

import asyncio
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


def images(kind, *encoded):
    sent = kind.InferInput("image", [len(encoded), 1], "BYTES")
    sent.set_data_from_numpy(numpy.array([[image] for image in encoded], dtype=object))
    return [sent]


def blocking(lane, kind):
    client = kind.InferenceServerClient(f"127.0.0.1:{ports[lane]}")
    pixels = kind.InferInput("image", prepared.shape, "FP32")
    pixels.set_data_from_numpy(prepared)
    wanted = client.infer(NETWORK, [pixels]).as_numpy("logits")[0]
    rows = client.infer(MODEL, images(kind, photo, photo)).as_numpy("logits")
    assert rows.shape == (2, 1000) and numpy.abs(rows - wanted).max() < 1e-3, lane
    logits[lane] = rows[0]
    refused("in ensemble 'resnet18_jpeg', image 0: not a JPEG", client.infer, MODEL, images(kind, b"no image"))


async def asynchronous(lane, kind, aio):
    async with aio.InferenceServerClient(f"127.0.0.1:{ports[lane]}") as client:
        logits[lane + " aio"] = (await client.infer(MODEL, images(kind, photo))).as_numpy("logits")[0]


for service in ("onnx", "trt"):
    blocking(service + "-http", tritonclient.http)
    blocking(service + "-grpc", tritonclient.grpc)
    asyncio.run(asynchronous(service + "-http", tritonclient.http, tritonclient.http.aio))
    asyncio.run(asynchronous(service + "-grpc", tritonclient.grpc, tritonclient.grpc.aio))
first = next(iter(logits.values()))
for way, other in logits.items():
    assert numpy.abs(other - first).max() < 1e-3, way
print(f"{len(logits)} ways on 4 lanes agree")
