"""Asks a KServe lane about a photograph with Triton's client: first with the file, then with a tensor made of it.

    pip install 'tritonclient[http,grpc]' pillow
    python examples/ask.py PHOTOGRAPH [ADDRESS] [MODEL]

ADDRESS is http://HOST:PORT (8010 and 8020) or grpc://HOST:PORT (8011 and 8021).
"""

import argparse

import numpy
from PIL import Image, ImageOps

parser = argparse.ArgumentParser()
parser.add_argument("photograph")
parser.add_argument("address", nargs="?", default="http://localhost:8010")
parser.add_argument("model", nargs="?", default="resnet18")
arguments = parser.parse_args()
protocol, host = arguments.address.split("://")
if protocol == "grpc":
    import tritonclient.grpc as triton
else:
    import tritonclient.http as triton


def prepared(path):
    """The photograph as torchvision prepares it for a ResNet: FP32 [1,3,224,224]."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in image.size)
    levels = numpy.asarray(image.crop((left, top, left + 224, top + 224)), numpy.float32) / 255
    levels = (levels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return levels.astype(numpy.float32).transpose(2, 0, 1)[None]


# The file as it is: an element of type BYTES. The server decodes and prepares it, as the jpeg lane does.
with open(arguments.photograph, "rb") as file:
    encoded = triton.InferInput("image", [1], "BYTES")
    encoded.set_data_from_numpy(numpy.array([file.read()], dtype=object))

pixels = prepared(arguments.photograph)
tensor = triton.InferInput("image", pixels.shape, "FP32")
tensor.set_data_from_numpy(pixels)

client = triton.InferenceServerClient(host)
for name, sent in [("file", encoded), ("tensor", tensor)]:
    # The three likeliest classes, each as SCORE:INDEX:LABEL. Without class_count: all logits as FP32 [1,1000].
    wanted = triton.InferRequestedOutput("logits", class_count=3)
    classes = client.infer(arguments.model, [sent], outputs=[wanted]).as_numpy("logits")[0]
    print(f"{name}: {', '.join(text.decode() for text in classes)}")
