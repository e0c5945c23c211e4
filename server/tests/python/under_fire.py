"""Measures what strangers can make a running server hold and compute: announced bodies, and requests with many parts.

    under_fire.py announced --http PORT --grpc PORT --metrics PORT --pid PID [--connections 1000]
    under_fire.py many --http PORT --grpc PORT --model NAME [--counts 100000 400000]

`announced` opens connections that announce 64 MiB each and send nothing, and prints by how much the server's resident
memory grows. `many` sends requests with many inputs, duplicates, outputs and parameters to a model with one or more
inputs, and prints how long each takes and the slowest health probe meanwhile.
"""

import argparse
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

BODY_BYTES = 64 << 20


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def announce_http(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode())
    return connection


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def announce_grpc(port):
    """A call whose message is announced as 64 MiB, of which only the prefix is sent."""

    def field(name, value):
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    headers = b"".join(
        field(name, value)
        for name, value in [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
    )
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, b"")
        + frame(1, 4, 1, headers)
        + frame(0, 0, 1, b"\x00" + struct.pack(">I", BODY_BYTES - 64))
    )
    return connection


def announced(arguments):
    for name, port, announce in [
        ("HTTP", arguments.http, announce_http),
        ("gRPC", arguments.grpc, announce_grpc),
        ("metrics", arguments.metrics, announce_http),
    ]:
        if not port:
            continue
        before = resident_mib(arguments.pid)
        connections = [announce(port) for _ in range(arguments.connections)]
        time.sleep(2)
        after = resident_mib(arguments.pid)
        print(f"{name}: {arguments.connections} connections, resident {before:.0f} to {after:.0f} MiB", flush=True)
        for connection in connections:
            connection.close()
        time.sleep(1)


class Probes:
    """Health probes over HTTP while a request runs."""

    def __init__(self, port):
        self.port, self.stop, self.slowest = port, threading.Event(), 0.0
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def run(self):
        while not self.stop.is_set():
            start = time.time()
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/live", timeout=300).read()
            self.slowest = max(self.slowest, time.time() - start)
            time.sleep(0.02)

    def __enter__(self):
        [thread.start() for thread in self.threads]
        time.sleep(0.2)
        self.slowest = 0.0
        return self

    def __exit__(self, *_):
        self.stop.set()
        [thread.join() for thread in self.threads]


def over_http(port, model):
    tensor = lambda name: {"name": name, "shape": [1], "datatype": "INT32", "data": [1]}
    requests = {
        "inputs": lambda n: {"inputs": [tensor(f"i{k}") for k in range(n)]},
        "duplicates": lambda n: {"inputs": [tensor("INPUT0")] * n},
        "outputs": lambda n: {"inputs": [tensor("INPUT0")], "outputs": [{"name": f"o{k}"} for k in range(n)]},
        "parameters": lambda n: {"inputs": [tensor("INPUT0")], "parameters": {f"p{k}": 1 for k in range(n)}},
    }

    def send(body):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/{model}/infer", data=body)
        try:
            return urllib.request.urlopen(request, timeout=600).status
        except urllib.error.HTTPError as error:
            error.read()
            return error.code

    return {f"HTTP {name}": (lambda n, make=make: json.dumps(make(n)).encode(), send) for name, make in requests.items()}


def over_grpc(port, model):
    import grpc
    from tritonclient.grpc import service_pb2 as pb

    call = grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    ).unary_unary("/inference.GRPCInferenceService/ModelInfer")
    tensor = pb.ModelInferRequest.InferInputTensor
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor
    one = tensor(name="INPUT0", shape=[1], datatype="INT32")
    number = lambda value: pb.InferParameter(int64_param=value)
    requests = {
        "inputs": lambda n: {
            "inputs": [tensor(name=f"i{k}", shape=[1], datatype="INT32") for k in range(n)],
            "raw_input_contents": [b"1234"] * n,
        },
        "duplicates": lambda n: {"inputs": [one] * n, "raw_input_contents": [b"1234"] * n},
        "raw contents": lambda n: {"inputs": [one], "raw_input_contents": [b"1234"] * n},
        "outputs": lambda n: {
            "inputs": [one],
            "raw_input_contents": [b"1234"],
            "outputs": [wanted(name=f"o{k}") for k in range(n)],
        },
        "parameters": lambda n: {
            "inputs": [one],
            "raw_input_contents": [b"1234"],
            "parameters": {f"p{k}": number(k) for k in range(n)},
        },
    }

    def send(message):
        try:
            call(message, timeout=600)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    make = lambda n, make: pb.ModelInferRequest(model_name=model, **make(n)).SerializeToString()
    return {f"gRPC {name}": (lambda n, parts=parts: make(n, parts), send) for name, parts in requests.items()}


def many(arguments):
    kinds = over_http(arguments.http, arguments.model)
    if arguments.grpc:
        kinds |= over_grpc(arguments.grpc, arguments.model)
    for name, (make, send) in kinds.items():
        for count in arguments.counts:
            body = make(count)
            with Probes(arguments.http) as probes:
                start = time.time()
                status = send(body)
                took = time.time() - start
            print(
                f"{name}: {count} in {len(body) / 1e6:.1f} MB, {status}, {took:.2f} s; "
                f"slowest probe {probes.slowest * 1000:.0f} ms",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["announced", "many"])
    parser.add_argument("--http", type=int, required=True)
    parser.add_argument("--grpc", type=int)
    parser.add_argument("--metrics", type=int)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--model", default="simple")
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 400_000])
    arguments = parser.parse_args()
    {"announced": announced, "many": many}[arguments.what](arguments)


if __name__ == "__main__":
    main()
