"""Serves a model with the stock tritonserver, benchmarks it together with the suite, and checks the report.

    stock_triton.py MODEL.onnx QUINTET_BENCH FLAG...     (`cargo xtask bench-triton` runs it)

The flags are the addresses of the suite. The wheel does not have Triton's ONNX backend, so the model runs in the Python
backend.
"""

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

REQUESTS = 8
# The parts of the latency that stock Triton does not report.
NOT_REPORTED = {"network", "receive", "parse", "gather", "encode"}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def triton(model, http, grpc, metrics):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    @batch
    def infer(image):
        return session.run(["embedding"], {"image": image})

    server = Triton(
        config=TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics),
        # pytriton hides the statistics by default; Triton itself shows them.
        security_config=TritonSecurityConfig(restricted_endpoints=[]),
    )
    server.bind(
        model_name=model.parents[1].name,
        infer_func=infer,
        inputs=[Tensor(name="image", dtype=numpy.float32, shape=(3, 224, 224))],
        outputs=[Tensor(name="embedding", dtype=numpy.float32, shape=(512,))],
        config=ModelConfig(max_batch_size=32),
    )
    server.run()
    return server


def check(report):
    """Checks the server counters, the waterfall and the pairing of both servers' lanes in the report."""
    cells = {cell["lane"]: cell for cell in report["cells"]}
    servers = {lane["lane"]: lane["server"] for lane in report["lanes"]}
    for lane in ["triton/onnx-http", "triton/onnx-grpc"]:
        cell = cells[lane]
        assert servers[lane] == "triton 2.51.0", servers[lane]
        assert cell["server"], cell["server_missing"]
        assert cell["server"]["counted"] == cell["server"]["expected"] == REQUESTS, cell["server"]
        waterfall = cell["waterfall"]
        parts = {part["part"]: part["ms"] and part["ms"]["value"] for part in waterfall["parts"]}
        assert waterfall["source"] == "counters", waterfall["source"]
        assert {name for name, ms in parts.items() if ms is None} == NOT_REPORTED, parts
        reported = sum(parts[name] for name in ["queue", "copy_in", "infer", "copy_out"])
        assert 0 < reported < cell["latency_ms"]["mean"]["value"], (reported, cell["latency_ms"])
        assert parts["unknown"] > 0 and abs(waterfall["gap"]) < 0.03, waterfall
        suite_lane = lane.removeprefix("triton/")
        assert cells[suite_lane]["waterfall"]["source"] == "stage-times", suite_lane
        pairs = [d for d in report["differences"] if (d["a"], d["b"]) == (suite_lane, lane)]
        assert len(pairs) == 1 and pairs[0]["paired"], pairs
    assert all(pair["agree"] for pair in report["outputs"]["pairs"]), report["outputs"]
    forbidden = {"server-count-mismatch", "outputs-differ", "request-errors", "no-server-counters"}
    assert not [warning for warning in report["warnings"] if warning["code"] in forbidden], report["warnings"]


def main():
    model, program, *flags = sys.argv[1:]
    model = Path(model).resolve()
    http, grpc, metrics = free_ports(3)
    with tempfile.TemporaryDirectory() as folder, triton(model, http, grpc, metrics):
        command = [program, "run", "--model", model.parents[1].name, "--output", folder, *flags]
        command += [f"--against=triton=onnx-http=127.0.0.1:{http},onnx-grpc=127.0.0.1:{grpc}", "--skip=trt,jpeg"]
        command += ["--batches=1", "--concurrency", f"--iterations={REQUESTS}", "--blocks=4"]
        subprocess.run(command, check=True)
        check(json.loads(next(Path(folder).rglob("report.json")).read_text()))
    print("ok: the report on the suite and the stock tritonserver is correct")


if __name__ == "__main__":
    main()
