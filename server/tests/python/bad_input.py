"""Every kind of bad input: its status, its words, and that good requests still work.

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

# One connection for each listener: a refusal must not cost it.
connections = {name: http.client.HTTPConnection("127.0.0.1", ports[name], timeout=60) for name in ("jpeg", "onnx-http")}


def expect(what, status, words, answered):
    got, text = answered
    if got != status or words not in text:
        failures.append(f"{what}: wanted {status} '{words}', got {got} '{text[:300]}'")


def post(listener, path, body):
    connection = connections[listener]
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    socket = connection.sock
    answer = connection.getresponse()
    text = answer.read().decode()
    if connection.sock is not socket:
        failures.append(f"{path}: the connection was lost after {answer.status} {text[:100]}")
    return answer.status, json.loads(text)["error"] if answer.status != 200 else text


def infer(name=model, version="", tensor="image", shape=(1, 3, 224, 224), datatype="FP32"):
    elements = [0.5] * numpy.prod(shape)
    sent = {"name": tensor, "shape": shape, "datatype": datatype, "data": elements}
    return post("onnx-http", f"/v2/models/{name}{version}/infer", json.dumps({"inputs": [sent]}))


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
expect("no image", 400, "images[0]: not a JPEG, PNG or WebP image", embed(base64.b64encode(b"GIF89a...").decode(), good))
expect("truncated JPEG", 400, "images[2]: cannot decode JPEG: truncated", embed(good, good, base64.b64encode(small[:-500]).decode()))
expect("pixels", 413, "images[1]: 512x512 pixels, over the limit of 200000 (--max-image-pixels)", embed(good, base64.b64encode(large).decode()))
expect("malformed JSON", 400, "", post("jpeg", "/embed/base64", "{"))

client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{ports['onnx-grpc']}")


def over_grpc(what, status, words, name=model, tensor="image", shape=(1, 3, 224, 224), dtype=numpy.float32, datatype="FP32", version=""):
    sent = tritonclient.grpc.InferInput(tensor, shape, datatype)
    sent.set_data_from_numpy(numpy.zeros(shape, dtype))
    try:
        client.infer(name, [sent], model_version=version)
        answered = "OK", ""
    except tritonclient.utils.InferenceServerException as error:
        answered = error.status(), error.message()
    expect(f"gRPC {what}", f"StatusCode.{status}", words, answered)


over_grpc("unknown model", "NOT_FOUND", "Request for unknown model: 'nope' is not found", name="nope")
over_grpc("unknown version", "NOT_FOUND", "version 9", version="9")
over_grpc("dtype", "INVALID_ARGUMENT", "data-type is 'FP64'", dtype=numpy.float64, datatype="FP64")
over_grpc("shape", "INVALID_ARGUMENT", "unexpected shape for input 'image'", shape=(1, 3, 100, 100))
over_grpc("name", "INVALID_ARGUMENT", "'picture'", tensor="picture")
over_grpc("batch", "INVALID_ARGUMENT", "batch-size must be <= 4", shape=(5, 3, 224, 224))
over_grpc("body over the limit", "RESOURCE_EXHAUSTED", "4000000", shape=(7, 3, 224, 224))

# Bad and good images side by side: every good one is answered.
answers = []


def side_by_side(body):
    connection = http.client.HTTPConnection("127.0.0.1", ports["jpeg"], timeout=120)
    connection.request("POST", "/embed", body, {"Content-Type": "image/jpeg"})
    answers.append((body is small, connection.getresponse().status))


threads = [threading.Thread(target=side_by_side, args=(small if i % 2 else small[:3000],)) for i in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
if sorted(answers) != [(False, 400)] * 4 + [(True, 200)] * 4:
    failures.append(f"side by side: {sorted(answers)}")
status, text = infer()
if status != 200:
    failures.append(f"after all this: {status} {text[:200]}")

assert not failures, "\n" + "\n".join(failures)
print("every refusal is as expected")
