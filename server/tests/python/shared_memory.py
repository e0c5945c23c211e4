"""Tests tensors in system shared memory with Triton's clients: shared_memory.py PORTS on|off

on: the server allows shared memory. off: it must refuse it.
"""

import asyncio
import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import serialize_byte_tensor

from answers import refused

ports, allowed = json.loads(sys.argv[1]), sys.argv[2] == "on"
address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
CLIENTS = ((tritonclient.http, "http"), (tritonclient.grpc, "grpc"))
# The start of the POSIX names of this run's regions.
KEY = f"/quintet-{ports['http']}-"
OFFSET, SIZE = 4096, 8 * 1000 * 4
numbers = numpy.arange(8000, dtype=numpy.float32).reshape(8, 1000)


def region(name, size):
    return shm.create_shared_memory_region(name, KEY + name, size)


def request(module, in_offset=OFFSET, out_offset=0, out_size=SIZE):
    tensor = module.InferInput("x", numbers.shape, "FP32")
    tensor.set_shared_memory("in", SIZE, offset=in_offset)
    output = module.InferRequestedOutput("y")
    output.set_shared_memory("out", out_size, offset=out_offset)
    return [tensor], [output]


def registered(client, module, name=""):
    status = client.get_system_shared_memory_status(name)
    if module is tritonclient.http:
        return {entry["name"]: entry["byte_size"] for entry in status}
    return {entry.name: entry.byte_size for entry in status.regions.values()}


def check_off(client, module):
    refused("--allow-client-shm", client.register_system_shared_memory, "in", "/x", 8)
    refused("--allow-client-shm", client.get_system_shared_memory_status)
    refused("--allow-client-shm", client.unregister_system_shared_memory)
    inputs, outputs = request(module)
    refused("--allow-client-shm", client.infer, "identity", inputs)


def check_on(client, module):
    input_region, output_region = region("in", OFFSET + SIZE), region("out", 2 * SIZE)
    try:
        shm.set_shared_memory_region(input_region, [numbers], offset=OFFSET)
        check_registration(client, module)
        check_output_in_memory(client, module, output_region)
        check_output_over_input(client, module, input_region)
        check_invalid_requests(client, module)
        client.unregister_system_shared_memory()
        assert registered(client, module) == {}
    finally:
        shm.destroy_shared_memory_region(input_region)
        shm.destroy_shared_memory_region(output_region)


def check_registration(client, module):
    client.register_system_shared_memory("in", KEY + "in", OFFSET + SIZE)
    client.register_system_shared_memory("out", KEY + "out", 2 * SIZE)
    assert registered(client, module) == {"in": OFFSET + SIZE, "out": 2 * SIZE}
    assert registered(client, module, "in") == {"in": OFFSET + SIZE}
    refused("already in manager", client.register_system_shared_memory, "in", KEY + "in", 8)
    refused("Unable to open shared memory region: '/nosuch'", client.register_system_shared_memory, "n", "/nosuch", 8)
    refused("Unable to open shared memory region", client.register_system_shared_memory, "n", "/../etc/passwd", 8)
    refused("Invalid shared memory region", client.register_system_shared_memory, "n", KEY + "in", 1 << 30)
    refused("Unable to find system shared memory region: 'n'", client.get_system_shared_memory_status, "n")


def check_output_in_memory(client, module, output_region):
    inputs, outputs = request(module)
    result = client.infer("identity", inputs, outputs=outputs)
    output = result.get_output("y")
    shape = output["shape"] if module is tritonclient.http else list(output.shape)
    assert (shm.get_contents_as_numpy(output_region, numpy.float32, shape) == numbers).all()
    # At an offset, after another tensor; the response does not hold the data.
    inputs, outputs = request(module, out_offset=SIZE)
    result = client.infer("identity", inputs, outputs=outputs)
    if module is tritonclient.http:
        # Triton's C++ client mistakes any parameters for those of binary data.
        assert not {"data", "parameters"} & set(result.get_output("y")), result.get_response()
    else:
        assert not any(result.get_response().raw_output_contents)
    assert (shm.get_contents_as_numpy(output_region, numpy.float32, shape, offset=SIZE) == numbers).all()
    # Only the input is in shared memory.
    assert (client.infer("identity", inputs).as_numpy("y") == numbers).all()


def check_output_over_input(client, module, input_region):
    """The output overlaps the input, in the same region and in a second region of the same memory: writing the output
    must not change the input before it is read."""
    for name in ("in", "alias"):
        inputs, outputs = request(module)
        outputs[0].set_shared_memory(name, SIZE, offset=OFFSET - 64)
        if name == "alias":
            client.register_system_shared_memory("alias", KEY + "in", OFFSET + SIZE)
        shm.set_shared_memory_region(input_region, [numbers], offset=OFFSET)
        client.infer("identity", inputs, outputs=outputs)
        result = shm.get_contents_as_numpy(input_region, numpy.float32, numbers.shape, offset=OFFSET - 64)
        assert (result == numbers).all()
    client.unregister_system_shared_memory("alias")
    shm.set_shared_memory_region(input_region, [numbers], offset=OFFSET)


def check_invalid_requests(client, module):
    message = "Invalid offset + byte size for shared memory region"
    refused(message, client.infer, "identity", request(module, in_offset=OFFSET + 4)[0])
    refused("Invalid offset for shared memory", client.infer, "identity", request(module, in_offset=1 << 40)[0])
    inputs, outputs = request(module, out_size=100)
    refused("output 'y' (100 bytes) should be at least 32000 bytes", client.infer, "identity", inputs, outputs=outputs)
    client.unregister_system_shared_memory("in")
    refused("Unable to find shared memory region: 'in'", client.infer, "identity", inputs)


def check_words(client, module):
    words = numpy.array([["shared", "memory", ""]], dtype=object)
    serialized = serialize_byte_tensor(words)
    handle = region("words", 4096)
    try:
        shm.set_shared_memory_region(handle, [serialized])
        client.register_system_shared_memory("words", KEY + "words", 4096)
        tensor = module.InferInput("x", [1, 3], "BYTES")
        tensor.set_shared_memory("words", len(serialized.item()))
        output = client.infer("words", [tensor]).as_numpy("y")
        assert output.tolist() == [[b"shared", b"memory", b""]], output
        client.unregister_system_shared_memory("words")
    finally:
        shm.destroy_shared_memory_region(handle)


def check_cuda(client, module):
    status = client.get_cuda_shared_memory_status()
    assert status == [] if module is tritonclient.http else len(status.regions) == 0
    refused("CUDA shared memory is not supported", client.register_cuda_shared_memory, "c", b"AAAA", 0, 16)
    client.unregister_cuda_shared_memory()


async def asynchronous():
    handle = region("in", SIZE)
    try:
        shm.set_shared_memory_region(handle, [numbers])
        for module, plain, listener in (
            (tritonclient.http.aio, tritonclient.http, "http"),
            (tritonclient.grpc.aio, tritonclient.grpc, "grpc"),
        ):
            async with module.InferenceServerClient(address[listener]) as client:
                await client.register_system_shared_memory("in", KEY + "in", SIZE)
                inputs, _ = request(plain, in_offset=0)
                assert ((await client.infer("identity", inputs)).as_numpy("y") == numbers).all()
                await client.unregister_system_shared_memory("in")
    finally:
        shm.destroy_shared_memory_region(handle)


for module, listener in CLIENTS:
    client = module.InferenceServerClient(address[listener])
    check_cuda(client, module)
    if allowed:
        check_on(client, module)
        check_words(client, module)
    else:
        check_off(client, module)
if allowed:
    asyncio.run(asynchronous())
print("shared memory ok")
