"""Attacks running servers as strangers would, and prints a Markdown table with a column for each server.

under_fire.py ONLY MODEL MAX_CONNECTIONS SECONDS NAME=PID,HTTP,GRPC,METRICS...

Only the attacks whose names match the regular expression ONLY are made.

Each server serves MODEL (FP32 `image` [3, 224, 224], as quintet-models builds it) and `identity` in Triton mode, on the
given ports of 127.0.0.1, with at most MAX_CONNECTIONS connections for each listener. Each load lasts SECONDS; servers take
turns. Progress goes to stderr.
"""

import asyncio
import collections
import json
import re
import resource
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

ONLY, MODEL, MAX_CONNECTIONS, SECONDS = re.compile(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
Server = collections.namedtuple("Server", "name pid http grpc metrics")
ANNOUNCED_BYTES = 64 << 20
ANNOUNCING_CONNECTIONS = 1000
PATIENCE_S = 0.5
ROW_BYTES = 3 * 224 * 224 * 4
INFER = "/inference.GRPCInferenceService/ModelInfer"
REQUEST_LIMIT_S = 90
CHANNELS = 8


def parse(text):
    name, numbers = text.split("=", 1)
    return Server(name, *map(int, numbers.split(",")))


def resident_mib(server):
    with open(f"/proc/{server.pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def connect(port):
    connection = socket.socket()
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port))
    return connection


def http_announcement(path):
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {ANNOUNCED_BYTES}\r\n\r\n".encode()


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def grpc_announcement():
    """A connection preface, SETTINGS, a call's head, and the five bytes that announce its message."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER.encode()), (b":authority", b"127.0.0.1")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    head = b"".join(literal(*field) for field in fields)
    prefix = b"\0" + struct.pack(">I", ANNOUNCED_BYTES)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, head) + frame(0, 0, 1, prefix)


def announced(server, port, announcement):
    """How much memory many connections take that announce a body and send none."""
    before = resident_mib(server)
    connections = []
    for _ in range(ANNOUNCING_CONNECTIONS):
        try:
            connection = connect(port)
            connection.sendall(announcement)
            connections.append(connection)
        except OSError:
            break
    time.sleep(2)
    grown = resident_mib(server) - before
    for connection in connections:
        connection.close()
    time.sleep(1)
    return f"{grown:.0f} MiB ({len(connections)} connections)"


def health(server, limit_s=REQUEST_LIMIT_S):
    started = time.monotonic()
    urllib.request.urlopen(f"http://127.0.0.1:{server.http}/v2/health/live", timeout=limit_s).read()
    return time.monotonic() - started


def probe_beside(server, work):
    """The seconds of `work`, and the longest health probe of four clients beside it."""
    stop, times = threading.Event(), [0.0]

    def probe():
        while not stop.is_set():
            try:
                times.append(health(server))
            except OSError:
                times.append(float(REQUEST_LIMIT_S))
            time.sleep(0.02)

    threads = [threading.Thread(target=probe) for _ in range(4)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    outcome = work()
    elapsed = time.monotonic() - started
    stop.set()
    for thread in threads:
        thread.join()
    return elapsed, max(times), outcome


def post(server, body):
    url = f"http://127.0.0.1:{server.http}/v2/models/identity/infer"
    try:
        urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=REQUEST_LIMIT_S).read()
        return "200"
    except urllib.error.HTTPError as error:
        error.read()
        return str(error.code)
    except OSError as error:
        return type(error).__name__


def call(server, message):
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}", options) as channel:
        method = channel.unary_unary(INFER)
        try:
            method(message, timeout=REQUEST_LIMIT_S)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


def inputs_json(count, same):
    entries = [{"name": "x" if same else f"x{n}", "shape": [1, 1], "datatype": "FP32", "data": [1]} for n in range(count)]
    return json.dumps({"inputs": entries}).encode()


def outputs_json(count):
    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    return json.dumps({"inputs": [x], "outputs": [{"name": f"y{n}"} for n in range(count)]}).encode()


def parameters_json(count):
    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    return json.dumps({"inputs": [x], "parameters": {f"p{n}": n for n in range(count)}}).encode()


def inputs_message(count, same):
    request = service_pb2.ModelInferRequest(model_name="identity")
    for n in range(count):
        request.inputs.add(name="x" if same else f"x{n}", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    return request.SerializeToString()


def outputs_message(count):
    request = one_input()
    for n in range(count):
        request.outputs.add(name=f"y{n}")
    return request.SerializeToString()


def parameters_message(count):
    request = one_input()
    for n in range(count):
        request.parameters[f"p{n}"].int64_param = n
    return request.SerializeToString()


def raw_message(count):
    request = one_input()
    request.raw_input_contents.extend([bytes(4)] * count)
    return request.SerializeToString()


def one_input():
    request = service_pb2.ModelInferRequest(model_name="identity")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    return request


MANY = {
    "inputs, JSON": lambda server, n: (post, inputs_json(n, same=False)),
    "equal inputs, JSON": lambda server, n: (post, inputs_json(n, same=True)),
    "outputs, JSON": lambda server, n: (post, outputs_json(n)),
    "parameters, JSON": lambda server, n: (post, parameters_json(n)),
    "inputs, gRPC": lambda server, n: (call, inputs_message(n, same=False)),
    "equal inputs, gRPC": lambda server, n: (call, inputs_message(n, same=True)),
    "outputs, gRPC": lambda server, n: (call, outputs_message(n)),
    "parameters, gRPC": lambda server, n: (call, parameters_message(n)),
    "raw inputs, gRPC": lambda server, n: (call, raw_message(n)),
}


def many(server, make):
    """The seconds of requests with 100,000 and 400,000 parts, and the longest probe beside them."""
    parts = []
    for count in (100_000, 400_000):
        send, body = make(server, count)
        elapsed, probe, outcome = probe_beside(server, lambda: send(server, body))
        parts.append(f"{elapsed:.2f} s ({outcome}, probe {1000 * probe:.0f} ms)")
    return " / ".join(parts)


def silent(server):
    """How long a health probe takes beside as many silent connections as the limit, and 100 more."""
    connections = []
    for _ in range(MAX_CONNECTIONS + 100):
        try:
            connections.append(connect(server.http))
        except OSError:
            break
    try:
        answer = f"{health(server, 20):.2f} s"
    except OSError as error:
        answer = f"none in 20 s ({type(error).__name__})"
    for connection in connections:
        connection.close()
    time.sleep(1)
    return answer


def http_request():
    image = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": ROW_BYTES}}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    start = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nInference-Header-Content-Length: {len(head)}\r\n"
    return f"{start}Content-Length: {len(head) + ROW_BYTES}\r\n\r\n".encode() + head + bytes(ROW_BYTES)


HTTP_REQUEST = http_request()


def grpc_request():
    request = service_pb2.ModelInferRequest(model_name=MODEL, raw_input_contents=[bytes(ROW_BYTES)])
    request.inputs.add(name="image", datatype="FP32", shape=[1, 3, 224, 224])
    return request.SerializeToString()


GRPC_REQUEST = grpc_request()


async def ask_http(server, _):
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http, limit=1 << 20)
        writer.write(HTTP_REQUEST)
        await writer.drain()
        return (await reader.readline()).split()[1].decode()
    finally:
        if writer:
            writer.close()


async def ask_grpc(_, method):
    try:
        await method(GRPC_REQUEST, timeout=PATIENCE_S)
        return "200"
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def open_loop(server, ask, methods, rate):
    """Requests at a fixed rate, whose clients give up after PATIENCE_S: their outcomes and the latencies of good ones."""
    outcomes, latencies, tasks = collections.Counter(), [], []

    async def one(method):
        started = time.monotonic()
        try:
            outcome = await asyncio.wait_for(ask(server, method), PATIENCE_S)
            if outcome == "200":
                latencies.append(time.monotonic() - started)
        except asyncio.TimeoutError:
            outcome = "gave up"
        except (OSError, IndexError) as error:
            outcome = type(error).__name__
        outcomes[outcome] += 1

    started = time.monotonic()
    for n in range(int(rate * SECONDS)):
        await asyncio.sleep(max(0.0, started + n / rate - time.monotonic()))
        tasks.append(asyncio.create_task(one(methods[n % len(methods)])))
    await asyncio.gather(*tasks)
    return outcomes, sorted(latencies)


async def capacity(server, ask, methods):
    """Answers a second with two clients that ask again at once."""
    done, end = 0, time.monotonic() + SECONDS

    async def client(method):
        nonlocal done
        while time.monotonic() < end:
            outcome = await ask(server, method)
            done += outcome == "200"

    await asyncio.gather(*(client(method) for method in methods[:2]))
    return done / SECONDS


async def overload(servers, ask):
    """Goodput at multiples of the capacity; a table row each."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    channels = {s: [grpc.aio.insecure_channel(f"127.0.0.1:{s.grpc}", options) for _ in range(CHANNELS)] for s in servers}
    methods = {server: [channel.unary_unary(INFER) for channel in channels[server]] for server in servers}
    capacities = {}
    for server in servers:
        await capacity(server, ask, methods[server])
        capacities[server] = await capacity(server, ask, methods[server])
    rows = [("capacity", [f"{capacities[server]:.1f}/s" for server in servers])]
    least = min(capacities.values())
    for factor in (0.8, 1, 3, 10):
        cells = []
        for server in servers:
            print(f"{factor} x capacity, {server.name}", file=sys.stderr)
            outcomes, latencies = await open_loop(server, ask, methods[server], factor * least)
            good = outcomes["200"] / SECONDS
            p99 = f", p99 {1000 * latencies[int(0.99 * len(latencies))]:.0f} ms" if latencies else ""
            cells.append(f"{good:.1f}/s, {good / capacities[server]:.2f} of capacity{p99} {dict(outcomes)}")
            await asyncio.sleep(2)
        rows.append((f"{factor} x capacity ({factor * least:.0f}/s)", cells))
    for channel in (channel for own in channels.values() for channel in own):
        await channel.close()
    return rows


def attacks():
    """Each attack's name, and the function from the servers to its table rows."""

    def alone(name, attack):
        return name, lambda servers: [(name, [attack(server) for server in servers])]

    yield alone("silent connections: time of a health probe", silent)
    for name, make in MANY.items():
        yield alone(f"100,000 / 400,000 {name}", lambda server, make=make: many(server, make))
    for name, ask in (("HTTP", ask_http), ("gRPC", ask_grpc)):
        yield f"overload, {name}", lambda servers, ask=ask: asyncio.run(overload(servers, ask))
    ports = [("HTTP", "http", http_announcement("/v2/models/identity/infer"))]
    ports += [("gRPC", "grpc", grpc_announcement()), ("metrics", "metrics", http_announcement("/metrics"))]
    for name, port, announcement in ports:
        yield alone(
            f"announced bodies of 64 MiB, {name}: memory",
            lambda server, port=port, bytes_=announcement: announced(server, getattr(server, port), bytes_),
        )


def main():
    servers = [parse(text) for text in sys.argv[5:]]
    wanted = 4 * max(MAX_CONNECTIONS, ANNOUNCING_CONNECTIONS) + 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    print("| attack | " + " | ".join(server.name for server in servers) + " |")
    print("|---|" + "---|" * len(servers), flush=True)
    for name, attack in attacks():
        if ONLY.search(name):
            print(name, file=sys.stderr)
            for part, cells in attack(servers):
                label = name if part == name else f"{name}: {part}"
                print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


main()
