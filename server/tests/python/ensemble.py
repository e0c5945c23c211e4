"""Encoded images to an ensemble with Triton's clients: ensemble.py PORTS PHOTO TENSOR"""

import asyncio
import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from answers import refused, states

ports, photo, tensor = json.loads(sys.argv[1]), open(sys.argv[2], "rb").read(), sys.argv[3]
address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
prepared = numpy.fromfile(tensor, dtype=numpy.float32).reshape(1, 3, 224, 224)
MODEL, IMAGES, NETWORK = "resnet18_jpeg", "preprocess", "resnet18"


def images(kind, *encoded):
    sent = kind.InferInput("image", [len(encoded), 1], "BYTES")
    sent.set_data_from_numpy(numpy.array([[image] for image in encoded], dtype=object))
    return [sent]


def check(client, kind):
    # The ensemble brings what it is made of.
    client.load_model(MODEL)
    assert {states(client, kind)[model] for model in (MODEL, IMAGES, NETWORK)} == {"READY"}, states(client, kind)
    sent = kind.InferInput("image", prepared.shape, "FP32")
    sent.set_data_from_numpy(prepared)
    wanted = client.infer(NETWORK, [sent]).as_numpy("logits")
    result = client.infer(MODEL, images(kind, photo, photo, photo))
    assert numpy.abs(result.as_numpy("logits") - wanted).max() < 1e-3
    assert result.as_numpy("embedding") is None, "only what the ensemble names"
    pixels = client.infer(IMAGES, images(kind, photo)).as_numpy("pixels")
    assert (pixels == prepared).all()
    refused("in ensemble 'resnet18_jpeg', image 1: not a JPEG, PNG or WebP image", client.infer, MODEL, images(kind, photo, b"no"))
    refused("batch-size must be <= 4", client.infer, MODEL, images(kind, *[photo] * 5))
    metadata = client.get_model_metadata(MODEL)
    assert (metadata["platform"] if kind is tritonclient.http else metadata.platform) == "ensemble"
    config = client.get_model_config(MODEL)
    steps = config["ensemble_scheduling"]["step"] if kind is tritonclient.http else config.config.ensemble_scheduling.step
    assert len(steps) == 2
    statistics = client.get_inference_statistics(IMAGES)
    counted = statistics["model_stats"][0]["inference_count"] if kind is tritonclient.http else statistics.model_stats[0].inference_count
    assert counted > 0

    # The steps alone stay, or go along.
    client.unload_model(MODEL)
    assert client.is_model_ready(NETWORK)
    client.load_model(MODEL)
    client.unload_model(MODEL, unload_dependents=True)
    assert not client.is_model_ready(NETWORK) and not client.is_model_ready(IMAGES)
    refused("step 'nosuch': Request for unknown model: 'nosuch' is not found", client.load_model, "broken")
    refused("contains itself: circle -> circle", client.load_model, "circle")


async def asynchronous():
    async with tritonclient.http.aio.InferenceServerClient(address["http"]) as client:
        await client.load_model(MODEL)
        assert (await client.infer(MODEL, images(tritonclient.http, photo))).as_numpy("logits").shape == (1, 1000)
    async with tritonclient.grpc.aio.InferenceServerClient(address["grpc"]) as client:
        calls = [client.infer(MODEL, images(tritonclient.grpc, photo)) for _ in range(8)]
        assert len(await asyncio.gather(*calls)) == 8


for kind, listener in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    check(kind.InferenceServerClient(address[listener]), kind)
asyncio.run(asynchronous())
print("ensemble ok")
