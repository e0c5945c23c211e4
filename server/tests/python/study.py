"""Sends the request bodies of the study that the suite reproduces: study.py PORTS PHOTO PHOTO"""

import base64
import json
import sys
import urllib.request
import uuid

ports = json.loads(sys.argv[1])
photos = [open(path, "rb").read() for path in sys.argv[2:]]
root = f"http://127.0.0.1:{ports['jpeg']}"


def get(path):
    return json.load(urllib.request.urlopen(root + path))


def post(path, body, content_type):
    return json.load(urllib.request.urlopen(urllib.request.Request(root + path, body, {"Content-Type": content_type})))


plain = [base64.b64encode(photo).decode() for photo in photos]
embedded = post("/embed/base64", json.dumps({"images": plain}).encode(), "application/json")
assert embedded["count"] == 2 and len(embedded["embeddings"]) == 2, embedded["count"]
assert all(len(embedding) == 512 for embedding in embedded["embeddings"])
assert embedded["embeddings"][0] != embedded["embeddings"][1]
assert set(embedded) == {"embeddings", "model_info", "count"}, set(embedded)

uris = [f"data:image/jpeg;base64,{text}" for text in plain]
assert post("/embed/base64", json.dumps({"images": uris}).encode(), "application/json")["embeddings"] == embedded["embeddings"]

boundary = uuid.uuid4().hex
parts = b"".join(
    f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{i}.jpg"\r\n'
    f"Content-Type: image/jpeg\r\n\r\n".encode() + photo + b"\r\n"
    for i, photo in enumerate(photos)
)
multipart = post("/embed/batch", parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")
assert multipart["embeddings"] == embedded["embeddings"]

assert post("/embed", photos[0], "image/jpeg")["embeddings"] == embedded["embeddings"][:1]
top = post("/classify", photos[0], "image/jpeg")["classifications"][0]
assert len(top) == 5 and top[0]["score"] >= top[-1]["score"] and top[0]["label"], top

assert get("/health")["status"]
urllib.request.urlopen(root + "/healthz")
assert get("/model-info")["effective_provider"] == "CPUExecutionProvider"
get("/gpu-info")
metrics = urllib.request.urlopen(root + "/metrics").read().decode()
assert 'nv_inference_count{model="resnet18",version="1"} 8' in metrics, metrics
print("study ok")
