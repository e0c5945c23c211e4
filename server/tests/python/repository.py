"""Loads, unloads and lists models with Triton's clients over HTTP and gRPC: repository.py PORTS REPOSITORY"""

import asyncio
import json
import pathlib
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from answers import refused, states

ports, repository = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
model_file = (repository / "sum/1/model.onnx").read_bytes()


def check_sum(client, module, model):
    numbers = numpy.arange(16, dtype=numpy.int32).reshape(1, 16)
    inputs = [module.InferInput(name, numbers.shape, "INT32") for name in ("a", "b")]
    [tensor.set_data_from_numpy(numbers) for tensor in inputs]
    assert (client.infer(model, inputs).as_numpy("sum") == 2 * numbers).all()


for module, listener in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    client = module.InferenceServerClient(address[listener])
    assert states(client, module) == {"identity": "READY", "sum": "", "words": ""} or module is tritonclient.grpc
    refused("Request for unknown model: 'sum' ", client.get_model_config, "sum")
    client.load_model("sum")
    assert client.is_model_ready("sum") and states(client, module)["sum"] == "READY"
    check_sum(client, module, "sum")

    client.load_model("sum", config=json.dumps({"max_batch_size": 2}))
    config = client.get_model_config("sum")
    assert (config["max_batch_size"] if module is tritonclient.http else config.config.max_batch_size) == 2
    refused("failed to load 'sum': config: ", client.load_model, "sum", config=json.dumps({"max_batch": 2}))
    refused("failed to load 'nosuch', failed to poll from model repository", client.load_model, "nosuch")

    client.load_model("uploaded", config="{}", files={"file:1/model.onnx": model_file})
    check_sum(client, module, "uploaded")
    refused("requires model config be provided", client.load_model, "uploaded", files={"file:1/model.onnx": model_file})

    # A file that no file system takes, with the words by which Triton's own example knows the error.
    unwritable = {"file:" + 256 * "A": b"a"}
    refused("failed to poll from model repository: cannot write", client.load_model, "sum", config="{}", files=unwritable)
    assert client.is_model_ready("sum")

    for model in ("sum", "uploaded"):
        client.unload_model(model)
        assert not client.is_model_ready(model) and states(client, module)[model] == "UNAVAILABLE"
    refused("Request for unknown model: 'sum' has no available versions", client.get_model_config, "sum")
    client.unload_model("identity", unload_dependents=True)
    client.load_model("identity")
    assert states(client, module)["identity"] == "READY"


async def asynchronous():
    for module, listener in ((tritonclient.http.aio, "http"), (tritonclient.grpc.aio, "grpc")):
        async with module.InferenceServerClient(address[listener]) as client:
            await client.load_model("sum")
            assert await client.is_model_ready("sum")
            await client.unload_model("sum")
            assert not await client.is_model_ready("sum")


asyncio.run(asynchronous())
print("repository ok")
