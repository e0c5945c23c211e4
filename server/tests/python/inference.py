"""Tests inference with each of Triton's clients: classification, statistics, compression, errors. inference.py PORTS"""

import asyncio
import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from answers import refused

ports = json.loads(sys.argv[1])
address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
numbers = numpy.arange(16, dtype=numpy.int32).reshape(1, 16)


def request(module, shape=(1, 16), names=("a", "b"), datatype="INT32", dtype=numpy.int32):
    inputs = [module.InferInput(name, shape, datatype) for name in names]
    data = numpy.broadcast_to(numbers, shape) if shape[1] == 16 else numpy.zeros(shape)
    [tensor.set_data_from_numpy(numpy.ascontiguousarray(data, dtype)) for tensor in inputs]
    return inputs


def check(client, module):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sum", "1")
    metadata = client.get_server_metadata()
    extensions = metadata["extensions"] if module is tritonclient.http else list(metadata.extensions)
    assert extensions == [
        "classification",
        "schedule_policy",
        "model_configuration",
        "binary_tensor_data",
        "parameters",
        "statistics",
        "trace",
        "logging",
    ], extensions

    before = inference_count(client, module)
    result = client.infer("sum", request(module), request_id="7", priority=1, timeout=10_000_000)
    assert (result.as_numpy("sum") == 2 * numbers).all() and not result.as_numpy("difference").any()
    outputs = [module.InferRequestedOutput("sum", class_count=3)]
    top = client.infer("sum", request(module, (2, 16)), outputs=outputs).as_numpy("sum")
    classes = [[entry.split(b":")[1:] for entry in row] for row in top]
    assert classes == [[[b"15", b"class 15"], [b"14", b"class 14"], [b"13", b"class 13"]]] * 2, top
    assert [float(entry.split(b":")[0]) for entry in top[1]] == [30, 28, 26], top
    assert inference_count(client, module) == before + 3

    compression = "request_compression_algorithm" if module is tritonclient.http else "compression_algorithm"
    for algorithm in ["gzip", "deflate"]:
        result = client.infer("sum", request(module), **{compression: algorithm})
        assert (result.as_numpy("sum") == 2 * numbers).all(), algorithm

    refused("Request for unknown model: 'nosuch' is not found", client.infer, "nosuch", request(module))
    refused("batch-size must be <= 8 for 'sum'", client.infer, "sum", request(module, (9, 16)))
    refused("unexpected shape for input 'b' for model 'sum'", client.infer, "sum", request(module, (1, 4)))
    refused("missing required input(s) ['b']", client.infer, "sum", request(module, names=("a",)))
    refused("data-type is 'FP32'", client.infer, "sum", request(module, datatype="FP32", dtype=numpy.float32))
    unknown = [module.InferRequestedOutput("nosuch")]
    refused("unexpected inference output 'nosuch' for model 'sum'", client.infer, "sum", request(module), outputs=unknown)


def inference_count(client, module):
    statistics = client.get_inference_statistics("sum")
    model = statistics["model_stats"][0] if module is tritonclient.http else statistics.model_stats[0]
    return model["inference_count"] if module is tritonclient.http else model.inference_count


async def asynchronous():
    for module, plain, listener in (
        (tritonclient.http.aio, tritonclient.http, "http"),
        (tritonclient.grpc.aio, tritonclient.grpc, "grpc"),
    ):
        async with module.InferenceServerClient(address[listener]) as client:
            results = await asyncio.gather(*[client.infer("sum", request(plain)) for _ in range(20)])
            assert all((result.as_numpy("sum") == 2 * numbers).all() for result in results)
            try:
                await client.infer("nosuch", request(plain))
                raise AssertionError("not refused")
            except InferenceServerException as error:
                assert "Request for unknown model: 'nosuch' is not found" in error.message(), error


for module, listener in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    check(module.InferenceServerClient(address[listener]), module)
asyncio.run(asynchronous())
print("inference ok")
