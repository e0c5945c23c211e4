"""PyTorch under FastAPI in its usual form: the peer of the jpeg lane, with the same HTTP API.

MODEL names a torchvision ResNet, WEIGHTS a .safetensors file with its weights, as `quintet-models weights`
writes it. torchvision preprocesses one image at a time; one forward call runs all images of a request.
"""

import base64
import binascii
import io
import os
import threading

import torch
import torchvision
from fastapi import FastAPI, HTTPException
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel
from safetensors.torch import load_file
from torchvision.transforms import v2

MODEL = os.environ.get("MODEL", "resnet50")
MAX_IMAGES = 256

preprocess = v2.Compose(
    [
        v2.Resize(256, antialias=True),
        v2.CenterCrop(224),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Images(BaseModel):
    """The request body: images as base64 or data: URIs."""

    images: list[str]


def load():
    """The model on its device; its output is the pooled features, which `embed` returns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = torchvision.models.get_model(MODEL, weights=None)
    network.load_state_dict(load_file(os.environ["WEIGHTS"]), strict=True)
    network.fc = torch.nn.Identity()
    network.eval().to(device)
    with torch.inference_mode():
        for batch in (1, 4, 8, 16, 32):
            network(torch.zeros(batch, 3, 224, 224, device=device))
    return network, device


app = FastAPI()
network, device = load()
lock = threading.Lock()


def provider():
    return "PyTorch CUDA" if device.type == "cuda" else "PyTorch CPU"


def decode(index, text):
    try:
        data = base64.b64decode(text.rpartition(",")[2] if text.startswith("data:") else text, validate=True)
        return preprocess(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise HTTPException(400, f"image {index}: {error}") from error


@app.post("/embed/base64")
def embed(request: Images):
    if not 0 < len(request.images) <= MAX_IMAGES:
        raise HTTPException(400, f"send 1 to {MAX_IMAGES} images, not {len(request.images)}")
    batch = torch.stack([decode(index, text) for index, text in enumerate(request.images)])
    with lock, torch.inference_mode():
        embeddings = network(batch.to(device)).cpu()
    info = {"model": MODEL, "version": "1", "effective_provider": provider()}
    return {"embeddings": embeddings.tolist(), "model_info": info, "count": len(request.images)}


@app.get("/health")
def health():
    return {"status": "ok", "model": MODEL}


@app.get("/healthz")
def live():
    return "ok"


@app.get("/model-info")
def model_info():
    return {"model": MODEL, "version": "1", "server": f"PyTorch {torch.__version__}", "effective_provider": provider()}
