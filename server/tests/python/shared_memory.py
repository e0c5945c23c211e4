"""Tensors in system shared memory with Triton's clients: shared_memory.py PORTS on|off"""

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
KINDS = ((tritonclient.http, "http"), (tritonclient.grpc, "grpc"))
OFFSET, SIZE = 4096, 8 * 1000 * 4
numbers = numpy.arange(8000, dtype=numpy.float32).reshape(8, 1000)


def region(name, size):
    return shm.create_shared_memory_region(name, f"/quintet-{ports['http']}-{name}", size)


def request(kind, in_offset=OFFSET, out_offset=0, out_size=SIZE):
    sent = kind.InferInput("x", numbers.shape, "FP32")
    sent.set_shared_memory("in", SIZE, offset=in_offset)
    wanted = kind.InferRequestedOutput("y")
    wanted.set_shared_memory("out", out_size, offset=out_offset)
    return [sent], [wanted]


def registered(client, kind, name=""):
    status = client.get_system_shared_memory_status(name)
    if kind is tritonclient.http:
        return {entry["name"]: entry["byte_size"] for entry in status}
    return {entry.name: entry.byte_size for entry in status.regions.values()}


def check_off(client, kind):
    refused("--allow-client-shm", client.register_system_shared_memory, "in", "/x", 8)
    refused("--allow-client-shm", client.get_system_shared_memory_status)
    refused("--allow-client-shm", client.unregister_system_shared_memory)
    inputs, outputs = request(kind)
    refused("--allow-client-shm", client.infer, "identity", inputs)


def check_on(client, kind):
    key = f"/quintet-{ports['http']}-"
    incoming, outgoing = region("in", OFFSET + SIZE), region("out", 2 * SIZE)
    try:
        shm.set_shared_memory_region(incoming, [numbers], offset=OFFSET)
        client.register_system_shared_memory("in", key + "in", OFFSET + SIZE)
        client.register_system_shared_memory("out", key + "out", 2 * SIZE)
        assert registered(client, kind) == {"in": OFFSET + SIZE, "out": 2 * SIZE}
        assert registered(client, kind, "in") == {"in": OFFSET + SIZE}
        refused("already in manager", client.register_system_shared_memory, "in", key + "in", 8)
        refused("Unable to open shared memory region: '/nosuch'", client.register_system_shared_memory, "n", "/nosuch", 8)
        refused("Unable to open shared memory region", client.register_system_shared_memory, "n", "/../etc/passwd", 8)
        refused("Invalid shared memory region", client.register_system_shared_memory, "n", key + "in", 1 << 30)
        refused("Unable to find system shared memory region: 'n'", client.get_system_shared_memory_status, "n")

        inputs, outputs = request(kind)
        result = client.infer("identity", inputs, outputs=outputs)
        described = result.get_output("y")
        shape = described["shape"] if kind is tritonclient.http else list(described.shape)
        assert (shm.get_contents_as_numpy(outgoing, numpy.float32, shape) == numbers).all()
        # Behind another tensor, and the data is not in the answer.
        inputs, outputs = request(kind, out_offset=SIZE)
        result = client.infer("identity", inputs, outputs=outputs)
        if kind is tritonclient.http:
            # Triton's C++ client takes any parameters for those of binary data.
            assert not {"data", "parameters"} & set(result.get_output("y")), result.get_response()
        else:
            assert not any(result.get_response().raw_output_contents)
        assert (shm.get_contents_as_numpy(outgoing, numpy.float32, shape, offset=SIZE) == numbers).all()
        # Only the input is there.
        assert (client.infer("identity", inputs).as_numpy("y") == numbers).all()

        # Over the input, and over it by way of another region: what is read is not what was written meanwhile.
        for name in ("in", "twin"):
            inputs, outputs = request(kind)
            outputs[0].set_shared_memory(name, SIZE, offset=OFFSET - 64)
            if name == "twin":
                client.register_system_shared_memory("twin", key + "in", OFFSET + SIZE)
            shm.set_shared_memory_region(incoming, [numbers], offset=OFFSET)
            client.infer("identity", inputs, outputs=outputs)
            assert (shm.get_contents_as_numpy(incoming, numpy.float32, shape, offset=OFFSET - 64) == numbers).all()
        client.unregister_system_shared_memory("twin")
        shm.set_shared_memory_region(incoming, [numbers], offset=OFFSET)

        words = "Invalid offset + byte size for shared memory region"
        refused(words, client.infer, "identity", request(kind, in_offset=OFFSET + 4)[0])
        refused("Invalid offset for shared memory", client.infer, "identity", request(kind, in_offset=1 << 40)[0])
        inputs, outputs = request(kind, out_size=100)
        refused("output 'y' (100 bytes) should be at least 32000 bytes", client.infer, "identity", inputs, outputs=outputs)
        client.unregister_system_shared_memory("in")
        refused("Unable to find shared memory region: 'in'", client.infer, "identity", inputs)
        client.unregister_system_shared_memory()
        assert registered(client, kind) == {}
    finally:
        shm.destroy_shared_memory_region(incoming)
        shm.destroy_shared_memory_region(outgoing)


def check_words(client, kind):
    words = numpy.array([["shared", "memory", ""]], dtype=object)
    serialized = serialize_byte_tensor(words)
    handle = region("words", 4096)
    try:
        shm.set_shared_memory_region(handle, [serialized])
        client.register_system_shared_memory("words", f"/quintet-{ports['http']}-words", 4096)
        sent = kind.InferInput("x", [1, 3], "BYTES")
        sent.set_shared_memory("words", len(serialized.item()))
        answered = client.infer("words", [sent]).as_numpy("y")
        assert answered.tolist() == [[b"shared", b"memory", b""]], answered
        client.unregister_system_shared_memory("words")
    finally:
        shm.destroy_shared_memory_region(handle)


def check_cuda(client, kind):
    status = client.get_cuda_shared_memory_status()
    assert status == [] if kind is tritonclient.http else len(status.regions) == 0
    refused("CUDA shared memory is not supported", client.register_cuda_shared_memory, "c", b"AAAA", 0, 16)
    client.unregister_cuda_shared_memory()


async def asynchronous():
    handle = region("in", SIZE)
    try:
        shm.set_shared_memory_region(handle, [numbers])
        for kind, plain, listener in (
            (tritonclient.http.aio, tritonclient.http, "http"),
            (tritonclient.grpc.aio, tritonclient.grpc, "grpc"),
        ):
            async with kind.InferenceServerClient(address[listener]) as client:
                await client.register_system_shared_memory("in", f"/quintet-{ports['http']}-in", SIZE)
                inputs, _ = request(plain, in_offset=0)
                assert ((await client.infer("identity", inputs)).as_numpy("y") == numbers).all()
                await client.unregister_system_shared_memory("in")
    finally:
        shm.destroy_shared_memory_region(handle)


for kind, listener in KINDS:
    client = kind.InferenceServerClient(address[listener])
    check_cuda(client, kind)
    if allowed:
        check_on(client, kind)
        check_words(client, kind)
    else:
        check_off(client, kind)
if allowed:
    asyncio.run(asynchronous())
print("shared memory ok")
