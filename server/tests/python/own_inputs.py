"""Sends an encoded image and another input to the model `gated` on KServe's lanes; compares with the jpeg lane's answer.

own_inputs.py PORTS PHOTO FEATURES
"""

import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.http

ports, photo, expected = json.loads(sys.argv[1]), open(sys.argv[2], "rb").read(), json.loads(sys.argv[3])
lanes = {"onnx-http": tritonclient.http, "onnx-grpc": tritonclient.grpc, "trt-http": tritonclient.http, "trt-grpc": tritonclient.grpc}
for lane, module in lanes.items():
    client = module.InferenceServerClient(f"127.0.0.1:{ports[lane]}")
    image = module.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(numpy.array([photo], dtype=object))
    gain = module.InferInput("gain", [1, 1], "FP32")
    gain.set_data_from_numpy(numpy.array([[1.0]], dtype=numpy.float32))
    features = client.infer("gated", [gain, image]).as_numpy("features")
    assert features.shape == (1, 8) and numpy.abs(features[0] - expected).max() < 1e-5, (lane, features, expected)
print(len(lanes), "lanes agree")
