"""Inference in Triton's place with each of its clients: classes, statistics, errors. inference.py PORTS"""

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


def request(kind, shape=(1, 16), names=("a", "b"), datatype="INT32", dtype=numpy.int32):
    inputs = [kind.InferInput(name, shape, datatype) for name in names]
    data = numpy.broadcast_to(numbers, shape) if shape[1] == 16 else numpy.zeros(shape)
    [tensor.set_data_from_numpy(numpy.ascontiguousarray(data, dtype)) for tensor in inputs]
    return inputs


def check(client, kind):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sum", "1")
    metadata = client.get_server_metadata()
    extensions = metadata["extensions"] if kind is tritonclient.http else list(metadata.extensions)
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

    before = counted(client, kind)
    result = client.infer("sum", request(kind), request_id="7", priority=1, timeout=10_000_000)
    assert (result.as_numpy("sum") == 2 * numbers).all() and not result.as_numpy("difference").any()
    outputs = [kind.InferRequestedOutput("sum", class_count=3)]
    top = client.infer("sum", request(kind, (2, 16)), outputs=outputs).as_numpy("sum")
    classes = [[entry.split(b":")[1:] for entry in row] for row in top]
    assert classes == [[[b"15", b"class 15"], [b"14", b"class 14"], [b"13", b"class 13"]]] * 2, top
    assert [float(entry.split(b":")[0]) for entry in top[1]] == [30, 28, 26], top
    assert counted(client, kind) == before + 3

    compression = "request_compression_algorithm" if kind is tritonclient.http else "compression_algorithm"
    for algorithm in ["gzip", "deflate"]:
        result = client.infer("sum", request(kind), **{compression: algorithm})
        assert (result.as_numpy("sum") == 2 * numbers).all(), algorithm

    refused("Request for unknown model: 'nosuch' is not found", client.infer, "nosuch", request(kind))
    refused("batch-size must be <= 8 for 'sum'", client.infer, "sum", request(kind, (9, 16)))
    refused("unexpected shape for input 'b' for model 'sum'", client.infer, "sum", request(kind, (1, 4)))
    refused("missing required input(s) ['b']", client.infer, "sum", request(kind, names=("a",)))
    refused("data-type is 'FP32'", client.infer, "sum", request(kind, datatype="FP32", dtype=numpy.float32))
    unknown = [kind.InferRequestedOutput("nosuch")]
    refused("unexpected inference output 'nosuch' for model 'sum'", client.infer, "sum", request(kind), outputs=unknown)


def counted(client, kind):
    statistics = client.get_inference_statistics("sum")
    model = statistics["model_stats"][0] if kind is tritonclient.http else statistics.model_stats[0]
    return model["inference_count"] if kind is tritonclient.http else model.inference_count


async def asynchronous():
    for kind, plain, listener in (
        (tritonclient.http.aio, tritonclient.http, "http"),
        (tritonclient.grpc.aio, tritonclient.grpc, "grpc"),
    ):
        async with kind.InferenceServerClient(address[listener]) as client:
            results = await asyncio.gather(*[client.infer("sum", request(plain)) for _ in range(20)])
            assert all((result.as_numpy("sum") == 2 * numbers).all() for result in results)
            try:
                await client.infer("nosuch", request(plain))
                raise AssertionError("not refused")
            except InferenceServerException as error:
                assert "Request for unknown model: 'nosuch' is not found" in error.message(), error


for kind, listener in ((tritonclient.http, "http"), (tritonclient.grpc, "grpc")):
    check(kind.InferenceServerClient(address[listener]), kind)
asyncio.run(asynchronous())
print("inference ok")
