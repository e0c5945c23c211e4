"""Loads an ensemble and sends it encoded images with Triton's clients: ensemble.py PORTS PHOTO TENSOR"""

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


def images(module, *encoded):
    tensor = module.InferInput("image", [len(encoded), 1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([[image] for image in encoded], dtype=object))
    return [tensor]


def check(client, module):
    # Loading the ensemble loads the models of its steps.
    client.load_model(MODEL)
    assert {states(client, module)[model] for model in (MODEL, IMAGES, NETWORK)} == {"READY"}, states(client, module)
    tensor = module.InferInput("image", prepared.shape, "FP32")
    tensor.set_data_from_numpy(prepared)
    expected = client.infer(NETWORK, [tensor]).as_numpy("logits")
    result = client.infer(MODEL, images(module, photo, photo, photo))
    assert numpy.abs(result.as_numpy("logits") - expected).max() < 1e-3
    assert result.as_numpy("embedding") is None, "not an output of the ensemble"
    pixels = client.infer(IMAGES, images(module, photo)).as_numpy("pixels")
    assert (pixels == prepared).all()
    refused("in ensemble 'resnet18_jpeg', image 1: not a JPEG, PNG, WebP, GIF, BMP or TIFF image", client.infer, MODEL, images(module, photo, b"no"))
    refused("batch-size must be <= 4", client.infer, MODEL, images(module, *[photo] * 5))
    metadata = client.get_model_metadata(MODEL)
    assert (metadata["platform"] if module is tritonclient.http else metadata.platform) == "ensemble"
    config = client.get_model_config(MODEL)
    steps = config["ensemble_scheduling"]["step"] if module is tritonclient.http else config.config.ensemble_scheduling.step
    assert len(steps) == 2
    statistics = client.get_inference_statistics(IMAGES)
    count = statistics["model_stats"][0]["inference_count"] if module is tritonclient.http else statistics.model_stats[0].inference_count
    assert count > 0

    # Unloading the ensemble keeps the models of its steps, unless unload_dependents is set.
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


for module, listener in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    check(module.InferenceServerClient(address[listener]), module)
asyncio.run(asynchronous())
print("ensemble ok")
