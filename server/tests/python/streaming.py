"""Tests ModelStreamInfer with Triton's clients: streaming.py PORTS"""

import asyncio
import json
import queue
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

ports = json.loads(sys.argv[1])
address = f"127.0.0.1:{ports['grpc']}"


def request(number, width=100):
    tensor = tritonclient.grpc.InferInput("x", [1, width], "FP32")
    tensor.set_data_from_numpy(numpy.full((1, width), number, numpy.float32))
    return [tensor]


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


# Responses come in order; an error in the middle does not end the stream.
responses = queue.Queue()
client = tritonclient.grpc.InferenceServerClient(address)
client.start_stream(callback=lambda result, error: responses.put((result, error)))
for number in range(50):
    model = "nosuch" if number == 20 else "identity"
    client.async_stream_infer(model, request(number), request_id=str(number), enable_empty_final_response=True)
for number in range(50):
    result, error = responses.get(timeout=60)
    if number == 20:
        assert result is None and "Request for unknown model: 'nosuch' is not found" in error.message(), error
        continue
    assert error is None, error
    assert result.get_response().id == str(number) and is_final(result)
    assert (result.as_numpy("y") == number).all()
client.stop_stream()
assert responses.empty()


async def asynchronous():
    async with tritonclient.grpc.aio.InferenceServerClient(address) as client:

        async def requests():
            for number in range(10):
                yield {"model_name": "identity", "inputs": request(number), "request_id": str(number)}
            yield {"model_name": "identity", "inputs": request(0), "model_version": "7"}

        number = 0
        async for result, error in client.stream_infer(requests()):
            if number == 10:
                assert isinstance(error, InferenceServerException) and "version 7 is not found" in error.message(), error
            else:
                assert error is None and (result.as_numpy("y") == number).all() and is_final(result)
            number += 1
        assert number == 11, number


asyncio.run(asynchronous())
print("streaming ok")
