"""Runs the examples against a suite: each prints the classes that the jpeg lane gives."""

import json
import os
import re
import unittest
import urllib.request

from suite import suite
from support import ROOT, quintet, run

PHOTOGRAPH = ROOT / "photos/coffee.jpg"
PYTHON = ROOT / ".quintet/venv/bin/python"


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.ports = cls.enterClassContext(suite())
        url = f"http://127.0.0.1:{cls.ports['jpeg']}/classify?k=3"
        with urllib.request.urlopen(urllib.request.Request(url, data=PHOTOGRAPH.read_bytes())) as answer:
            cls.classes = [(it["index"], it["label"]) for it in json.load(answer)["classifications"][0]]

    def address(self, lane, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.ports[lane]}"

    def check(self, line, count=3):
        found = [(int(index), label) for index, label in re.findall(r"-?[\d.]+:(\d+):([^,\"\n]+)", line)]
        self.assertEqual(found, self.classes[:count], line)

    def test_python_over_both_protocols(self):
        for lane in ["onnx-http", "onnx-grpc", "trt-http", "trt-grpc"]:
            address = self.address(lane, lane.split("-")[1])
            printed = run(PYTHON, ROOT / "examples/ask.py", PHOTOGRAPH, address, "resnet18").splitlines()
            self.assertEqual([line.split(":")[0] for line in printed], ["file", "tensor"])
            for line in printed:
                self.check(line.split(": ", 1)[1])

    def test_rust_over_grpc(self):
        self.check(run(quintet("examples/ask"), PHOTOGRAPH, self.address("onnx-grpc"), "resnet18"))

    def test_curl_over_every_port(self):
        ports = {f"{lane.upper().replace('-', '_')}_PORT": str(port) for lane, port in self.ports.items()}
        printed = run(ROOT / "examples/ask.sh", PHOTOGRAPH, env=os.environ | ports | {"HOST": "127.0.0.1"})
        parts = dict(re.findall(r"^== (.*?)[:?\n](.*?)(?=^==|\Z)", printed, re.M | re.S))
        self.assertEqual(len(parts), 8, printed)
        self.assertIn(f'"label":"{self.classes[0][1]}"', parts["jpeg"])
        self.assertIn('"embeddings":[[', parts["jpeg"])
        for service in ["onnx", "trt"]:
            http = parts[f"{service}-http"]
            self.check(http[http.index('"data":') :].splitlines()[0], 2)
            self.assertRegex(http, r"HTTP/1.1 200 OK\r?\n")
            self.assertRegex(parts[f"{service}-grpc"], r"00 00 00 00 02 08 01\n")
        for service in ["jpeg", "onnx", "trt"]:
            self.assertRegex(parts[f"metrics of {service}"], r'nv_inference_request_success\{model="resnet18",.*\} [1-9]')


if __name__ == "__main__":
    unittest.main()
