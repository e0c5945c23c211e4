"""Reads and changes trace and log settings with Triton's clients: settings.py PORTS TRACE_FILE"""

import asyncio
import json
import pathlib
import sys
import time

import numpy
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from answers import refused

ports, trace_file = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
numbers = numpy.ones((1, 4), numpy.float32)
DEFAULTS = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": str(trace_file),
    "trace_mode": "triton",
}
RESET = {"trace_level": None, "trace_rate": None, "trace_count": None, "log_frequency": None}


def trace_settings(settings, module):
    """The trace settings in a response, as HTTP has them."""
    if module is tritonclient.http:
        return settings
    values = {name: list(setting.value) for name, setting in settings.settings.items()}
    return {name: value if name == "trace_level" else value[0] for name, value in values.items()}


def log_settings(settings, module):
    """The log settings in a response, as HTTP has them."""
    if module is tritonclient.http:
        return settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in settings.settings.items()}


def infer(client, module, request_id=""):
    tensor = module.InferInput("x", numbers.shape, "FP32")
    tensor.set_data_from_numpy(numbers)
    client.infer("identity", [tensor], request_id=request_id)


def traces(path, count):
    """Waits until a file has `count` traces, which are written after the responses; returns them and their timestamps."""
    for _ in range(3000):
        entries = json.loads(path.read_text()) if path.exists() else []
        heads = [entry for entry in entries if "model_name" in entry]
        if len(heads) >= count:
            assert len(heads) == count, heads
            return heads, {entry["id"]: entry["timestamps"] for entry in entries if "timestamps" in entry}
        time.sleep(0.01)
    raise AssertionError(f"{path} has {len(heads)} traces, expected {count}")


def check_traces(client, module, first):
    assert trace_settings(client.get_trace_settings(), module) == DEFAULTS
    changed = client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "2"})
    assert trace_settings(changed, module) == DEFAULTS | {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"}
    for number in range(6):
        infer(client, module, f"r{number}")
    heads, timestamps = traces(trace_file, first + 3)
    assert [head["request_id"] for head in heads[-3:]] == ["r1", "r3", "r5"], heads
    assert all(head["model_name"] == "identity" and head["model_version"] == 1 for head in heads)
    names = [stamp["name"] for stamp in timestamps[heads[-1]["id"]]]
    start = "HTTP_RECV_START" if module is tritonclient.http else "GRPC_WAITREAD_START"
    assert names[0] == start and names[-1] == start.split("_")[0] + "_SEND_END" and {"REQUEST_START", "QUEUE_START", "COMPUTE_START", "REQUEST_END"} < set(names), names

    # Settings of one model: two traces, each in its own file.
    own = {"trace_rate": "1", "trace_count": "2", "log_frequency": "1"}
    changed = client.update_trace_settings("identity", own)
    assert trace_settings(changed, module) == DEFAULTS | {"trace_level": ["TIMESTAMPS"]} | own
    before = len(list(trace_file.parent.glob("trace.json.*")))
    for number in range(5):
        infer(client, module)
    for number in range(2):
        traces(trace_file.with_name(f"trace.json.{before + number}"), 1)
    assert trace_settings(client.get_trace_settings(), module)["trace_rate"] == "2"

    refused("trace file location can not be updated", client.update_trace_settings, None, {"trace_file": "/tmp/x"})
    refused("trace mode can not be updated", client.update_trace_settings, None, {"trace_mode": "opentelemetry"})
    refused("'MAX' is not supported", client.update_trace_settings, None, {"trace_level": ["MAX"]})
    refused("Unable to parse 'trace_rate', got: abc", client.update_trace_settings, None, {"trace_rate": "abc"})
    refused("Expecting value >= -1", client.update_trace_settings, None, {"trace_count": "-5"})
    refused("Request for unknown model : nosuch", client.get_trace_settings, "nosuch")
    assert trace_settings(client.update_trace_settings("identity", RESET), module)["trace_count"] == "-1"
    assert trace_settings(client.update_trace_settings(settings=RESET), module) == DEFAULTS
    infer(client, module)
    assert len(traces(trace_file, len(traces(trace_file, first + 3)[0]))[0]) == first + 3


def check_logging(client, module):
    settings = log_settings(client.get_log_settings(), module)
    defaults = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}
    assert settings == defaults, settings
    changed = client.update_log_settings({"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"})
    assert log_settings(changed, module) == defaults | {"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"}
    refused("log file location can not be updated", client.update_log_settings, {"log_file": "/tmp/x"})
    if module is tritonclient.http:
        refused("log_verbose_level", client.update_log_settings, {"log_verbose_level": "a"})
    refused("log_format", client.update_log_settings, {"log_format": "foo"})
    reset = client.update_log_settings({"log_verbose_level": 0, "log_info": True, "log_format": "default"})
    assert log_settings(reset, module) == defaults


async def asynchronous():
    async with tritonclient.http.aio.InferenceServerClient(address["http"]) as client:
        assert (await client.get_trace_settings())["trace_level"] == ["OFF"]
        assert (await client.update_log_settings({"log_info": True}))["log_info"]
    async with tritonclient.grpc.aio.InferenceServerClient(address["grpc"]) as client:
        assert list((await client.get_trace_settings()).settings["trace_level"].value) == ["OFF"]
        assert (await client.get_log_settings()).settings["log_info"].bool_param


for first, (module, listener) in ((0, (tritonclient.http, "http")), (3, (tritonclient.grpc, "grpc"))):
    client = module.InferenceServerClient(address[listener])
    check_traces(client, module, first)
    check_logging(client, module)
# The Rust test checks the log: "words" was loaded while log_info was off, "sum" while it was on.
client.update_log_settings({"log_info": False})
client.load_model("words")
client.update_log_settings({"log_info": True, "log_format": "json"})
client.load_model("sum")
asyncio.run(asynchronous())
print("settings ok")
