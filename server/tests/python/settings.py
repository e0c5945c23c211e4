"""Trace and log settings with Triton's clients: settings.py PORTS TRACE_FILE"""

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
BACK = {"trace_level": None, "trace_rate": None, "trace_count": None, "log_frequency": None}


def plain(settings, kind):
    if kind is tritonclient.http:
        return settings
    values = {name: list(setting.value) for name, setting in settings.settings.items()}
    return {name: value if name == "trace_level" else value[0] for name, value in values.items()}


def logged(settings, kind):
    if kind is tritonclient.http:
        return settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in settings.settings.items()}


def infer(client, kind, request_id=""):
    sent = kind.InferInput("x", numbers.shape, "FP32")
    sent.set_data_from_numpy(numbers)
    client.infer("identity", [sent], request_id=request_id)


def entries(path, wanted):
    """The traces in a file, once there are as many as wanted: they are written behind the answers."""
    for _ in range(3000):
        read = json.loads(path.read_text()) if path.exists() else []
        heads = [entry for entry in read if "model_name" in entry]
        if len(heads) >= wanted:
            assert len(heads) == wanted, heads
            return heads, {entry["id"]: entry["timestamps"] for entry in read if "timestamps" in entry}
        time.sleep(0.01)
    raise AssertionError(f"{path} has {len(heads)} traces, wanted are {wanted}")


def check_traces(client, kind, first):
    assert plain(client.get_trace_settings(), kind) == DEFAULTS
    changed = client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "2"})
    assert plain(changed, kind) == DEFAULTS | {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"}
    for number in range(6):
        infer(client, kind, f"r{number}")
    heads, timestamps = entries(trace_file, first + 3)
    assert [head["request_id"] for head in heads[-3:]] == ["r1", "r3", "r5"], heads
    assert all(head["model_name"] == "identity" and head["model_version"] == 1 for head in heads)
    names = [stamp["name"] for stamp in timestamps[heads[-1]["id"]]]
    start = "HTTP_RECV_START" if kind is tritonclient.http else "GRPC_WAITREAD_START"
    assert names[0] == start and names[-1] == start.split("_")[0] + "_SEND_END" and {"REQUEST_START", "QUEUE_START", "COMPUTE_START", "REQUEST_END"} < set(names), names

    # Of a model of its own: two, in a file for each one.
    own = {"trace_rate": "1", "trace_count": "2", "log_frequency": "1"}
    changed = client.update_trace_settings("identity", own)
    assert plain(changed, kind) == DEFAULTS | {"trace_level": ["TIMESTAMPS"]} | own
    before = len(list(trace_file.parent.glob("trace.json.*")))
    for number in range(5):
        infer(client, kind)
    for number in range(2):
        entries(trace_file.with_name(f"trace.json.{before + number}"), 1)
    assert plain(client.get_trace_settings(), kind)["trace_rate"] == "2"

    refused("trace file location can not be updated", client.update_trace_settings, None, {"trace_file": "/tmp/x"})
    refused("trace mode can not be updated", client.update_trace_settings, None, {"trace_mode": "opentelemetry"})
    refused("'MAX' is not supported", client.update_trace_settings, None, {"trace_level": ["MAX"]})
    refused("Unable to parse 'trace_rate', got: abc", client.update_trace_settings, None, {"trace_rate": "abc"})
    refused("Expecting value >= -1", client.update_trace_settings, None, {"trace_count": "-5"})
    refused("Request for unknown model : nosuch", client.get_trace_settings, "nosuch")
    assert plain(client.update_trace_settings("identity", BACK), kind)["trace_count"] == "-1"
    assert plain(client.update_trace_settings(settings=BACK), kind) == DEFAULTS
    infer(client, kind)
    assert len(entries(trace_file, len(entries(trace_file, first + 3)[0]))[0]) == first + 3


def check_logging(client, kind):
    settings = logged(client.get_log_settings(), kind)
    wanted = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}
    assert settings == wanted, settings
    changed = client.update_log_settings({"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"})
    assert logged(changed, kind) == wanted | {"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"}
    refused("log file location can not be updated", client.update_log_settings, {"log_file": "/tmp/x"})
    if kind is tritonclient.http:
        refused("log_verbose_level", client.update_log_settings, {"log_verbose_level": "a"})
    refused("log_format", client.update_log_settings, {"log_format": "foo"})
    back = client.update_log_settings({"log_verbose_level": 0, "log_info": True, "log_format": "default"})
    assert logged(back, kind) == wanted


async def asynchronous():
    async with tritonclient.http.aio.InferenceServerClient(address["http"]) as client:
        assert (await client.get_trace_settings())["trace_level"] == ["OFF"]
        assert (await client.update_log_settings({"log_info": True}))["log_info"]
    async with tritonclient.grpc.aio.InferenceServerClient(address["grpc"]) as client:
        assert list((await client.get_trace_settings()).settings["trace_level"].value) == ["OFF"]
        assert (await client.get_log_settings()).settings["log_info"].bool_param


for first, (kind, listener) in ((0, (tritonclient.http, "http")), (3, (tritonclient.grpc, "grpc"))):
    client = kind.InferenceServerClient(address[listener])
    check_traces(client, kind, first)
    check_logging(client, kind)
# What is switched off is not written: the test looks for these models in the log.
client.update_log_settings({"log_info": False})
client.load_model("words")
client.update_log_settings({"log_info": True, "log_format": "json"})
client.load_model("sum")
asyncio.run(asynchronous())
print("settings ok")
