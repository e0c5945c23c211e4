"""Writes the reference outputs beside this file: those of torchvision's ResNets with the weights of seed 0.

Needs torch, torchvision and safetensors from PyPI, and the program quintet-models, which writes the weights:

    python models/reference/make.py target/debug/quintet-models

Each resnetN.safetensors holds `logits` F32 [3,1000] and `embedding` F32 [3,512|2048] for three synthetic images.
The committed files were made with torch 2.15.0 and torchvision 0.29.2 on a CPU.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import torchvision
from safetensors.torch import load_file, save_file

IMAGES = 3
MEAN = numpy.array([0.485, 0.456, 0.406], numpy.float32)
STD = numpy.array([0.229, 0.224, 0.225], numpy.float32)


def synthetic(index):
    """Test image `index` as uint8 [224,224,3], with the formula of `synthetic` in src/reference.rs."""
    y, x, channel = numpy.meshgrid(
        numpy.arange(224), numpy.arange(224), numpy.arange(3), indexing="ij"
    )
    t = x * (3 + 2 * index) + y * (5 + index) + channel * (61 + 40 * index)
    return numpy.abs(t % 511 - 255).astype(numpy.uint8)


def normalise(pixels):
    return ((pixels.astype(numpy.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def main(program):
    torch.use_deterministic_algorithms(True)
    images = torch.from_numpy(numpy.stack([normalise(synthetic(i)) for i in range(IMAGES)]))
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]:
        model = getattr(torchvision.models, name)(weights=None).eval()
        with tempfile.TemporaryDirectory() as directory:
            weights = pathlib.Path(directory) / "weights.safetensors"
            subprocess.run(
                [program, "weights", "--arch", name, "--seed", "0", "--output", weights],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            model.load_state_dict(load_file(weights), strict=True)
        embeddings = []
        model.avgpool.register_forward_hook(
            lambda module, inputs, output: embeddings.append(output.flatten(1))
        )
        with torch.inference_mode():
            logits = model(images)
        outputs = {"logits": logits.contiguous(), "embedding": embeddings[0].contiguous()}
        save_file(outputs, pathlib.Path(__file__).parent / f"{name}.safetensors")
        print(
            f"{name}: logits std {logits.std():.3f}, largest {logits.abs().max():.3f}, "
            f"classes {logits.argmax(1).tolist()}, embedding std {embeddings[0].std():.3f}, "
            f"torch {torch.__version__}, torchvision {torchvision.__version__}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
