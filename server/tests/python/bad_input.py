"""Sends each kind of bad input; checks the status, the message, and that valid requests still succeed.

bad_input.py PORTS MODEL SMALL_PHOTO LARGE_PHOTO
"""

import base64
import http.client
import json
import sys
import threading

import numpy
import tritonclient.grpc
import tritonclient.utils

ports, model, small, large = json.loads(sys.argv[1]), *sys.argv[2:]
small, large = open(small, "rb").read(), open(large, "rb").read()
failures = []

# One connection per listener: an error response must not close it.
connections = {name: http.client.HTTPConnection("127.0.0.1", ports[name], timeout=60) for name in ("jpeg", "onnx-http")}


def expect(case, status, message, response):
    actual, text = response
    if actual != status or message not in text:
        failures.append(f"{case}: expected {status} '{message}', got {actual} '{text[:300]}'")


def post(listener, path, body):
    connection = connections[listener]
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    socket = connection.sock
    response = connection.getresponse()
    text = response.read().decode()
    if connection.sock is not socket:
        failures.append(f"{path}: the server closed the connection after {response.status} {text[:100]}")
    return response.status, json.loads(text)["error"] if response.status != 200 else text


def infer(name=model, version="", tensor="image", shape=(1, 3, 224, 224), datatype="FP32"):
    elements = [0.5] * numpy.prod(shape)
    request = {"inputs": [{"name": tensor, "shape": shape, "datatype": datatype, "data": elements}]}
    return post("onnx-http", f"/v2/models/{name}{version}/infer", json.dumps(request))


expect("unknown model", 404, "Request for unknown model: 'nope' is not found", infer(name="nope"))
expect("unknown version", 404, "version 9", infer(version="/versions/9"))
expect("dtype", 400, "inference input 'image' data-type is 'FP64', but model", infer(datatype="FP64"))
expect("shape", 400, "unexpected shape for input 'image'", infer(shape=(1, 3, 100, 100)))
expect("name", 400, "'picture'", infer(tensor="picture"))
expect("batch", 400, "inference request batch-size must be <= 4", infer(shape=(5, 3, 224, 224)))
expect("missing", 400, "inputs", post("onnx-http", f"/v2/models/{model}/infer", json.dumps({"inputs": []})))
two = [{"name": n, "shape": [1, 3, 224, 224], "datatype": "FP32", "data": [0] * 150528} for n in ("image", "more")]
expect("extra", 400, "'more'", post("onnx-http", f"/v2/models/{model}/infer", json.dumps({"inputs": two})))
expect("JSON", 400, "JSON", post("onnx-http", f"/v2/models/{model}/infer", '{"inputs": [}'))
expect("body over the limit", 413, "limit of 4000000 bytes", post("onnx-http", f"/v2/models/{model}/infer", b" " * 5_000_000))


def embed(*images):
    return post("jpeg", "/embed/base64", json.dumps({"images": list(images)}))


good = base64.b64encode(small).decode()
expect("base64", 400, "images[1]", embed(good, "not*base64"))
expect("no image", 400, "images[0]: not a JPEG, PNG, WebP, GIF, BMP or TIFF image", embed(base64.b64encode(b"no image").decode(), good))
expect("truncated JPEG", 400, "images[2]: cannot decode JPEG: truncated", embed(good, good, base64.b64encode(small[:-500]).decode()))
expect("pixels", 413, "images[1]: 512x512 pixels, over the limit of 200000 (--max-image-pixels)", embed(good, base64.b64encode(large).decode()))
expect("malformed JSON", 400, "", post("jpeg", "/embed/base64", "{"))

client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{ports['onnx-grpc']}")


def infer_grpc(name=model, version="", tensor="image", shape=(1, 3, 224, 224), datatype="FP32"):
    request = tritonclient.grpc.InferInput(tensor, shape, datatype)
    request.set_data_from_numpy(numpy.zeros(shape, tritonclient.utils.triton_to_np_dtype(datatype)))
    try:
        client.infer(name, [request], model_version=version)
        return "StatusCode.OK", ""
    except tritonclient.utils.InferenceServerException as error:
        return error.status(), error.message()


not_found, invalid, exhausted = (f"StatusCode.{code}" for code in ("NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
expect("gRPC unknown model", not_found, "Request for unknown model: 'nope' is not found", infer_grpc(name="nope"))
expect("gRPC unknown version", not_found, "version 9", infer_grpc(version="9"))
expect("gRPC dtype", invalid, "data-type is 'FP64'", infer_grpc(datatype="FP64"))
expect("gRPC shape", invalid, "unexpected shape for input 'image'", infer_grpc(shape=(1, 3, 100, 100)))
expect("gRPC name", invalid, "'picture'", infer_grpc(tensor="picture"))
expect("gRPC batch", invalid, "batch-size must be <= 4", infer_grpc(shape=(5, 3, 224, 224)))
expect("gRPC body over the limit", exhausted, "4000000", infer_grpc(shape=(7, 3, 224, 224)))

# Bad and valid images concurrently: every valid image must succeed.
statuses = []


def embed_concurrently(body):
    connection = http.client.HTTPConnection("127.0.0.1", ports["jpeg"], timeout=120)
    connection.request("POST", "/embed", body, {"Content-Type": "image/jpeg"})
    statuses.append((body is small, connection.getresponse().status))


threads = [threading.Thread(target=embed_concurrently, args=(small if i % 2 else small[:3000],)) for i in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
if sorted(statuses) != [(False, 400)] * 4 + [(True, 200)] * 4:
    failures.append(f"concurrent images: {sorted(statuses)}")
status, text = infer()
if status != 200:
    failures.append(f"a valid request after the bad ones: {status} {text[:200]}")

assert not failures, "\n" + "\n".join(failures)
print("bad input ok")
