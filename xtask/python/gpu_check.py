"""Which lane runs where, and how far its numbers are from the CPU's, as a Markdown table.

gpu_check.py PORTS MODEL PHOTO SAVED [--without-gpu]: the first call, on the CPU, writes the numbers to SAVED; later ones read them.
Exit status 3: a lane does not run where it should (without a GPU: on the CPU, with a reason), or its numbers are too
far off.
"""

import json
import os
import sys
import urllib.request

import numpy
import tritonclient.grpc
import tritonclient.http

ports, model, photo, saved = json.loads(sys.argv[1]), *sys.argv[2:5]
without_gpu = sys.argv[5:] == ["--without-gpu"]
image = numpy.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(numpy.float32)
# Of the largest number: TF32 has 10 bits behind the point, as FP16, and errors add up over the layers.
TOLERANCE = {None: 1e-3, "TF32": 2e-2, "FP16": 5e-2, "BF16": 2e-1, "INT8": 5e-1}
WANTED = {"jpeg": ("CUDA", "libtorch CUDA"), "onnx": ("CUDA",), "trt": ("Tensorrt",)}
if without_gpu:
    WANTED = dict.fromkeys(WANTED, ("CPU", "libtorch CPU"))


def jpeg():
    url = f"http://127.0.0.1:{ports['jpeg']}"
    with open(photo, "rb") as file:
        call = urllib.request.Request(f"{url}/classify?k=1000", file.read(), {"Content-Type": "image/jpeg"})
    values = numpy.empty((1, 1000), numpy.float32)
    for entry in json.load(urllib.request.urlopen(call))["classifications"][0]:
        values[0, entry["index"]] = entry["logit"]
    return values, urllib.request.urlopen(f"{url}/model-info").headers


def tensor(service, kind, port):
    client = kind.InferenceServerClient(f"127.0.0.1:{ports[port]}")
    wanted = kind.InferInput("image", image.shape, "FP32")
    wanted.set_data_from_numpy(image)
    logits = client.infer(model, [wanted], outputs=[kind.InferRequestedOutput("logits")]).as_numpy("logits")
    url = f"http://127.0.0.1:{ports[service + '-http']}/v2/models/{model}"
    return logits, urllib.request.urlopen(url).headers


lanes = {
    "jpeg": ("jpeg", jpeg),
    "onnx-http": ("onnx", lambda: tensor("onnx", tritonclient.http, "onnx-http")),
    "onnx-grpc": ("onnx", lambda: tensor("onnx", tritonclient.grpc, "onnx-grpc")),
    "trt-http": ("trt", lambda: tensor("trt", tritonclient.http, "trt-http")),
    "trt-grpc": ("trt", lambda: tensor("trt", tritonclient.grpc, "trt-grpc")),
}
results = {lane: (service, *ask()) for lane, (service, ask) in lanes.items()}
if not os.path.exists(saved):
    numpy.savez(saved, **{lane: values for lane, (_, values, _) in results.items()})
    sys.exit()
reference = numpy.load(saved)
print("| lane | runs on | precision | off the CPU by | allowed | verdict | why not another |\n|---|---|---|---|---|---|---|")
failed = False
for lane, (service, values, headers) in results.items():
    precision = headers["quintet-precision"]
    off = float(numpy.abs(values - reference[lane]).max() / numpy.abs(reference[lane]).max())
    provider, reason = headers["quintet-effective-provider"], headers["quintet-provider-reason"] or ""
    verdict = "ok"
    if not provider.startswith(WANTED[service]):
        verdict = "not on the CPU" if without_gpu else "fell back"
    elif without_gpu and not reason:
        verdict = "no reason told"
    elif not off <= TOLERANCE[precision]:
        verdict = "too far off"
    failed |= verdict != "ok"
    print(f"| {lane} | {provider} | {precision or 'as the model'} | {off:.1e} | {TOLERANCE[precision]:.0e} | {verdict} | {reason} |")
sys.exit(3 if failed else 0)
