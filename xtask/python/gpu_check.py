"""Prints a Markdown table of each lane's execution provider and of its outputs' distance from the CPU's outputs.

gpu_check.py PORTS MODEL PHOTO REFERENCE [--without-gpu]

The first call, with all lanes on the CPU, writes the outputs to the file REFERENCE; later calls compare with them.
Exit status 3: a lane does not run on the expected provider (without a GPU: on the CPU, with a reason), or its outputs
differ by more than the tolerance.
"""

import json
import os
import sys
import urllib.request

import numpy
import tritonclient.grpc
import tritonclient.http

ports, model, photo, reference_path = json.loads(sys.argv[1]), *sys.argv[2:5]
without_gpu = sys.argv[5:] == ["--without-gpu"]
image = numpy.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(numpy.float32)
# Tolerances relative to the largest output. TF32 has a 10-bit mantissa, as FP16, and errors add up over the layers.
TOLERANCE = {None: 1e-3, "TF32": 2e-2, "FP16": 5e-2, "BF16": 2e-1, "INT8": 5e-1}
EXPECTED = {"jpeg": ("CUDA", "libtorch CUDA"), "onnx": ("CUDA",), "trt": ("Tensorrt",)}
if without_gpu:
    EXPECTED = dict.fromkeys(EXPECTED, ("CPU", "libtorch CPU"))


def infer_photo():
    url = f"http://127.0.0.1:{ports['jpeg']}"
    with open(photo, "rb") as file:
        request = urllib.request.Request(f"{url}/classify?k=1000", file.read(), {"Content-Type": "image/jpeg"})
    logits = numpy.empty((1, 1000), numpy.float32)
    for entry in json.load(urllib.request.urlopen(request))["classifications"][0]:
        logits[0, entry["index"]] = entry["logit"]
    return logits, urllib.request.urlopen(f"{url}/model-info").headers


def infer_tensor(service, module, lane):
    client = module.InferenceServerClient(f"127.0.0.1:{ports[lane]}")
    tensor = module.InferInput("image", image.shape, "FP32")
    tensor.set_data_from_numpy(image)
    logits = client.infer(model, [tensor], outputs=[module.InferRequestedOutput("logits")]).as_numpy("logits")
    url = f"http://127.0.0.1:{ports[service + '-http']}/v2/models/{model}"
    return logits, urllib.request.urlopen(url).headers


lanes = {
    "jpeg": ("jpeg", infer_photo),
    "onnx-http": ("onnx", lambda: infer_tensor("onnx", tritonclient.http, "onnx-http")),
    "onnx-grpc": ("onnx", lambda: infer_tensor("onnx", tritonclient.grpc, "onnx-grpc")),
    "trt-http": ("trt", lambda: infer_tensor("trt", tritonclient.http, "trt-http")),
    "trt-grpc": ("trt", lambda: infer_tensor("trt", tritonclient.grpc, "trt-grpc")),
}
results = {lane: (service, *infer()) for lane, (service, infer) in lanes.items()}
if not os.path.exists(reference_path):
    numpy.savez(reference_path, **{lane: logits for lane, (_, logits, _) in results.items()})
    sys.exit()
reference = numpy.load(reference_path)
print("| lane | provider | precision | difference from the CPU | tolerance | verdict | reason for a fallback |")
print("|---|---|---|---|---|---|---|")
failed = False
for lane, (service, logits, headers) in results.items():
    precision = headers["quintet-precision"]
    difference = float(numpy.abs(logits - reference[lane]).max() / numpy.abs(reference[lane]).max())
    provider, reason = headers["quintet-effective-provider"], headers["quintet-provider-reason"] or ""
    verdict = "ok"
    if not provider.startswith(EXPECTED[service]):
        verdict = "not on the CPU" if without_gpu else "fell back"
    elif without_gpu and not reason:
        verdict = "no reason reported"
    elif not difference <= TOLERANCE[precision]:
        verdict = "differs too much"
    failed |= verdict != "ok"
    print(f"| {lane} | {provider} | {precision or 'as the model'} | {difference:.1e} | {TOLERANCE[precision]:.0e} | {verdict} | {reason} |")
sys.exit(3 if failed else 0)
