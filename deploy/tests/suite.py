"""A running suite with a small model, for the checks that need real metrics and answers."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from support import ROOT, quintet, run

LISTENERS = ["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"]
# Long enough for an unoptimised build on a busy machine.
READY_SECONDS = 300


@contextlib.contextmanager
def suite():
    """Serves ResNet-18 with random weights on free ports of this machine's loopback address; yields the ports by listener."""
    with tempfile.TemporaryDirectory() as folder:
        run(quintet("quintet-models"), "build", "--arch=resnet18", "--variants=fp32", f"--output={folder}/models")
        ports = Path(folder, "ports.json")
        flags = [f"--{listener}-port=0" for listener in LISTENERS] + [f"--ports-file={ports}", "--model=resnet18"]
        command = [quintet("quintet-server"), "suite", f"--model-repository={folder}/models", *flags]
        environment = os.environ | {"ORT_DYLIB_PATH": str(ROOT / ".quintet/onnxruntime")}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait(lambda: ports.exists() or server.poll() is not None, READY_SECONDS)
                assert server.poll() is None, "the server ended before it was ready"
                yield json.loads(ports.read_text(encoding="utf-8"))
            finally:
                server.terminate()


def send(ports):
    """One request of each HTTP lane: a photograph to the jpeg lane, a tensor to the others."""
    photograph = (ROOT / "photos/coffee.jpg").read_bytes()
    post(f"http://127.0.0.1:{ports['jpeg']}/classify", photograph, {"content-type": "image/jpeg"})
    for service in ["onnx", "trt"]:
        url = f"http://127.0.0.1:{ports[f'{service}-http']}/v2/models/resnet18/infer"
        post(url, bytes(4 * 3 * 224 * 224), {"inference-header-content-length": "0"})


def post(url, body, headers):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers)) as response:
        response.read()


def wait(condition, seconds):
    """Waits until a condition holds; fails if it does not in time."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not after {seconds} s"
        time.sleep(0.2)
    return result
