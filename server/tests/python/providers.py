"""Checks that metadata, metrics and /gpu-info report the effective provider: providers.py PORTS MODEL"""

import json
import sys
import urllib.request

ports, model = json.loads(sys.argv[1]), sys.argv[2]


def get(listener, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{ports[listener]}{path}")


for service in ("onnx", "trt"):
    headers = get(f"{service}-http", f"/v2/models/{model}").headers
    assert headers["quintet-effective-provider"] == "CPUExecutionProvider", headers.items()
    reason = headers["quintet-provider-reason"]
    assert reason.startswith("tensorrt: " if service == "trt" else "cuda: "), reason
    metrics = get(f"{service}-metrics", "/metrics").read().decode()
    line = next(line for line in metrics.splitlines() if line.startswith("quintet_model_provider_info{"))
    assert 'provider="CPUExecutionProvider"' in line and reason[:10] in line, line
info = json.load(get("jpeg", "/gpu-info"))
print(json.dumps(info))
assert "CPUExecutionProvider" in json.dumps(info)
print("providers ok")
